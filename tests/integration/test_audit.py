"""What the audit log tells of each operation, and how records come into it from several sides at once."""

import asyncio
import multiprocessing
from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.processes import RedisServer
from retention import keyspace
from retention.acting import act_as_key, act_as_operator, acting, begin_request
from retention.appending import AT_ONCE
from retention.audit import Audit
from retention.chain import Event, Record, public
from retention.errors import CustomerErased, JobProcessing, NotFound, TenantGone, Unavailable
from retention.job import TenantId
from retention.request_log import Logged
from retention.seal import Key
from tests.integration.audited import records, told, verified
from tests.integration.cell import RESULTS, YEAR, Cell, spoken
from tests.integration.logged import WILLING

DELETE: Event = "speech-to-text.async-recognition-job.delete"
ERASE: Event = "speech-to-text.gdpr-user-data.delete"
REGISTER: Event = "speech-to-text.async-recognition-notification-url.create"
UNREGISTER: Event = "speech-to-text.async-recognition-notification-url.delete"
URL = "https://receiver.example/path?secret=whispered"


async def since(cell: Cell) -> int:
    """Return the number of the last record."""
    return (await cell.audit.ends()).head.seq


async def test_a_new_log_is_whole_and_empty(redis: Redis) -> None:
    """It has ends, and nothing between."""
    audit = Audit(redis, Key.random(), retention=YEAR)
    await audit.begin()
    assert await verified(audit) == []
    ends = await audit.ends()
    assert ends.floor == ends.head


async def test_a_record_says_who_what_when_and_in_which_request(cell: Cell) -> None:
    """By Redis's clock, with the API key's public id, and nothing of what was sent."""
    job = await cell.submit(customer="a-person@example.com")
    begin_request("f" * 32)
    act_as_key("0123456789ab")
    before, start = await cell.store.now(), await since(cell)
    await cell.jobs.delete(cell.tenant, job.id)
    after = await cell.store.now()
    begun, done = await records(cell.audit, since=start)
    assert before.timestamp() * 1000 <= begun.time <= done.time <= after.timestamp() * 1000 + 1
    assert msgspec.structs.asdict(begun) == {
        "time": begun.time,
        "event": DELETE,
        "outcome": "pending",
        "actor": "apikey:0123456789ab",
        "transaction": "f" * 32,
        "tenant": cell.tenant,
        "target": job.id,
        "source": "",
        "detail": "",
        "count": 0,
    }
    assert done == msgspec.structs.replace(begun, time=done.time, outcome="success")


async def test_what_has_no_request_has_a_transaction_all_the_same(cell: Cell) -> None:
    """Both records of an operation bear it, and no other's."""
    first, second, *others = await records(cell.audit)  # of the cell's tenant
    await cell.tenants.create("another", now=await cell.store.now())
    third, fourth = (await records(cell.audit))[2:]
    assert others == []
    assert (first.actor, first.transaction) == ("service", second.transaction)
    assert third.transaction == fourth.transaction != first.transaction != ""


async def test_a_command_acts_as_its_user(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system knows them, whatever a variable says."""
    monkeypatch.setenv("LOGNAME", "somebody-else")
    act_as_operator()
    assert acting().actor.startswith("operator:")
    assert "somebody-else" not in acting().actor
    await cell.tenants.create("x", now=await cell.store.now())
    assert (await records(cell.audit))[-1].actor == acting().actor


async def test_tenants_and_keys_are_told(cell: Cell) -> None:
    """Names are not: only which fields were changed."""
    start = await since(cell)
    now = await cell.store.now()
    tenant = await cell.tenants.create("Whispered Ltd", now=now)
    await cell.tenants.update(tenant.id, name="Whispered Inc", learning_opt_out=True)
    key = await cell.tenants.create_key(tenant.id, now=now)
    await cell.tenants.revoke(key.split("_")[1])
    await cell.of(tenant.id).submit()
    await cell.jobs.delete_tenant(tenant.id)
    found = await records(cell.audit, since=start)
    outcomes = ["pending", "success"]
    assert [(each.event, each.outcome) for each in found] == [
        *(("volant.tenant.create", outcome) for outcome in outcomes),
        *(("volant.tenant.update", outcome) for outcome in outcomes),
        *(("volant.credential.create", outcome) for outcome in outcomes),
        *(("volant.credential.revoke", outcome) for outcome in outcomes),
        *(("volant.tenant.delete", outcome) for outcome in outcomes),
    ]
    assert {each.tenant for each in found} == {tenant.id}
    assert [each.target for each in found] == [""] * 4 + [key.split("_")[1]] * 4 + [""] * 2
    assert [each.detail for each in found[2:4]] == ["learning_opt_out name"] * 2
    assert [each.count for each in found] == [0] * 9 + [1]
    assert b"Whispered" not in b"".join(msgspec.json.encode(each) for each in found)


async def test_callback_urls_are_told_without_the_url(cell: Cell) -> None:
    """By the random part of the registration's id, the same when it is taken back; once more for another secret."""
    start = await since(cell)
    now = await cell.store.now()
    kept = await cell.registrations.keep(cell.tenant, URL, "s", customer="a-person", began=now)
    await cell.registrations.keep(cell.tenant, URL, "t", customer=None, began=now)
    assert await cell.registrations.remove(cell.tenant, URL)
    assert not await cell.registrations.remove(cell.tenant, URL)
    found = await records(cell.audit, since=start)
    assert [(each.event, each.outcome) for each in found] == [
        *[(REGISTER, "pending"), (REGISTER, "success")] * 2,
        *[(UNREGISTER, "pending"), (UNREGISTER, "success")],
    ]
    assert {each.target for each in found} == {kept.id.partition("/")[2]}
    assert len(found[0].target) == 16


async def test_a_refused_registration_is_a_failure(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tenant is gone, its customer was erased, or somebody else was first: then it is begun again."""
    now = await cell.store.now()
    await cell.jobs.erase_customer(cell.tenant, "a-person")
    start = await since(cell)
    with pytest.raises(CustomerErased):
        await cell.registrations.keep(cell.tenant, URL, None, customer="a-person", began=now - timedelta(seconds=9))
    with pytest.raises(TenantGone):
        await cell.registrations.keep(TenantId("0" * 16), URL, None, customer=None, began=now)
    real, calls = cell.registrations._register, Counter[str]()

    async def first_superseded(**options: Any) -> Any:
        calls["made"] += 1
        return 0 if calls["made"] == 1 else await real(**options)

    monkeypatch.setattr(cell.registrations, "_register", first_superseded)
    await cell.registrations.keep(cell.tenant, URL, None, customer=None, began=now)
    assert [(each.outcome, each.detail) for each in await records(cell.audit, since=start)] == [
        ("pending", ""),
        ("failure", "CustomerErased"),
        ("pending", ""),
        ("failure", "TenantGone"),
        ("pending", ""),
        ("failure", "Superseded"),
        ("pending", ""),
        ("success", ""),
    ]


async def test_an_erasure_is_told_with_how_many_jobs_went(cell: Cell) -> None:
    """Also one that finds nothing: it was asked for. Of the customer there is no trace, not even a tag."""
    start = await since(cell)
    for _ in range(3):
        await cell.submit(customer="a-person@example.com")
    assert await cell.jobs.erase_customer(cell.tenant, "a-person@example.com") == 3
    assert await cell.jobs.erase_customer(cell.tenant, "nobody") == 0
    found = await records(cell.audit, since=start)
    assert [(each.event, each.outcome, each.count) for each in found] == [
        (ERASE, "pending", 0),
        (ERASE, "success", 3),
        (ERASE, "pending", 0),
        (ERASE, "success", 0),
    ]
    text = b"".join(msgspec.json.encode(each) for each in found).decode()
    assert cell.keyring.tag(cell.tenant, "a-person@example.com") not in text
    assert "person" not in text


async def test_what_does_nothing_is_not_told(cell: Cell) -> None:
    """What is not there, what a worker holds, and what is only read or accepted."""
    start = await since(cell)
    job = await cell.submit()
    await cell.jobs.look_up(cell.tenant, job.id)
    other = await cell.tenants.create("other", now=await cell.store.now())
    start = await since(cell)
    with pytest.raises(NotFound):
        await cell.jobs.delete(other.id, job.id)
    async with cell.holding.hold(cell.tenant, job.id):
        with pytest.raises(JobProcessing):
            await cell.jobs.delete(cell.tenant, job.id)
    for act in (cell.tenants.revoke("0" * 12), cell.tenants.update(TenantId("0" * 16), name="x")):
        with pytest.raises(NotFound):
            await act
    with pytest.raises(NotFound):
        await cell.tenants.create_key(TenantId("0" * 16), now=await cell.store.now())
    assert await told(cell.audit, since=start) == []


async def test_a_delete_that_a_worker_forestalls_is_a_failure(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was begun, and then refused: the second record says so, and why."""
    job = await cell.submit()
    start = await since(cell)
    holding = cell.holding.hold(cell.tenant, job.id)
    remove = cell.store.remove

    async def forestalled(*args: Any) -> None:
        monkeypatch.setattr(cell.store, "remove", remove)
        await holding.__aenter__()
        await remove(*args)

    monkeypatch.setattr(cell.store, "remove", forestalled)
    with pytest.raises(JobProcessing):
        await cell.jobs.delete(cell.tenant, job.id)
    found = await records(cell.audit, since=start)
    assert [(each.outcome, each.detail) for each in found] == [("pending", ""), ("failure", "JobProcessing")]
    await holding.__aexit__(None, None, None)


async def test_what_the_request_log_has_of_an_expired_job_is_told_when_it_goes(cell: Cell) -> None:
    """The client is told that there is no such job; what went with it is in the log."""
    job = await cell.submit()
    await cell.store.remove(job)
    logged = Logged(tenant=cell.tenant, job=job.id, customer=None, created=job.created, completed=job.created, size=1)
    await cell.redis.hset(keyspace.logged(cell.tenant, job.id), "record", msgspec.json.encode(logged))
    await cell.redis.expire(keyspace.logged(cell.tenant, job.id), 60)
    start = await since(cell)
    for _ in range(2):
        with pytest.raises(NotFound):
            await cell.jobs.delete(cell.tenant, job.id)
    assert await told(cell.audit, since=start) == [(DELETE, "pending"), (DELETE, "success")]
    assert not await cell.log.holds(cell.tenant, job.id)


async def test_a_tenants_deletion_that_finds_nothing_is_a_failure(cell: Cell) -> None:
    """It may remove what an earlier one left. An operator's typing error finds nothing, and is not kept."""
    start = await since(cell)
    for unknown in ("0" * 16, "Whispered Ltd", ""):
        with pytest.raises(NotFound):
            await cell.jobs.delete_tenant(TenantId(unknown))
    found = await records(cell.audit, since=start)
    assert [(each.outcome, each.tenant, each.detail) for each in found] == [
        ("pending", "0" * 16, ""),
        ("failure", "0" * 16, "NotFound"),
    ]


async def test_only_ids_of_ours_are_kept() -> None:
    """Of what has another form nothing is."""
    for ours in ("0123456789ab", "0" * 16, "4bd734c0-e575-41f3-8e03-f932aa0468a0", "common@1", "0123456789abcdef@12"):
        assert public(ours) == ours
    for other in ("", "Acme", "acme", "a-person@example.com", "0123456789ab\n", "https://x.example/", "1", "f" * 65):
        assert public(other) == ""


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


async def test_who_never_hears_is_refused_and_the_log_goes_on(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is there; nothing was done; the next one is chained to it."""
    appending = cell.audit._appending
    real = appending._append

    async def lost(*, keys: list[str], args: list[Any]) -> Any:
        await real(keys=keys, args=args)
        raise RedisConnectionError

    start = await since(cell)
    with monkeypatch.context() as patch:
        patch.setattr(appending, "_append", lost)
        with pytest.raises(Unavailable):
            await cell.tenants.create("x", now=await cell.store.now())
    assert len(await cell.tenants.all()) == 1
    await cell.tenants.create("y", now=await cell.store.now())
    assert [outcome for _, outcome in await told(cell.audit, since=start)] == ["pending", "pending", "success"]


async def test_nothing_is_done_that_cannot_be_recorded(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation that the log tells of is refused as if Redis were away, and is not done."""
    job, labelled = await cell.submit(), await cell.submit(customer="c")
    now = await cell.store.now()
    key = (await cell.tenants.create_key(cell.tenant, now=now)).split("_")[1]
    await cell.registrations.keep(cell.tenant, URL, None, customer=None, began=now)
    before = await snapshot(cell.redis)

    async def refused(*_: object) -> None:
        raise Unavailable("full")

    monkeypatch.setattr(cell.audit._appending, "append", refused)
    for act in (
        cell.jobs.delete(cell.tenant, job.id),
        cell.jobs.erase_customer(cell.tenant, "c"),
        cell.jobs.delete_tenant(cell.tenant),
        cell.tenants.create("x", now=now),
        cell.tenants.update(cell.tenant, name="x"),
        cell.tenants.create_key(cell.tenant, now=now),
        cell.tenants.revoke(key),
        cell.registrations.keep(cell.tenant, URL + "2", None, customer=None, began=now),
        cell.registrations.remove(cell.tenant, URL),
    ):
        with pytest.raises(Unavailable):
            await act
    assert await snapshot(cell.redis) == before
    assert await cell.stored(labelled) == labelled


async def snapshot(redis: Redis) -> dict[bytes, bytes]:
    return {key: await redis.dump(key) async for key in redis.scan_iter(count=1000)}


async def test_records_go_when_their_time_is_over(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other; the rest is whole and goes on, also when nothing is left."""
    key = Key.random()
    audit = Audit(redis, key, retention=timedelta(hours=1))
    await audit.begin()
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
    audit = Audit(redis, Key.random(), retention=timedelta(hours=1))
    await audit.begin()
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
    audit = Audit(redis, Key.random(), retention=timedelta(hours=-1))
    await audit.begin()
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
    audits = [Audit(redis, key, retention=timedelta(hours=-1)) for _ in range(2)]
    await audits[0].begin()
    await audits[0].write("volant.access.deny", "denied")
    assert sorted(await asyncio.gather(*(audit.trim() for audit in audits))) in ([0, 1], [1, 1])
    assert await verified(audits[0]) == []


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
    audit = Audit(redis, key, retention=YEAR)
    await audit.begin()
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


async def test_a_finished_and_logged_job_is_still_deleted_once(cell: Cell) -> None:
    """One pair of records, whatever there was of it."""
    job = await cell.submit(spoken(b"x" * 200), submission=WILLING)
    async with cell.holding.hold(cell.tenant, job.id) as held:
        assert held is not None
        await cell.holding.finish(held, RESULTS)
    start = await since(cell)
    await cell.jobs.delete(cell.tenant, job.id)
    with pytest.raises(NotFound):
        await cell.jobs.delete(cell.tenant, job.id)
    assert await told(cell.audit, since=start) == [(DELETE, "pending"), (DELETE, "success")]
