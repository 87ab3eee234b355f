"""How records come into the audit log from several sides at once, and go when their time is over."""

import asyncio
import contextlib
import multiprocessing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention import keyspace
from retention.appending import AT_ONCE
from retention.audit import Audit
from retention.chain import Link, Record
from retention.errors import KeyRefused
from retention.seal import Key
from tests.integration.audited import begun, records, since, snapshot, verified
from tests.integration.cell import YEAR, Cell
from tests.integration.installation import installed


async def test_many_at_once_are_one_call_each_two_hundred(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits returns when its own record is in; the rest wait for the next call."""
    appending = cell.audit._appending
    real, sizes = appending._append, list[int]()

    async def counted(*, keys: list[str], args: list[Any]) -> Any:
        sizes.append((len(args) - 2) // 3)
        return await real(keys=keys, args=args)

    monkeypatch.setattr(appending, "_append", counted)
    start = await since(cell)
    await asyncio.gather(*(cell.audit.write("volant.access.deny", "denied", count=n) for n in range(AT_ONCE + 50)))
    assert sizes == [AT_ONCE, 50]
    assert [each.count for each in await records(cell.audit, since=start)] == list(range(AT_ONCE + 50))


async def test_who_stops_waiting_keeps_nobody_else_waiting(cell: Cell) -> None:
    """A cancelled writer's record may be there; the others' are."""
    start = await since(cell)
    tasks = [asyncio.create_task(cell.audit.write("volant.access.deny", "denied", count=n)) for n in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert {0, 1, 3, 4} <= {each.count for each in await records(cell.audit, since=start)}


@pytest.mark.parametrize("end", [None, KeyRefused, asyncio.CancelledError])
async def test_what_nobody_waits_for_any_more_is_written_before_the_end(
    redis: Redis, other_redis: Redis, tmp_path: Path, end: type[BaseException] | None
) -> None:
    """Redis is closed after that, and not under it: also when a command is refused or interrupted."""
    with contextlib.nullcontext() if end is None else pytest.raises(end):
        async with installed(redis, other_redis, tmp_path) as installation:
            before = await redis.xlen(keyspace.AUDIT)
            writing = asyncio.create_task(installation.home.audit.write("volant.access.deny", "denied"))
            await asyncio.sleep(0)  # it has begun
            writing.cancel()
            if end is not None:
                raise end
    assert await redis.xlen(keyspace.AUDIT) == before + 1


async def test_a_lost_reply_doubles_nothing(
    cell: Cell, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client sends the same call again, at once or after others have appended: it is in once."""
    appending = cell.audit._appending
    real = appending._append

    async with Redis.from_url(redis_server.url) as client:
        other = Audit(client, cell.keyring.audit, retention=YEAR)

        async def twice(*, keys: list[str], args: list[Any]) -> Any:
            await real(keys=keys, args=args)
            assert await real(keys=keys, args=args) == 1
            await other.write("volant.access.deny", "denied", detail="another's")
            return await real(keys=keys, args=args)

        monkeypatch.setattr(appending, "_append", twice)
        start = await since(cell)
        await asyncio.gather(*(cell.audit.write("volant.access.deny", "denied", count=n) for n in (1, 2, 3)))
    assert [each.count for each in await records(cell.audit, since=start)] == [1, 2, 3, 0]


async def test_records_go_when_their_time_is_over(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other; the rest is whole and goes on, also when nothing is left."""
    key = Key.random()
    audit = await begun(redis, key, retention=timedelta(hours=1))
    for age in (3, 2, 0, 5):  # the last by a clock that was wrong: what is before it stays, and so does it
        await aged(audit, monkeypatch, hours=age)
    assert await audit.trim() == 2
    assert [each.link.seq for each in await verified(audit)] == [3, 4]
    assert await audit.trim() == 0
    everything = Audit(redis, key, retention=timedelta(hours=-1))
    assert await everything.trim() == 2
    assert await verified(audit) == []
    await audit.write("volant.access.deny", "denied")
    assert [each.link.seq for each in await verified(audit)] == [5]


async def aged(audit: Audit, monkeypatch: pytest.MonkeyPatch, *, hours: int) -> None:
    """Write a record of so long ago."""
    replace = msgspec.structs.replace

    def dated(record: Record, *, time: int) -> Record:
        return replace(record, time=time - hours * 3_600_000)

    with monkeypatch.context() as patch:
        patch.setattr("retention.appending.replace", dated)
        await audit.write("volant.access.deny", "denied")


async def test_trimming_makes_nothing_good(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a record was changed or taken out, nothing goes, and the break stays to be seen."""
    audit = await begun(redis, Key.random(), retention=timedelta(hours=1))
    for _ in range(4):
        await aged(audit, monkeypatch, hours=2)
    await redis.xdel(keyspace.AUDIT, "2-0")
    before = await snapshot(redis)
    assert await audit.trim() == 0
    assert await snapshot(redis) == before


async def test_a_long_log_is_trimmed_and_read_in_pages(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one page, more than one call; read while it is trimmed and appended to, it is whole."""
    monkeypatch.setattr("retention.audit._PAGE", 10)
    monkeypatch.setattr("retention.audit._TRIMMED_AT_ONCE", 20)
    audit = await begun(redis, Key.random(), retention=timedelta(hours=-1))
    await asyncio.gather(*(audit.write("volant.access.deny", "denied") for _ in range(65)))
    seen: list[int] = []
    async for page in audit.pages():
        seen += [each.link.seq for each in page]
        if len(seen) == 10:
            assert await audit.trim() == 20
            await audit.write("volant.access.deny", "denied")
    assert seen == [*range(1, 11), *range(21, 67)]
    assert [await audit.trim() for _ in range(4)] == [20, 20, 6, 0]


async def test_two_that_trim_at_once_are_one(redis: Redis) -> None:
    """The second finds another floor; a repetition after a lost reply is no second."""
    key = Key.random()
    audits = [await begun(redis, key, retention=timedelta(hours=-1)) for _ in range(2)]
    await audits[0].write("volant.access.deny", "denied")
    assert sorted(await asyncio.gather(*(audit.trim() for audit in audits))) in ([0, 1], [1, 1])
    assert await verified(audits[0]) == []


async def test_a_floor_moves_only_from_where_it_was_looked_at(redis: Redis) -> None:
    """A late call moves it neither back nor on; one whose reply was lost has moved it."""
    audit = await begun(redis, Key.random(), retention=YEAR)
    for _ in range(3):
        await audit.write("volant.access.deny", "denied")
    origin, first, second, _ = [(await audit.ends()).floor, *(each.link for each in await verified(audit))]

    async def trim(before: Link, after: Link) -> int:
        attest = audit._chain.attest
        return int(
            await audit._trim(
                keys=[keyspace.AUDIT, keyspace.AUDIT_ENDS],
                args=[attest("floor", before), attest("floor", after), f"{after.seq + 1}-0"],
            )
        )

    assert [await trim(origin, second), await trim(origin, second), await trim(origin, first)] == [1, 1, 0]
    assert [each.link.seq for each in await verified(audit)] == [3]
    assert (await audit.ends()).floor == second


async def test_the_caretaker_lets_old_records_go(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each of its rounds."""
    monkeypatch.setattr(cell.audit, "_retention", timedelta(hours=-1))
    await cell.caretaker.round("t", during=timedelta(seconds=5))
    assert await verified(cell.audit) == []


def append(url: str, key: bytes, process: int, times: int) -> None:
    """Append records in this process, up to ten at once."""

    async def main() -> None:
        async with Redis.from_url(url) as redis:
            audit = Audit(redis, Key(key), retention=YEAR)
            for start in range(0, times, 10):
                await asyncio.gather(
                    *(
                        audit.write("volant.access.deny", "denied", target=f"{process:012x}", count=start + number)
                        for number in range(10)
                    )
                )

    asyncio.run(main())


async def test_three_processes_make_one_chain(redis: Redis, redis_server: RedisServer) -> None:
    """Each record is there once, without a gap, and each process's own are in its order."""
    key = Key.random()
    audit = await begun(redis, key, retention=YEAR)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=append, args=(redis_server.url, key.raw(), number, 200)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        await asyncio.to_thread(process.join)
        assert process.exitcode == 0
    found = await verified(audit)
    assert [each.link.seq for each in found] == list(range(1, 601))
    for number in range(3):
        mine = [each.record.count for each in found if each.record.target == f"{number:012x}"]
        assert mine == list(range(200))
