"""Whatever breaks off, wherever: the audit log says no more than what came to pass, and no less than what was begun.

Every command that an operation sends to Redis is a point at which its process may end, before it or after it. They
are counted while the operation runs, so that none is forgotten.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from retention import keyspace
from retention.errors import AuditBroken
from retention.job import TenantId
from retention.keyring import Keyring
from retention.roots.file import FileRoot
from retention.seal import Key
from tests.integration.audited import records
from tests.integration.cell import Cell, open_cell

URL = "https://receiver.example/"


class Killed(BaseException):
    """What nobody handles."""


@dataclass(frozen=True)
class Operation:
    """Something that the log tells of: how to prepare it, how to do it, and whether nothing or all of it is done."""

    prepare: Callable[[Cell], Awaitable[Any]]
    act: Callable[[Cell, Any], Awaitable[object]]
    untouched: Callable[[Cell, Any], Awaitable[object]]
    done: Callable[[Cell, Any], Awaitable[object]]


async def _nothing(_: Cell) -> None:
    pass


async def _url(cell: Cell) -> None:
    await cell.registrations.keep(cell.tenant, URL, None, customer=None, began=await cell.store.now())


async def _key(cell: Cell) -> str:
    return (await cell.tenants.create_key(cell.tenant, now=await cell.store.now())).split("_")[1]


async def _is_stored(cell: Cell, job: Any) -> bool:
    return bool(await cell.stored(job) == job)


async def _is_gone(cell: Cell, job: Any) -> bool:
    return await cell.naming(job) == [] and await cell.fields(job) == set()


async def _new_key(cell: Cell, _: Any) -> str:
    return await cell.tenants.create_key(cell.tenant, now=await cell.store.now())


def _tenants(number: int) -> Callable[[Cell, Any], Awaitable[object]]:
    async def there_are(cell: Cell, _: Any) -> bool:
        return len(await cell.tenants.all()) == number

    return there_are


def _keys(number: int) -> Callable[[Cell, Any], Awaitable[object]]:
    async def there_are(cell: Cell, _: Any) -> bool:
        return len(await cell.tenants.keys(cell.tenant)) == number

    return there_are


def _urls(number: int) -> Callable[[Cell, Any], Awaitable[object]]:
    async def there_are(cell: Cell, _: Any) -> bool:
        return len(await cell.registrations.all(cell.tenant)) == number

    return there_are


def _named(name: str) -> Callable[[Cell, Any], Awaitable[object]]:
    async def is_named(cell: Cell, _: Any) -> bool:
        return (await cell.tenants.get(cell.tenant)).name == name

    return is_named


async def _create(cell: Cell, _: Any) -> object:
    return await cell.tenants.create("x", now=await cell.store.now())


async def _tenant_is_gone(cell: Cell, job: Any) -> bool:
    return await cell.tenants.all() == [] and await _is_gone(cell, job)


async def _tenant_is_there(cell: Cell, job: Any) -> bool:
    return len(await cell.tenants.all()) == 1 and await _is_stored(cell, job)


OPERATIONS = {
    "delete": Operation(
        lambda cell: cell.submit(), lambda cell, job: cell.jobs.delete(cell.tenant, job.id), _is_stored, _is_gone
    ),
    "erase": Operation(
        lambda cell: cell.submit(customer="c"),
        lambda cell, _: cell.jobs.erase_customer(cell.tenant, "c"),
        _is_stored,
        _is_gone,
    ),
    "delete tenant": Operation(
        lambda cell: cell.submit(),
        lambda cell, _: cell.jobs.delete_tenant(cell.tenant),
        _tenant_is_there,
        _tenant_is_gone,
    ),
    "create tenant": Operation(_nothing, _create, _tenants(1), _tenants(2)),
    "update tenant": Operation(
        _nothing, lambda cell, _: cell.tenants.update(cell.tenant, name="new"), _named("test"), _named("new")
    ),
    "create key": Operation(_nothing, _new_key, _keys(0), _keys(1)),
    "revoke key": Operation(_key, lambda cell, key: cell.tenants.revoke(key), _keys(1), _keys(0)),
    "register": Operation(_nothing, lambda cell, _: _url(cell), _urls(0), _urls(1)),
    "unregister": Operation(_url, lambda cell, _: cell.registrations.remove(cell.tenant, URL), _urls(1), _urls(0)),
}


class Mortal:
    """Counts the commands of this process, and ends it, as far as Redis can tell, at one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, *, at: int, after: bool) -> None:
        self.commands = 0
        self._at, self._after = at, after
        for owner, name in ((Redis, "execute_command"), (Pipeline, "execute")):
            patch.setattr(owner, name, self._counted(getattr(owner, name), pipeline=owner is Pipeline))

    def _counted(self, works: Any, *, pipeline: bool) -> Any:
        async def counted(client: Any, *args: Any, **options: Any) -> Any:
            if isinstance(client, Pipeline) and not pipeline:
                return works(client, *args, **options)
            self.commands += 1
            if self.commands > self._at or (self.commands == self._at and not self._after):
                raise Killed
            reply = await works(client, *args, **options)
            if self.commands == self._at:
                raise Killed
            return reply

        return counted


def bury(cell: Cell) -> None:
    """Take note of how the log's writer ended, or asyncio complains, at whatever moment its memory is freed."""
    writer = cell.audit._appending._writer
    if writer is not None and writer.done():
        writer.exception()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_the_log_says_what_can_be_concluded(redis: Redis, tmp_path: Path, name: str, *, after: bool) -> None:
    """No record: nothing was done. Pending alone: nobody was told. Success: all of it was done."""
    operation, seen, at = OPERATIONS[name], set[tuple[str, ...]](), 0
    while True:
        at += 1
        await redis.flushall()
        cell = await open_cell(redis, tmp_path / str(at))
        subject = await operation.prepare(cell)
        start = (await cell.audit.ends()).head.seq
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, at=at, after=after)
            try:
                await operation.act(cell, subject)
            except BaseException as error:  # noqa: BLE001 - see Mortal
                told = repr(error)
            else:
                told = ""
        bury(cell)
        outcomes = tuple(record.outcome for record in await records(cell.audit, since=start))
        seen.add(outcomes)
        if outcomes == ():
            assert await operation.untouched(cell, subject), at
        elif outcomes == ("pending", "success"):
            assert await operation.done(cell, subject), at
        else:
            assert outcomes == ("pending",), at
            assert told, at
        if mortal.commands < at:
            break
        assert told or outcomes == ("pending", "success")
    assert outcomes == ("pending", "success")
    assert not told
    assert seen == {(), ("pending",), ("pending", "success")}


async def test_a_repetition_is_told_by_records_of_its_own(cell: Cell) -> None:
    """What broke off stays pending for good; what completes it says so."""
    job = await cell.submit()
    start = (await cell.audit.ends()).head.seq
    with pytest.MonkeyPatch.context() as patch:
        Mortal(patch, at=5, after=True)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - see Mortal
            await cell.jobs.delete(cell.tenant, job.id)
    bury(cell)
    await cell.jobs.delete_tenant(TenantId(cell.tenant))
    found = await records(cell.audit, since=start)
    assert [each.outcome for each in found] == ["pending", "pending", "success"]
    assert len({each.transaction for each in found}) == 2
    assert await cell.redis.hlen(keyspace.TENANTS) == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_first_start_that_broke_off_leaves_no_log_that_takes_nothing(
    redis: Redis, tmp_path: Path, *, after: bool
) -> None:
    """Wherever it did: the next one begins the log, or finds it begun, and records go into it."""
    root, at, told = Key.random(), 0, True
    while told:
        at += 1
        await redis.flushall()
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, at=at, after=after)
            try:
                await Keyring.open(redis, FileRoot(root))
                told = False
            except Killed:
                pass
        cell = await open_cell(redis, tmp_path / str(at), root=root)
        assert [each.outcome for each in await records(cell.audit)] == ["pending", "success"]
    assert at > 3 * 3


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_restart_that_broke_off_has_done_nothing_or_is_told(cell: Cell, *, after: bool) -> None:
    """There is no log that is whole and does not say that it was begun anew."""
    await cell.redis.hset(keyspace.AUDIT_ENDS, "head", "forged")
    at, told = 0, True
    while told:
        at += 1
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, at=at, after=after)
            try:
                await cell.audit.restart()
                told = False
            except Killed:
                pass
        bury(cell)
        with contextlib.suppress(AuditBroken):
            assert [each.event for each in await records(cell.audit)] == ["volant.audit-log.restart"]
    assert at > 1
    assert len(await records(cell.audit)) == 1
