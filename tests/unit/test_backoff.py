"""Back-off on wrong credentials: ten a minute are free, then waits double, and a quiet minute makes good."""

from ipaddress import ip_address

import pytest

from api.backoff import SOURCES, Backoff, source_of

WAITS = [1, 2, 4, 8, 16, 32, 60, 60, 60]


def fail(backoff: Backoff, times: int, *, now: float = 1000.0, source: str = "a") -> list[int]:
    """Fail so many times at one moment; return the waits."""
    return [backoff.failed(source, now=now) for _ in range(times)]


def test_ten_failures_are_free_and_then_waits_double_up_to_a_minute() -> None:
    """The eleventh in a minute is asked to wait for a second."""
    assert fail(Backoff(), 19) == [0] * 10 + WAITS


def test_waits_stay_at_a_minute_however_long_it_goes_on() -> None:
    """The number of failures has no bound; the wait has."""
    backoff = Backoff()
    fail(backoff, 5000)
    assert fail(backoff, 1) == [60]


def test_any_minute_counts_not_only_a_full_one() -> None:
    """Five late in one minute and six early in the next are eleven in a minute."""
    backoff = Backoff()
    assert fail(backoff, 5, now=59) == [0] * 5
    assert fail(backoff, 6, now=61) == [0] * 5 + [1]


def test_a_slow_stream_of_failures_is_never_slowed() -> None:
    """Ten a minute, for an hour."""
    backoff = Backoff()
    assert {backoff.failed("a", now=6.0 * number) for number in range(600)} == {0}


def test_only_a_quiet_minute_makes_good() -> None:
    """Who goes on within the minute stays slowed, although the ten are long past."""
    backoff = Backoff()
    assert fail(backoff, 11)[-1] == 1
    assert fail(backoff, 1, now=1059.9) == [2]
    assert fail(backoff, 1, now=1119.8) == [4]
    assert fail(backoff, 11, now=1179.8) == [0] * 10 + [1]


def test_who_waits_as_long_as_told_is_free_again_at_last() -> None:
    """The longest wait is a quiet minute."""
    backoff, now = Backoff(), 1000.0
    waits = fail(backoff, 10)
    for _ in range(8):
        waits += fail(backoff, 1, now=now)
        now += waits[-1]
    assert waits == [0] * 10 + [1, 2, 4, 8, 16, 32, 60, 0]


def test_sources_do_not_share_their_failures() -> None:
    """One address is slowed, another is not."""
    backoff = Backoff()
    fail(backoff, 12)
    assert fail(backoff, 1, source="b") == [0]


def test_memory_is_bounded() -> None:
    """However many addresses come, so many are remembered; who fails often is not forgotten for those who do not."""
    backoff = Backoff()
    fail(backoff, 10)
    for number in range(SOURCES * 2):
        backoff.failed(f"other {number}", now=1000.0 + number / 1000)
        if number % 1000 == 0:
            assert backoff.failed("a", now=1000.0 + number / 1000) > 0
    assert len(backoff._sources) == SOURCES


def test_who_is_quiet_for_a_minute_is_forgotten() -> None:
    """Memory falls again."""
    backoff = Backoff()
    for number in range(100):
        backoff.failed(f"other {number}", now=1000.0 + number)
    backoff.failed("a", now=1100.0)
    assert len(backoff._sources) == 60
    backoff.failed("a", now=1200.0)
    assert len(backoff._sources) == 1


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "127.0.0.1", False),
    ],
)
def test_an_ipv6_network_is_one_source(one: str, another: str, *, same: bool) -> None:
    """Its lower half is anybody's choice; an IPv4 address is one."""
    assert (source_of(ip_address(one)) == source_of(ip_address(another))) is same


def test_the_unknown_are_one_source() -> None:
    """And nobody else is."""
    assert source_of(None) == source_of(None) != source_of(ip_address("192.0.2.1"))
