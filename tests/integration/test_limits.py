"""Requests a second, uploads at once and audio a day, as Redis counts them for all processes."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from redis.asyncio import Redis

from retention import keyspace, quotas
from retention.errors import LimitReached, Superseded
from retention.job import TenantId
from retention.limits import COSTLY, POLL, Count, Limits, parse
from retention.quotas import Quotas
from retention.tenant import Credential
from retention.tenants import Tenants
from tests.integration.cell import RESULTS, Cell
from tests.stack import wait_until

T = TypeVar("T")

SUBMIT, TOKEN = Count("submits"), Count("tokens")


async def reached(cell: Cell, key: str, counts: Count = POLL, *, tenants: Tenants | None = None) -> timedelta | None:
    """Make one request; return how long it is to wait, if it is refused."""
    try:
        assert await (tenants or cell.tenants).authenticate(key, counts)
    except LimitReached as error:
        return error.wait if error.limit == counts.kind else None
    return None


async def admitted(cell: Cell, key: str, counts: Count = POLL, **others: Tenants) -> int:
    """Return how many requests are admitted at once."""
    number = 0
    while await reached(cell, key, counts, **others) is None:
        number += 1
    return number


async def at_once(cell: Cell, asking: Callable[[], Awaitable[T]], *, within: timedelta) -> T:
    """Return what comes of requests that meet full buckets, made again until the machine lets them be made so soon."""
    while True:
        async for bucket in cell.redis.scan_iter(keyspace.bucket_of("*", TenantId("*")), count=1000):
            await cell.redis.delete(bucket)
        began = await cell.store.now()
        found = await asking()
        if await cell.store.now() - began < within:
            return found


async def new_key(cell: Cell, **limits: float) -> str:
    return await cell.tenants.create_key(cell.tenant, now=await cell.store.now(), limits=limits)


async def test_a_bucket_holds_the_tokens_of_a_second(cell: Cell) -> None:
    """Then the wait is as long as the next token takes; it is there after that, and not before."""
    await cell.tenants.update(cell.tenant, limits={"polls": 2})
    key = await new_key(cell)

    async def ask() -> tuple[int, datetime, timedelta | None]:
        return await admitted(cell, key), await cell.store.now(), await reached(cell, key)

    number, began, wait = await at_once(cell, ask, within=timedelta(milliseconds=200))
    assert number == 2
    assert wait is not None
    assert timedelta(milliseconds=295) <= wait <= timedelta(milliseconds=500)

    async def is_admitted() -> bool:
        return await reached(cell, key) is None

    await wait_until(is_admitted)
    assert await cell.store.now() - began >= wait - timedelta(milliseconds=2)


async def test_what_costs_more_takes_more(cell: Cell) -> None:
    """It is let in where there is room for one, and what comes after it waits for all that it took."""
    await cell.tenants.update(cell.tenant, limits={"polls": 6})
    key = await new_key(cell)

    async def ask() -> tuple[int, list[timedelta | None]]:
        return await admitted(cell, key, COSTLY), [await reached(cell, key, counts) for counts in (POLL, COSTLY)]

    number, waits = await at_once(cell, ask, within=timedelta(milliseconds=400))
    assert number == 2
    for wait in waits:
        assert wait is not None
        assert timedelta(milliseconds=430) <= wait <= timedelta(milliseconds=834)


async def test_what_costs_more_gets_in_beside_others(cell: Cell) -> None:
    """Although they take whatever there is: a deletion must not wait until its tenant's polls let up."""
    await cell.tenants.update(cell.tenant, limits={"polls": 20})
    polling, deleting = await new_key(cell), await new_key(cell)

    async def is_refused() -> bool:
        """Others have just taken all there is, and the next token comes as soon as ever."""
        await admitted(cell, polling)
        wait = await reached(cell, deleting, COSTLY)
        return wait is not None and wait <= timedelta(milliseconds=50)

    await wait_until(is_refused)

    async def is_admitted() -> bool:
        admits = [await reached(cell, key, counts) is None for key, counts in ((polling, POLL), (deleting, COSTLY))]
        await asyncio.sleep(random.uniform(0, 0.02))
        return admits[1]

    await wait_until(is_admitted)


async def test_what_takes_more_than_a_second_holds_takes_it_all(cell: Cell) -> None:
    """It is admitted when the bucket is full, and what comes after it waits for all that it took."""
    await cell.tenants.update(cell.tenant, limits={"polls": 0.1})
    key = await new_key(cell)
    assert await admitted(cell, key, COSTLY) == 1
    for cheap_or_not in (POLL, COSTLY):
        wait = await reached(cell, key, cheap_or_not)
        assert wait is not None
        assert timedelta(seconds=45) < wait <= timedelta(seconds=50)


async def test_less_than_one_a_second_is_one_at_a_time(cell: Cell) -> None:
    """A hundredth of a request a second is one in a hundred seconds."""
    await cell.tenants.update(cell.tenant, limits={"submits": 0.01})
    key = await new_key(cell)
    assert await admitted(cell, key, SUBMIT) == 1
    wait = await reached(cell, key, SUBMIT)
    assert wait is not None
    assert timedelta(seconds=90) < wait <= timedelta(seconds=100)


async def test_kinds_are_counted_apart(cell: Cell) -> None:
    """Who has polled too much may still submit and buy tokens."""
    await cell.tenants.update(cell.tenant, limits={"polls": 0.01, "submits": 0.01, "tokens": 0.01})
    key = await new_key(cell)
    assert [await admitted(cell, key, kind) for kind in (POLL, SUBMIT)] == [1, 1]
    assert await cell.tokens.issue(key) is not None
    with pytest.raises(LimitReached):
        await cell.tokens.issue(key)


async def test_a_tokens_requests_count_as_its_keys(cell: Cell) -> None:
    """By whatever the requests of a key are authenticated."""
    key = await new_key(cell, polls=0.01)
    token = await cell.tokens.issue(key)
    assert token is not None
    assert await cell.tokens.authenticate(token.text, POLL) is not None
    with pytest.raises(LimitReached):
        await cell.tokens.authenticate(token.text, POLL)
    assert await reached(cell, key) is not None
    assert await cell.tokens.authenticate_again(token.text) is not None


async def test_both_the_tenant_and_its_key_must_admit(cell: Cell) -> None:
    """A key's limit holds beside its tenant's; what one refuses, the other does not count."""
    await cell.tenants.update(cell.tenant, limits={"polls": 3})
    keys = await new_key(cell, polls=1), await new_key(cell), await new_key(cell, polls=50)

    async def ask() -> list[int]:
        return [await admitted(cell, key) for key in keys]

    assert await at_once(cell, ask, within=timedelta(milliseconds=333)) == [1, 2, 0]


async def test_a_raised_limit_forgets_what_a_lower_one_has_counted(cell: Cell) -> None:
    """But for one request, as if it had been made just now."""
    await cell.tenants.update(cell.tenant, limits={"submits": 0.01})
    key = await new_key(cell)
    assert await admitted(cell, key, SUBMIT) == 1
    await cell.tenants.update(cell.tenant, limits={"submits": 0.5})
    wait = await reached(cell, key, SUBMIT)
    assert wait is not None
    assert wait <= timedelta(seconds=2)


async def test_a_limit_may_be_raised_and_dropped(cell: Cell) -> None:
    """From the next request on: none at all, and the default again."""
    key = await new_key(cell)
    await cell.tenants.update(cell.tenant, limits={"polls": 0.01})
    assert await admitted(cell, key) == 1
    await cell.tenants.update(cell.tenant, limits={"polls": 0})
    assert all([await reached(cell, key) is None for _ in range(50)])
    await cell.tenants.update_key(key.split("_")[1], {"polls": 0.01})
    assert await admitted(cell, key) == 1
    defaults = Tenants(cell.redis, cell.audit, limits=Limits(submits=0.01, tokens=0.01))
    await cell.tenants.update(cell.tenant, limits={"submits": 0, "tokens": None})
    assert all([await reached(cell, key, SUBMIT, tenants=defaults) is None for _ in range(50)])
    assert await admitted(cell, key, TOKEN, tenants=defaults) == 1


async def test_other_processes_and_tenants(cell: Cell) -> None:
    """All processes count in the same buckets; another tenant has its own."""
    key = await new_key(cell, polls=2)
    others = Tenants(cell.redis, cell.audit)

    async def ask() -> tuple[timedelta | None, int]:
        return await reached(cell, key), await admitted(cell, key, tenants=others)

    assert await at_once(cell, ask, within=timedelta(milliseconds=500)) == (None, 1)
    other = await cell.tenants.create("other", now=await cell.store.now())
    assert await reached(cell, await new_key(cell.of(other.id), polls=2)) is None


async def test_wrong_secrets_and_revoked_keys_cost_nothing(cell: Cell) -> None:
    """Nobody empties the bucket of a key without having it."""
    key = await new_key(cell, polls=1)
    for _ in range(3):
        assert await cell.tenants.authenticate(f"{key}x", POLL) is None
    assert await reached(cell, key) is None
    await cell.tenants.revoke(key.split("_")[1])
    assert await cell.tenants.authenticate(key, POLL) is None


async def test_counting_a_request_waits_for_no_disk(cell: Cell, redis: Redis) -> None:
    """Buckets and uploads stay out of the append-only file."""
    key = await new_key(cell, polls=1000)

    async def nothing_is_appended() -> bool:
        before = (await redis.info("persistence"))["aof_current_size"]
        credential = await cell.tenants.authenticate(key, POLL)
        assert credential is not None
        async with Quotas(redis).upload(credential, size=1):
            assert await redis.exists(keyspace.bucket_of("polls", cell.tenant, credential.key)) == 1
            return bool((await redis.info("persistence"))["aof_current_size"] == before)

    await wait_until(nothing_is_appended)  # it grows by itself when something of another test expires


@pytest.mark.parametrize("whose", ["limits", "limits_of_key"])
async def test_uploads_at_once(cell: Cell, whose: str) -> None:
    """One more is refused; when one has ended, however it did, there is room again."""
    uploads = Quotas(cell.redis)
    credential = msgspec.structs.replace(Credential(tenant=cell.tenant, key="k"), **{whose: Limits(uploads=2)})
    async with uploads.upload(credential, size=0):
        failing = uploads.upload(credential, size=0)
        await failing.__aenter__()
        with pytest.raises(LimitReached, match="uploads"):
            await uploads.upload(credential, size=0).__aenter__()
        assert (await uploads.used(cell.tenant)).uploads == (await uploads.used(cell.tenant, "k")).uploads == 2
        assert not await failing.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
        async with uploads.upload(credential, size=0):
            pass
    assert (await uploads.used(cell.tenant)).uploads == (await uploads.used(cell.tenant, "k")).uploads == 0


async def test_a_renewal_that_is_slow_does_not_outlast_its_upload(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is on its way as the upload ends does not have it counted for another lease."""
    monkeypatch.setattr(quotas, "LEASE", timedelta(seconds=3))
    uploads = Quotas(cell.redis)
    script, under_way = uploads._slot, asyncio.Event()
    sent: list[asyncio.Task[Any]] = []

    async def slowly(*, keys: list[str], args: list[Any]) -> None:
        async def send() -> None:
            if args[1]:
                under_way.set()
                await asyncio.sleep(0.3)  # the pace of the network is what is tried
            await script(keys=keys, args=args)

        sent.append(asyncio.create_task(send()))
        await asyncio.shield(sent[-1])  # what was sent arrives, whatever becomes of the sender

    monkeypatch.setattr(uploads, "_slot", slowly)
    async with uploads.upload(Credential(tenant=cell.tenant, key="k"), size=0):
        await under_way.wait()
    await asyncio.gather(*sent)
    assert (await uploads.used(cell.tenant)).uploads == (await uploads.used(cell.tenant, "k")).uploads == 0


async def test_a_killed_process_holds_no_upload_for_long(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is not renewed ends; one that is renewed does not."""
    monkeypatch.setattr(quotas, "LEASE", timedelta(seconds=1.5))
    began = await cell.store.now()
    credential = Credential(tenant=cell.tenant, key="k", limits=Limits(uploads=2))
    living, killed = Quotas(cell.redis), Quotas(cell.redis)

    async def dead(_places: object, _name: object, over: asyncio.Event) -> None:
        await over.wait()

    monkeypatch.setattr(killed, "_keep", dead)
    under_way = killed.upload(credential, size=0)
    await under_way.__aenter__()
    async with living.upload(credential, size=0):

        async def another() -> bool:
            try:
                async with living.upload(credential, size=0):
                    return True
            except LimitReached:
                return False

        assert not await another()
        await wait_until(another)

        async def is_long_over() -> bool:
            return await cell.store.now() > began + timedelta(seconds=3)

        await wait_until(is_long_over)
        assert (await living.used(cell.tenant)).uploads == 1
    await under_way.__aexit__(None, None, None)


@pytest.mark.parametrize("whose", ["limits", "limits_of_key"])
async def test_too_much_waits_to_begin_an_upload(cell: Cell, whose: str) -> None:
    """Jobs, and the bytes that are announced: known before anything is read."""
    owner = Credential(tenant=cell.tenant, key="k")
    job = await cell.submit(credential=owner)
    uploads, size = Quotas(cell.redis), (await Quotas(cell.redis).used(cell.tenant)).bytes

    async def begins(announced: int, **limits: int) -> str:
        credential = msgspec.structs.replace(Credential(tenant=cell.tenant, key="k"), **{whose: Limits(**limits)})
        try:
            async with uploads.upload(credential, size=announced):
                return ""
        except LimitReached as error:
            return error.limit if error.wait == quotas.AGAIN else "for another time"

    assert await begins(0, waiting=1) == "waiting"
    assert await begins(0, waiting=2) == ""
    assert await begins(10, bytes=size + 9) == "bytes"
    assert await begins(10, bytes=size + 10) == ""
    assert await begins(0, bytes=size) == "bytes"
    await cell.jobs.delete(cell.tenant, job.id)
    assert await begins(0, waiting=1) == ""
    assert await begins(10, bytes=10) == ""


async def test_another_keys_jobs_do_not_count(cell: Cell) -> None:
    """For a key's own limits; for its tenant's they do."""
    await cell.submit(credential=Credential(tenant=cell.tenant, key="another"))
    key = Credential(tenant=cell.tenant, key="k", limits_of_key=Limits(waiting=1, bytes=1000))
    await cell.submit(credential=key)
    with pytest.raises(LimitReached, match="waiting"):
        await cell.submit(credential=key)
    assert (await Quotas(cell.redis).used(cell.tenant)).waiting == 2
    narrow = Credential(tenant=cell.tenant, key="k", limits_of_key=Limits(uploads=1))
    uploads = Quotas(cell.redis)
    async with uploads.upload(Credential(tenant=cell.tenant, key="another"), size=0), uploads.upload(narrow, size=0):
        pass
    assert len(cell.recordings()) == 2


@pytest.mark.parametrize("whose", ["limits", "limits_of_key"])
async def test_the_audio_of_a_day(cell: Cell, whose: str) -> None:
    """What was decoded counts until the day ends, and as long is the wait."""
    key, used = Credential(tenant=cell.tenant, key="k"), Quotas(cell.redis).used
    for seconds, fails in ((4, False), (6, True)):
        job = await cell.submit(credential=key)
        async with cell.holding.hold(cell.tenant, job.id) as held:
            assert held is not None
            heard = timedelta(seconds=seconds)
            if fails:
                await cell.holding.fail(held, "engine", heard=heard)
            else:
                await cell.holding.finish(held, RESULTS, heard=heard)
    assert (await used(cell.tenant)).audio == (await used(cell.tenant, "k")).audio == 10
    assert (await used(cell.tenant, "another")).audio == 0
    now = await cell.store.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    least, greatest = await cell.expires(keyspace.audio_of(cell.tenant))
    assert least <= midnight <= greatest
    less, more = (
        msgspec.structs.replace(Credential(tenant=cell.tenant, key="k"), **{whose: Limits(audio=most)})
        for most in (10, 11)
    )
    async with Quotas(cell.redis).upload(more, size=0):
        pass
    with pytest.raises(LimitReached, match="audio") as refused:
        await Quotas(cell.redis).upload(less, size=0).__aenter__()
    assert abs(now + refused.value.wait - midnight) < timedelta(seconds=10)


async def test_a_write_that_is_repeated_counts_once(cell: Cell) -> None:
    """Its reply was lost: neither what waits nor what was heard is counted again."""
    job = await cell.begun()
    credential = Credential(tenant=cell.tenant, key="k")
    for _ in range(2):
        await cell.store.write(job, now=job.created, credential=credential, size=7)
    used = await Quotas(cell.redis).used(cell.tenant, "k")
    assert (used.waiting, used.bytes) == (1, 7)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x=1", "there is no limit 'x'"),
        ("submits", "'submits' must be submits=NUMBER"),
        ("submits=", "must be submits=NUMBER"),
        ("submits=-1", "must be submits=NUMBER"),
        ("submits=nan", "must be submits=NUMBER"),
        ("waiting=1.5", "must be waiting=NUMBER"),
        ("waiting=inf", "must be waiting=NUMBER"),
    ],
)
def test_wrong_words_for_a_limit(text: str, sentence: str) -> None:
    """Are refused in a sentence."""
    with pytest.raises(ValueError, match=sentence):
        dict(parse((text,)))


def test_words_for_limits() -> None:
    """Numbers, none and the default."""
    texts = ("submits=0.5", "waiting=10", "polls=none", "audio=default")
    assert dict(parse(texts)) == {"submits": 0.5, "waiting": 10, "polls": 0, "audio": None}


async def test_a_raised_limit_counts_at_once(cell: Cell) -> None:
    """Whatever the old one had still to wait for."""
    key = await new_key(cell)
    await cell.tenants.update(cell.tenant, limits={"polls": 0.001})
    assert await reached(cell, key) is None
    wait = await reached(cell, key)
    assert wait is not None
    await cell.tenants.update(cell.tenant, limits={"polls": 10})
    wait = await reached(cell, key)
    assert wait is None or wait <= timedelta(seconds=1)


async def test_a_key_that_is_revoked_meanwhile_stays_revoked(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing its limits brings nothing back."""
    key = await new_key(cell)
    recording = cell.audit.recording

    def revoked_first(event: Any, **told: Any) -> Any:
        monkeypatch.undo()

        @contextlib.asynccontextmanager
        async def after() -> AsyncIterator[Any]:
            await cell.tenants.revoke(key.split("_")[1])
            async with recording(event, **told) as doing:
                yield doing

        return after()

    monkeypatch.setattr(cell.audit, "recording", revoked_first)
    with pytest.raises(Superseded):
        await cell.tenants.update_key(key.split("_")[1], {"polls": 5})
    assert await cell.tenants.authenticate(key) is None


async def test_without_a_limit_a_request_writes_nothing(cell: Cell) -> None:
    """What is only read is there while Redis takes no writes."""
    key = await new_key(cell)
    await cell.redis.config_set("min-replicas-to-write", 1)
    try:
        assert await cell.tenants.authenticate(key, POLL) is not None
    finally:
        await cell.redis.config_set("min-replicas-to-write", 0)
