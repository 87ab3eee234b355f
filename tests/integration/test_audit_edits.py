"""Whatever is made of the audit log in Redis, in whatever combination: only the log as it was is whole."""

import asyncio
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention.audit import Audit
from retention.errors import AuditBroken
from tests.integration.audited import Stored, begun, client_of, verified
from tests.integration.cell import YEAR
from tests.integration.test_audit_tampering import KEY, write


def flipped(value: bytes, bit: int) -> bytes:
    bit %= len(value) * 8
    return value[: bit // 8] + bytes([value[bit // 8] ^ 1 << bit % 8]) + value[bit // 8 + 1 :]


Fields = list[dict[bytes, bytes]]


def _flip(new: Fields, at: int, to: int, name: bytes) -> None:
    new[at][name] = flipped(new[at][name], to * 31)


def _swap_values(new: Fields, at: int, to: int, name: bytes) -> None:
    new[at][name], new[to % len(new)][name] = new[to % len(new)][name], new[at][name]


def _swap(new: Fields, at: int, to: int, _: bytes) -> None:
    new[at], new[to % len(new)] = new[to % len(new)], new[at]


def _copy(new: Fields, at: int, to: int, _: bytes) -> None:
    new.insert(to % len(new), dict(new[at]))


def _cut(new: Fields, at: int, to: int, _: bytes) -> None:
    del new[at : at + 1 + to % len(new)]


@st.composite
def edits(draw: st.DrawFn, stored: Stored) -> Stored:
    """Give logs that somebody may have made of this one: of its records, in whatever order, and its ends."""
    fields = deepcopy([fields for _, fields in stored.entries])
    ends = dict(stored.ends)
    ids = [id_ for id_, _ in stored.entries]
    for edit in draw(st.lists(st.sampled_from([_flip, _swap_values, _swap, _copy, _cut]), max_size=4)):
        if fields:
            at = draw(st.integers(0, len(fields) - 1))
            edit(fields, at, draw(st.integers(0, 300)), draw(st.sampled_from([b"record", b"hash"])))
    end = draw(st.sampled_from([b"head", b"floor"]))
    match draw(st.integers(0, 3)):
        case 0:
            ends[end] = flipped(ends[end], draw(st.integers(0, 72 * 8)))
        case 1 if fields:
            at = draw(st.integers(0, len(fields) - 1))
            ends[end] = (at + 1).to_bytes(8) + fields[at][b"hash"] + ends[end][40:]
        case _:
            pass
    if len(fields) != len(ids):
        first = draw(st.integers(1, 3))
        ids = [f"{first + number}-0".encode() for number in range(len(fields))]
    return Stored(list(zip(ids, fields, strict=True)), ends)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.usefixtures("nothing_is_kept_forever")
def test_whatever_is_edited_is_seen(redis_server: RedisServer, data: st.DataObject) -> None:
    """Only the log as it was is whole."""
    with client_of(redis_server.url) as client:
        original = _original(redis_server.url)
        edited = data.draw(edits(original))
        edited.put(client)
        assert asyncio.run(_is_whole(redis_server.url)) == (edited == original)


_ORIGINALS: dict[str, Stored] = {}


def _original(url: str) -> Stored:
    if url not in _ORIGINALS:

        async def make() -> None:
            async with Redis.from_url(url) as redis:
                audit = await begun(redis, KEY, retention=YEAR)
                await write(audit)

        asyncio.run(make())
        with client_of(url) as client:
            _ORIGINALS[url] = Stored.of(client)
    return _ORIGINALS[url]


async def _is_whole(url: str) -> bool:
    async with Redis.from_url(url) as redis:
        try:
            return bool(await verified(Audit(redis, KEY, retention=YEAR)))
        except AuditBroken:
            return False
