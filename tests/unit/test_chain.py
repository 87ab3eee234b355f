"""The links of the audit log as they are stored: their form is a promise to every log that was ever written."""

import hashlib
import hmac

import msgspec
import pytest

from retention.chain import ORIGIN, Chain, Link, Record
from retention.errors import AuditBroken
from retention.seal import Key

KEY = bytes(range(32))
RECORD = (
    b'[1787000000000,"volant.tenant.create","success","operator:root","0123456789abcdef0123456789abcdef",'
    b'"0123456789abcdef","","","",0]'
)


def mac(label: bytes, *parts: bytes) -> bytes:
    """Return what the chain should, made without it."""
    return hmac.new(KEY, label + b"\0" + b"".join(parts), hashlib.sha256).digest()


def test_a_hash_is_of_number_hash_before_and_record() -> None:
    """HMAC-SHA-256 over a label, eight bytes, 32 bytes, and the record as it is stored."""
    chain = Chain(Key(KEY))
    first = chain.follow(ORIGIN, RECORD)
    assert first == Link(1, mac(b"volant audit record 1", (1).to_bytes(8), bytes(32), RECORD))
    second = chain.follow(first, RECORD)
    assert second == Link(2, mac(b"volant audit record 1", (2).to_bytes(8), first.hash, RECORD))
    assert first.hash.hex() == "7113bffb9929d0682073f795564f9caf6888335e03bd58df9d762b8d2dd9a93f"


def test_an_end_is_attested_with_number_and_hash() -> None:
    """72 bytes, and each end under its own label."""
    chain = Chain(Key(KEY))
    link = Link(7, bytes(range(32)))
    for end in ("floor", "head"):
        stored = chain.attest(end, link)
        place = (7).to_bytes(8) + link.hash
        assert stored == place + mac(f"volant audit {end} 1".encode(), place)
        assert chain.attested(end, stored) == link
    with pytest.raises(AuditBroken):
        chain.attested("floor", chain.attest("head", link))


def test_a_record_is_stored_in_this_form() -> None:
    """An array, whose later fields may be missing in what an earlier version has written."""
    record = Record(
        time=1787000000000,
        event="volant.tenant.create",
        outcome="success",
        actor="operator:root",
        transaction="0123456789abcdef0123456789abcdef",
        tenant="0123456789abcdef",
    )
    assert msgspec.json.encode(record) == RECORD
    assert msgspec.json.decode(RECORD.replace(b',"","","",0', b""), type=Record) == record


def test_what_a_later_version_has_written_is_read() -> None:
    """Events that this one does not know, and fields beyond its own."""
    later = RECORD.replace(b"volant.tenant.create", b"volant.tenant.promote").replace(b",0]", b",0,1]")
    chain = Chain(Key(KEY))
    link = chain.follow(ORIGIN, later)
    found = chain.check(ORIGIN, b"1-0", {b"record": later, b"hash": link.hash})
    assert (found.link, found.record.event) == (link, "volant.tenant.promote")
