"""Who may be called now: a slow, dead or hostile receiver must cost the others nothing.

Every receiver (scheme, host and port) and every tenant has a share of the notifier's places. A receiver that
fails again and again is left alone for a while, ever longer, and then tried with one notification. What finds no
place comes back one by one, as fast as the receiver has answered so far: however many wait for it, they do not
occupy the notifier with asking. Kept in memory: another notifier learns the same by itself.
"""

from collections import OrderedDict, deque

from retention.job import TenantId

AT_ONCE_PER_RECEIVER = 8
"""Notifications that are on their way to one receiver at once."""

FAILURES = 3
"""So many failures in a row, and a receiver is left alone."""

LONGEST_PAUSE = 60.0
"""Seconds for which a receiver is left alone at the most. Retries of its notifications may be further apart."""

_REMEMBERED = 10_000
_FASTEST, _SLOWEST = 0.002, 0.25
"""Seconds between two notifications that ask again for the same receiver, at the least and at the most."""

_TENANT_FULL = 0.5


class _Receiver:
    def __init__(self) -> None:
        self.entered: deque[float] = deque()
        self.failures = 0
        self.paused_until = 0.0
        self.takes = 0.0
        self.turn = 0.0

    @property
    def places(self) -> int:
        """After a pause one notification finds out how the receiver is."""
        return 1 if self.failures >= FAILURES else AT_ONCE_PER_RECEIVER

    def next_turn(self, earliest: float, *, now: float) -> float:
        """Return in how many seconds to ask again: after all who were told so before, within reason."""
        oldest = now - self.entered[0] if self.entered else 0.0
        turn = min(max(self.turn, earliest), max(earliest, now + LONGEST_PAUSE))
        self.turn = turn + min(max(_FASTEST, max(self.takes, oldest) / AT_ONCE_PER_RECEIVER), _SLOWEST)
        return turn - now

    def free_at(self, now: float) -> float:
        """Return when a place may be free: one that is being tried is waited for, as long as it took until now."""
        return max(now + _FASTEST, self.entered[0] + self.takes if self.places == 1 else now)


class Receivers:
    """The receivers of one notifier that holds `at_once` places. `now` is any clock of seconds that only goes on."""

    def __init__(self, *, at_once: int) -> None:
        self._per_tenant = max(1, at_once // 2)
        self._tenants: dict[TenantId, int] = {}
        self._receivers: OrderedDict[str, _Receiver] = OrderedDict()

    def enter(self, origin: str, tenant: TenantId, *, now: float) -> float | None:
        """Take a place; return None, or in how many seconds to ask again. Whoever got one must leave."""
        receiver = self._receivers.get(origin)
        if receiver is None:
            self._forget()
            receiver = self._receivers[origin] = _Receiver()
        self._receivers.move_to_end(origin)
        if now < receiver.paused_until:
            return receiver.next_turn(receiver.paused_until, now=now)
        if self._tenants.get(tenant, 0) >= self._per_tenant:
            return receiver.next_turn(now + _TENANT_FULL, now=now)
        if len(receiver.entered) >= receiver.places:
            return receiver.next_turn(receiver.free_at(now), now=now)
        receiver.entered.append(now)
        self._tenants[tenant] = self._tenants.get(tenant, 0) + 1
        return None

    def leave(self, origin: str, tenant: TenantId, *, well: bool | None, now: float) -> None:
        """Give the place back, and tell whether the receiver did what it should; None: there is no telling."""
        receiver = self._receivers[origin]
        # Who leaves may not be who came first; on the average it comes to the same.
        receiver.takes += (now - receiver.entered.popleft() - receiver.takes) / AT_ONCE_PER_RECEIVER
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        if well:
            if receiver.failures >= FAILURES:  # it is back, and not as slow as it was
                receiver.takes, receiver.turn = 0.0, now
            receiver.failures = 0
        elif well is not None and now >= receiver.paused_until:  # else it was under way as the pause began: no news
            receiver.failures += 1
            if receiver.failures >= FAILURES:
                receiver.paused_until = now + min(2.0 ** (receiver.failures - FAILURES), LONGEST_PAUSE)

    def _forget(self) -> None:
        """Make room for one more, if it can be had: whoever is called at the moment stays, and goes to the end."""
        for _ in range(min(len(self._receivers), AT_ONCE_PER_RECEIVER)):
            if len(self._receivers) < _REMEMBERED:
                return
            origin, oldest = next(iter(self._receivers.items()))
            if oldest.entered:
                self._receivers.move_to_end(origin)
            else:
                del self._receivers[origin]
