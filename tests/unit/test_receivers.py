"""A slow, dead or hostile receiver costs the others nothing."""

import pytest

from retention.job import TenantId
from worker.receivers import AT_ONCE_PER_RECEIVER, FAILURES, LONGEST_PAUSE, Receivers

BAD, GOOD = "https://bad.example:443", "https://good.example:443"
A, B = TenantId("a"), TenantId("b")


def test_a_receiver_has_its_share_of_the_places() -> None:
    """Whoever is full is asked again soon; others are not concerned."""
    receivers = Receivers(at_once=100)
    assert [receivers.enter(BAD, A, now=0) for _ in range(AT_ONCE_PER_RECEIVER)] == [None] * AT_ONCE_PER_RECEIVER
    assert receivers.enter(BAD, A, now=0) is not None
    assert receivers.enter(GOOD, A, now=0) is None
    receivers.leave(BAD, A, well=True, now=0)
    assert receivers.enter(BAD, A, now=0) is None


def test_a_tenant_has_half_of_the_places() -> None:
    """However many receivers it has."""
    receivers = Receivers(at_once=10)
    assert [receivers.enter(f"https://{n}.example", A, now=0) for n in range(5)] == [None] * 5
    assert receivers.enter("https://6.example", A, now=0) is not None
    assert receivers.enter("https://6.example", B, now=0) is None


def fail(receivers: Receivers, *, times: int, now: float) -> None:
    for _ in range(times):
        assert receivers.enter(BAD, A, now=now) is None
        receivers.leave(BAD, A, well=False, now=now)


def test_a_receiver_that_fails_is_left_alone_ever_longer() -> None:
    """And then tried with one notification; a success forgives everything."""
    receivers = Receivers(at_once=100)
    fail(receivers, times=FAILURES, now=0)
    assert receivers.enter(BAD, A, now=0.5) == 0.5
    now, pauses = 0.0, []
    for _ in range(12):
        pause = receivers.enter(BAD, A, now=now) or 0.0
        pauses.append(pause)
        now += pause
        assert receivers.enter(BAD, A, now=now) is None
        assert receivers.enter(BAD, A, now=now) is not None
        receivers.leave(BAD, A, well=False, now=now)
    assert pauses[:4] == pytest.approx([1, 2, 4, 8], abs=0.01)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.01)
    now += LONGEST_PAUSE
    assert receivers.enter(BAD, A, now=now) is None
    receivers.leave(BAD, A, well=True, now=now)
    assert [receivers.enter(BAD, A, now=now) for _ in range(3)] == [None] * 3


def test_whatever_waits_for_a_receiver_asks_again_one_by_one() -> None:
    """As fast as it answers, but four a second and within a minute: thousands that wait are no work to speak of."""
    receivers = Receivers(at_once=100)
    for _ in range(AT_ONCE_PER_RECEIVER):
        assert receivers.enter(BAD, A, now=0) is None
    waits = [receivers.enter(BAD, A, now=8) or 0.0 for _ in range(1000)]
    assert waits[:50] == pytest.approx([n / 4 for n in range(50)], abs=0.01)
    assert max(waits) == LONGEST_PAUSE
    for _ in range(AT_ONCE_PER_RECEIVER):
        receivers.leave(BAD, A, well=False, now=10)
    asked = sum((receivers.enter(BAD, A, now=10 + n / 100) or 0.0) < 10 for n in range(90))
    assert asked == 0


def test_a_receiver_that_is_back_is_asked_at_its_new_pace() -> None:
    """Its past is forgotten, and so is the line that stood before it."""
    receivers = Receivers(at_once=100)
    for n in range(FAILURES):
        assert receivers.enter(BAD, A, now=n * 10) is None
        receivers.leave(BAD, A, well=False, now=n * 10 + 10)
    for _ in range(100):
        assert receivers.enter(BAD, A, now=30) is not None
    assert receivers.enter(BAD, A, now=50) is None
    receivers.leave(BAD, A, well=True, now=50)
    for _ in range(AT_ONCE_PER_RECEIVER):
        assert receivers.enter(BAD, A, now=50) is None
    assert [receivers.enter(BAD, A, now=50) for _ in range(2)] == pytest.approx([0, 0], abs=0.01)


def test_what_fails_together_is_one_pause() -> None:
    """Whatever was under way when the pause began says nothing new; what was broken off by us says nothing at all."""
    receivers = Receivers(at_once=100)
    assert [receivers.enter(BAD, A, now=0) for _ in range(AT_ONCE_PER_RECEIVER)] == [None] * AT_ONCE_PER_RECEIVER
    for _ in range(AT_ONCE_PER_RECEIVER):
        receivers.leave(BAD, A, well=False, now=0)
    assert receivers.enter(BAD, A, now=0) == 1
    for _ in range(10):
        assert receivers.enter(GOOD, A, now=0) is None
        receivers.leave(GOOD, A, well=None, now=0)
    assert receivers.enter(GOOD, A, now=0) is None


def test_failures_must_come_in_a_row() -> None:
    """One success in between, and the count begins anew."""
    receivers = Receivers(at_once=100)
    for _ in range(10):
        fail(receivers, times=FAILURES - 1, now=0)
        assert receivers.enter(BAD, A, now=0) is None
        receivers.leave(BAD, A, well=True, now=0)
    assert receivers.enter(BAD, A, now=0) is None


def test_what_is_remembered_is_bounded() -> None:
    """Names are free: a tenant may register any number of hosts."""
    receivers = Receivers(at_once=10)
    for n in range(20_000):
        assert receivers.enter(f"https://{n}.example", A, now=0) is None
        receivers.leave(f"https://{n}.example", A, well=False, now=0)
    assert len(receivers._receivers) <= 10_001
