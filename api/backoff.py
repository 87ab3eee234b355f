"""Back-off on wrong credentials, counted by the address that they come from.

Guessing a secret of 256 bits is hopeless anyway; what this bounds is the noise. It never decides whether a good
credential is served. Each process counts for itself, in memory. Behind a proxy that is not among the trusted ones all
clients share its address: then those with a wrong credential slow each other, and nobody else.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from retention.addresses import Address

FREE = 10
"""Failures in a minute that are answered plainly."""

WINDOW = 60.0
"""Seconds in which they are counted, and without a failure after which a source starts afresh."""

LONGEST = 60
"""The longest wait that is asked for, in seconds."""

SOURCES = 10_000
"""Sources that are remembered at most. Beyond, whoever has been quiet for longest is forgotten."""

_NETWORK = 64  # bits of an IPv6 address that whoever has the other half may choose freely (RFC 6177)


@dataclass(slots=True)
class _Source:
    last: float
    answered: deque[float] = field(default_factory=lambda: deque(maxlen=FREE))
    refused: int = 0


class Backoff:
    """How many wrong credentials came lately, and from where."""

    def __init__(self) -> None:
        self._sources: OrderedDict[str, _Source] = OrderedDict()  # by their last failure, the oldest first

    def failed(self, source: str, *, now: float) -> int:
        """Count a failure of a source at `now`, in seconds of a clock that never steps back.

        Returns how many seconds it is to wait: 0 for the first ten in a minute; after them 1, 2, 4 and so on
        up to 60, until the source was quiet for a minute.
        """
        self._forget(now)
        known = self._sources.setdefault(source, _Source(last=now))
        self._sources.move_to_end(source)
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)
        known.last = now
        if not known.refused and (len(known.answered) < FREE or known.answered[0] <= now - WINDOW):
            known.answered.append(now)
            return 0
        wait = min(1 << min(known.refused, LONGEST), LONGEST)
        known.refused += 1
        return wait

    def _forget(self, now: float) -> None:
        """Let go of all who were quiet for a minute."""
        while self._sources and next(iter(self._sources.values())).last <= now - WINDOW:
            self._sources.popitem(last=False)


def source_of(address: Address | None) -> str:
    """Return what a client's address is counted as: itself, or the network of an IPv6 address."""
    if address is None:  # all whose address is not known are one source
        return ""
    return str(address) if isinstance(address, IPv4Address) else f"{int(address) >> (128 - _NETWORK):x}::"
