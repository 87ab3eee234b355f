"""Denied access in the audit log: a hundred records, then one a minute that stands for all since; no whole address."""

from typing import cast

import pytest

from retention.audit import Audit
from retention.denials import BURST, Denials, network_of
from retention.errors import Unavailable
from tests.unit.fake_retention import FakeAudit

ADDRESS = "192.0.2.77"
PRESENTED = f"volant_0123456789ab_{'s' * 43}"


async def deny(denials: Denials, times: int, *, now: float) -> None:
    for _ in range(times):
        await denials.note("credential", address=ADDRESS, presented=PRESENTED, now=now)


async def test_a_denial_tells_the_network_and_the_keys_public_id() -> None:
    """Of the secret nothing, of the address three parts."""
    audit = FakeAudit()
    await deny(Denials(cast("Audit", audit)), 1, now=5.0)
    assert audit.denied == [("credential", "192.0.2.0/24", "0123456789ab", 1)]


@pytest.mark.parametrize(
    "presented",
    [
        "",
        "x",
        "volant_0123456789ab_short",
        f"other_0123456789ab_{'s' * 43}",
        f"volant_0123456789AB_{'s' * 43}",
        "é" * 63,
    ],
)
async def test_what_has_not_the_form_of_a_key_is_not_kept(presented: str) -> None:
    """A password that somebody mistook for one, for instance."""
    audit = FakeAudit()
    await Denials(cast("Audit", audit)).note("credential", address=None, presented=presented, now=0.0)
    assert audit.denied == [("credential", "", "", 1)]


async def test_a_flood_is_a_hundred_records_and_then_one_a_minute() -> None:
    """None is forgotten: each record says for how many it stands."""
    audit = FakeAudit()
    denials = Denials(cast("Audit", audit))
    await deny(denials, BURST + 1000, now=1000.0)
    assert [count for *_, count in audit.denied] == [1] * BURST
    denials.count()
    await deny(denials, 5, now=1059.0)
    assert len(audit.denied) == BURST
    await deny(denials, 5, now=1060.5)
    assert [count for *_, count in audit.denied[BURST:]] == [1000 + 1 + 5 + 1]
    await deny(denials, 1, now=1120.5)
    assert [count for *_, count in audit.denied[BURST + 1 :]] == [4 + 1]
    await denials.close()
    assert len(audit.denied) == BURST + 2


async def test_a_quiet_time_makes_good_no_more_than_a_hundred() -> None:
    """However long it was."""
    audit = FakeAudit()
    denials = Denials(cast("Audit", audit))
    await deny(denials, 1, now=0.0)
    await deny(denials, BURST + 7, now=1e9)
    assert len(audit.denied) == 1 + BURST


async def test_what_is_only_counted_is_told_at_the_end() -> None:
    """An orderly stop; without anything to tell it says nothing."""
    audit = FakeAudit()
    denials = Denials(cast("Audit", audit))
    await denials.close()
    assert audit.denied == []
    denials.count()
    denials.count()
    await denials.close()
    assert audit.denied == [("backoff", "", "", 2)]


async def test_what_could_not_be_written_is_not_forgotten() -> None:
    """The answer is 503 then, and the next record stands for both."""
    audit = FakeAudit()
    denials = Denials(cast("Audit", audit))
    audit.trouble = Unavailable("away")
    with pytest.raises(Unavailable):
        await deny(denials, 1, now=0.0)
    await denials.close()
    audit.trouble = None
    await deny(denials, 1, now=0.0)
    assert [count for *_, count in audit.denied] == [2]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.255", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
        ("", ""),
        ("a.socket", ""),
    ],
)
def test_of_an_address_the_network_is_kept(address: str | None, network: str) -> None:
    """A /24 or a /64: whose network, not whose machine."""
    assert network_of(address) == network
