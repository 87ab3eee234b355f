"""Whoever can write to Redis, and has not the key, can change nothing of the audit log unseen."""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from deploy.processes import RedisServer
from retention import keyspace
from retention.audit import Audit
from retention.chain import Chain, Link, Record
from retention.errors import AuditBroken
from retention.seal import Key
from tests.integration.audited import Stored, begun, client_of, verified
from tests.integration.cell import YEAR, Cell, open_cell

LENGTH = 9
KEY = Key.random()
FIELDS = Record.__struct_fields__


async def write(audit: Audit, times: int = LENGTH) -> None:
    for number in range(times):
        await audit.write(
            "volant.access.deny",
            "denied",
            target=f"{number:012x}",
            source="192.0.2.0/24",
            detail="credential",
            count=number,
        )


@pytest.fixture
async def stored(redis: Redis, redis_server: RedisServer) -> Stored:
    """Give what Redis holds of a log of nine records."""
    audit = await begun(redis, KEY, retention=YEAR)
    await write(audit)
    assert len(await verified(audit)) == LENGTH
    return Stored.of(client_of(redis_server.url))


@pytest.fixture
def breaks(redis: Redis, redis_server: RedisServer) -> Callable[[Stored], Any]:
    """Give what fails unless a log is found to be tampered with, and then takes no record."""

    async def check(stored: Stored) -> str:
        stored.put(client_of(redis_server.url))
        audit = Audit(redis, KEY, retention=YEAR)
        with pytest.raises(AuditBroken) as broken:
            await verified(audit)
        return str(broken.value)

    return check


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("at", [0, LENGTH // 2, LENGTH - 1])
async def test_a_change_of_any_field_is_seen(
    stored: Stored, breaks: Callable[[Stored], Any], name: str, at: int
) -> None:
    """Of the first record, one in the middle and the last; the sentence says which."""
    fields = stored.entries[at][1]
    record = msgspec.json.decode(fields[b"record"], type=Record)
    value = getattr(record, name)
    changed = msgspec.structs.replace(record, **{name: value + (1 if isinstance(value, int) else "x")})
    fields[b"record"] = msgspec.json.encode(changed)
    assert await breaks(stored) == f"record {at + 1} of the audit log was changed, or what is before it"


@pytest.mark.parametrize("at", range(LENGTH))
async def test_a_record_taken_out_is_seen(stored: Stored, breaks: Callable[[Stored], Any], at: int) -> None:
    """At either end, and in between."""
    del stored.entries[at]
    await breaks(stored)


@pytest.mark.parametrize("at", range(LENGTH - 1))
async def test_two_records_in_each_others_place_are_seen(
    stored: Stored, breaks: Callable[[Stored], Any], at: int
) -> None:
    """With their hashes or without."""
    (one, first), (another, second) = stored.entries[at : at + 2]
    stored.entries[at : at + 2] = [(one, second), (another, first)]
    await breaks(stored)
    stored.entries[at : at + 2] = [
        (one, {**first, b"record": second[b"record"]}),
        (another, {**second, b"record": first[b"record"]}),
    ]
    await breaks(stored)


async def test_what_is_renumbered_after_a_removal_is_seen(stored: Stored, breaks: Callable[[Stored], Any]) -> None:
    """No gap shows in the numbers; the hashes do not fit."""
    kept = [fields for _, fields in stored.entries[:3] + stored.entries[4:]]
    stored.entries = [(f"{number}-0".encode(), fields) for number, fields in enumerate(kept, 1)]
    await breaks(stored)


async def test_a_record_between_two_is_seen(stored: Stored, breaks: Callable[[Stored], Any]) -> None:
    """Redis has room for ids between ours."""
    stored.entries.insert(4, (b"4-1", dict(stored.entries[3][1])))
    await breaks(stored)


async def test_a_record_under_an_id_that_is_not_its_number_is_seen(
    stored: Stored, breaks: Callable[[Stored], Any]
) -> None:
    """Although all else is as it was."""
    stored.entries[-1] = (f"{LENGTH}-1".encode(), stored.entries[-1][1])
    await breaks(stored)


async def test_two_logs_of_one_key_are_not_mixed(
    redis: Redis, redis_server: RedisServer, stored: Stored, breaks: Callable[[Stored], Any]
) -> None:
    """Whoever puts back an older copy, and lets it grow otherwise, has two true records of each number."""
    client, audit = client_of(redis_server.url), Audit(redis, KEY, retention=YEAR)
    await write(audit, 3)
    one = Stored.of(client)
    stored.put(client)
    await write(audit, 3)
    other = Stored.of(client)
    await breaks(Stored(one.entries, other.ends))
    other.entries[LENGTH] = one.entries[LENGTH]
    await breaks(other)


async def test_a_record_before_the_first_or_after_the_last_is_seen(
    stored: Stored, breaks: Callable[[Stored], Any]
) -> None:
    """Although both ends are as they were."""
    more = deepcopy(stored)
    more.entries.insert(0, (b"0-1", dict(stored.entries[0][1])))
    await breaks(more)
    stored.entries.append((f"{LENGTH + 1}-0".encode(), dict(stored.entries[-1][1])))
    await breaks(stored)


@pytest.mark.parametrize("end", ["head", "floor"])
async def test_a_forged_end_is_seen(stored: Stored, breaks: Callable[[Stored], Any], end: str) -> None:
    """Of true numbers and hashes, with the other's attestation, with an own one, with none, or not there at all."""
    cut = stored.entries[5:] if end == "floor" else stored.entries[:5]
    link = (5).to_bytes(8) + stored.entries[4][1][b"hash"]
    other = b"floor" if end == "head" else b"head"
    chain = Chain(Key.random())
    forged = [
        link + stored.ends[end.encode()][40:],
        link + stored.ends[other][40:],
        chain.attest("head", Link(5, stored.entries[4][1][b"hash"])),
        link,
        b"",
        stored.ends[other],
    ]
    for value in forged:
        said = await breaks(Stored(cut, {**stored.ends, end.encode(): value}))
        assert said == f"the {end} of the audit log is missing, or was not written by this service"
    await breaks(Stored(cut, {other: stored.ends[other]}))
    await breaks(Stored(stored.entries, {other: stored.ends[other]}))


async def test_an_end_is_not_the_other(stored: Stored, breaks: Callable[[Stored], Any]) -> None:
    """A floor is attested where a head was once: it must not pass for a head, or the records after it could go."""
    chain = Chain(KEY)
    link = Link(5, stored.entries[4][1][b"hash"])
    await breaks(Stored(stored.entries[:5], {**stored.ends, b"head": chain.attest("floor", link)}))
    await breaks(Stored(stored.entries[5:], {**stored.ends, b"floor": chain.attest("head", link)}))


async def test_a_log_that_is_gone_is_seen(stored: Stored, breaks: Callable[[Stored], Any]) -> None:
    """The records alone, the ends alone, or all: it is no new log, for its key is not new."""
    await breaks(Stored([], stored.ends))
    await breaks(Stored(stored.entries, {}))
    await breaks(Stored([], {}))


async def test_a_process_that_starts_does_not_make_good_a_log_that_is_gone(redis: Redis, tmp_path: Path) -> None:
    """Only a key that was made in this moment begins one."""
    await open_cell(redis, tmp_path, root=KEY)
    await redis.delete(keyspace.AUDIT, keyspace.AUDIT_ENDS)
    with pytest.raises(AuditBroken):
        await open_cell(redis, tmp_path, root=KEY)  # it adds a tenant
    assert await redis.hlen(keyspace.TENANTS) == 1


async def test_something_else_in_its_place_is_seen(redis: Redis, redis_server: RedisServer, stored: Stored) -> None:
    """A string where the stream or the ends should be."""
    for key in (keyspace.AUDIT, keyspace.AUDIT_ENDS):
        audit = Audit(redis, KEY, retention=YEAR)
        await redis.set(key, "x")
        for act in (verified(audit), write(audit, 1)):
            with pytest.raises(AuditBroken):
                await act
        stored.put(client_of(redis_server.url))


async def test_records_of_another_cell_do_not_fit(redis: Redis, redis_server: RedisServer, stored: Stored) -> None:
    """Neither behind ours nor in their place: its key is another."""
    await redis.flushdb()
    other = await begun(redis, Key.random(), retention=YEAR)
    await write(other)
    foreign = Stored.of(client_of(redis_server.url))
    audit = Audit(redis, KEY, retention=YEAR)
    for spliced in (
        foreign,
        Stored(foreign.entries, stored.ends),
        Stored(stored.entries[:4] + foreign.entries[4:], stored.ends),
        Stored(stored.entries[:4] + foreign.entries[4:], foreign.ends),
        Stored(foreign.entries[:4] + stored.entries[4:], stored.ends),
    ):
        spliced.put(client_of(redis_server.url))
        with pytest.raises(AuditBroken):
            await verified(audit)


@pytest.mark.parametrize("cut", [1, LENGTH])
async def test_nothing_is_appended_to_a_forged_head(
    redis: Redis, redis_server: RedisServer, stored: Stored, cut: int
) -> None:
    """What follows would vouch for it. The log is as the forger left it."""
    link = (LENGTH - cut).to_bytes(8) + (stored.entries[-cut - 1][1][b"hash"] if cut < LENGTH else bytes(32))
    forged = Stored(stored.entries[:-cut], {**stored.ends, b"head": link + stored.ends[b"head"][40:]})
    forged.put(client_of(redis_server.url))
    with pytest.raises(AuditBroken):
        await write(Audit(redis, KEY, retention=YEAR), 1)
    assert Stored.of(client_of(redis_server.url)) == forged


async def test_nothing_is_appended_before_what_somebody_put_at_the_end(
    redis: Redis, redis_server: RedisServer, stored: Stored
) -> None:
    """It is refused, and not passed over."""
    stored.entries.append((b"99-0", {b"record": b"x", b"hash": b"y"}))
    stored.put(client_of(redis_server.url))
    with pytest.raises(AuditBroken):
        await write(Audit(redis, KEY, retention=YEAR), 1)
    assert Stored.of(client_of(redis_server.url)) == stored


async def test_a_restarted_log_takes_records_again(cell: Cell) -> None:
    """Its first one says that it was restarted; nothing that must be recorded was done before."""
    await cell.redis.hset(keyspace.AUDIT_ENDS, "head", "forged")
    with pytest.raises(AuditBroken):
        await cell.tenants.create_key(cell.tenant, now=await cell.store.now())
    assert await cell.tenants.keys(cell.tenant) == []
    await cell.audit.restart()
    await cell.tenants.create_key(cell.tenant, now=await cell.store.now())
    first, *_ = await verified(cell.audit)
    assert first.record.event == "volant.audit-log.restart"


@pytest.mark.parametrize("last", ["9999-0", f"{2**64 - 1}-0"])
async def test_nothing_of_a_log_is_put_back_once_another_was_begun(cell: Cell, last: str) -> None:
    """By whoever has kept all of it, and chose what a restart finds; records that were let go had made room below."""
    redis, key = cell.redis, cell.keyring.audit
    await write(cell.audit)
    assert await Audit(redis, key, retention=timedelta(hours=-1)).trim() > 0
    await write(cell.audit)
    entries, ends = await redis.xrange(keyspace.AUDIT), await redis.hgetall(keyspace.AUDIT_ENDS)
    await redis.xadd(keyspace.AUDIT, {"x": "y"}, id=last, maxlen=0, approximate=False)
    await redis.hset(keyspace.AUDIT_ENDS, mapping={"floor": "x", "head": "y"})
    await cell.audit.restart()

    for number, (id_, fields) in enumerate(entries):
        with pytest.raises(ResponseError, match="equal or smaller"):
            await redis.xadd(keyspace.AUDIT, fields, id=id_, maxlen=number + 1, approximate=False)
    assert [each.record.event for each in await verified(cell.audit)] == ["volant.audit-log.restart"]
    await redis.hset(keyspace.AUDIT_ENDS, mapping=ends)
    with pytest.raises(AuditBroken):
        await verified(cell.audit)


async def test_of_two_restarts_the_second_goes_on_behind_the_first(cell: Cell) -> None:
    """Whatever was recorded between them."""
    await cell.audit.restart()
    await write(cell.audit)
    before = (await cell.audit.ends()).head
    await cell.audit.restart()
    assert (await cell.audit.ends()).floor.seq > before.seq


@pytest.mark.parametrize("place", [keyspace.AUDIT, keyspace.AUDIT_ENDS])
async def test_a_restart_takes_away_whatever_is_in_the_logs_place(cell: Cell, place: str) -> None:
    """It need not be what can be read."""
    await cell.redis.set(place, "x")
    await cell.audit.restart()
    assert len(await verified(cell.audit)) == 1


async def test_a_restart_whose_reply_was_lost_takes_away_nothing_that_came_since(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends it again."""
    restart = cell.audit._restart

    async def twice(**given: Any) -> None:
        await restart(**given)
        await write(cell.audit, 1)
        await restart(**given)

    monkeypatch.setattr(cell.audit, "_restart", twice)
    await cell.audit.restart()
    assert [each.record.event for each in await verified(cell.audit)] == [
        "volant.audit-log.restart",
        "volant.access.deny",
    ]
