"""What the audit log tells of each operation, and how records come into it from several sides at once."""

from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from retention import keyspace
from retention.acting import act_as_key, act_as_operator, acting, begin_request
from retention.chain import Event, public
from retention.errors import CustomerErased, JobProcessing, NotFound, TenantGone, Unavailable
from retention.job import TenantId
from retention.request_log import Logged
from retention.seal import Key
from tests.integration.audited import begun, records, since, snapshot, told, verified
from tests.integration.cell import RESULTS, YEAR, Cell, spoken
from tests.integration.logged import WILLING

DELETE: Event = "speech-to-text.async-recognition-job.delete"
ERASE: Event = "speech-to-text.gdpr-user-data.delete"
REGISTER: Event = "speech-to-text.async-recognition-notification-url.create"
UNREGISTER: Event = "speech-to-text.async-recognition-notification-url.delete"
URL = "https://receiver.example/path?secret=whispered"


async def test_a_new_log_is_whole_and_empty(redis: Redis) -> None:
    """It has ends, and nothing between."""
    audit = await begun(redis, Key.random(), retention=YEAR)
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


async def test_whoever_is_let_in_acts_by_its_api_key(cell: Cell) -> None:
    """Also with a token that the key has bought; who is not let in acts as nobody."""
    key = await cell.tenants.create_key(cell.tenant, now=await cell.store.now())
    token = await cell.tokens.issue(key)
    assert token is not None
    ours = f"apikey:{key.split('_')[1]}"
    for authenticate, presented, actor in (
        (cell.tenants.authenticate, key, ours),
        (cell.tokens.authenticate, token.text, ours),
        (cell.tokens.authenticate_again, token.text, ours),
        (cell.tenants.authenticate, key + "x", ""),
        (cell.tokens.authenticate, token.text + "x", ""),
    ):
        begin_request("f" * 32)
        await authenticate(presented)
        assert acting().actor == actor
    await cell.tenants.revoke(key.split("_")[1])
    begin_request("f" * 32)
    assert await cell.tokens.authenticate(token.text) is None
    assert acting().actor == ""


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
        await cell.lease(job)
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
        await cell.lease(job)
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


async def test_what_nobody_knows_stays_pending(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis was away while it was done: it may have been, or not."""

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("away")

    start = await since(cell)
    monkeypatch.setattr(cell.store, "fence", away)
    with pytest.raises(Unavailable):
        await cell.jobs.erase_customer(cell.tenant, "a-person")
    assert await told(cell.audit, since=start) == [(ERASE, "pending")]


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
