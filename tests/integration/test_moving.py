"""A tenant moves to another cell: new jobs go there, and nothing of what was is lost, or left behind."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from retention.errors import NotFound, TenantGone, Unavailable
from retention.job import Completed, Processing, new_job_id
from retention.settings import Settings
from retention.tenant import Credential, Tenant
from tests.integration.cell import RESULTS, SUBMISSION, spoken
from tests.integration.installation import Installation, crashes, finish


def kept(settings: Settings) -> list[Path]:
    """Return the files of all cells."""
    return [path for path in Path(settings.audio).parent.rglob("*") if path.is_file()]


async def test_new_jobs_go_to_the_new_cell_and_old_ones_are_read_where_they_are(installation: Installation) -> None:
    """Waiting, processing and completed at the move: all are shown, go on in the old cell, and complete there."""
    waiting, processing, completed = [await installation.submit() for _ in range(3)]
    await finish(installation.home, completed)
    async with installation.home.holding.hold(installation.tenant, processing.id) as held:
        assert held is not None
        await installation.move("acme")
        new = await installation.submit()
        assert [job.id for job in (new, completed, processing, waiting)] == await installation.listed()
        found, _ = await installation.retention.jobs.look_up(installation.tenant, processing.id)
        assert isinstance(found, Processing)
        await installation.home.holding.finish(held, RESULTS)
    await finish(installation.home, waiting)
    await finish(installation.acme, new)
    for job, cell in (
        (new, installation.acme),
        *((old, installation.home) for old in (waiting, processing, completed)),
    ):
        found, results = await installation.retention.jobs.look_up(installation.tenant, job.id)
        assert isinstance(found, Completed)
        assert results == RESULTS
        assert await installation.is_at(cell, job)
    assert not await installation.is_at(installation.home, new)
    home = [path for path in kept(installation.settings) if path.is_relative_to(installation.settings.audio)]
    assert new.id not in {path.name for path in home}


async def test_an_upload_that_had_begun_before_the_move_is_accepted(installation: Installation) -> None:
    """The cell is chosen once, before the body is read; the old one still knows the tenant."""
    cell = await installation.retention.of(installation.tenant)
    began = await cell.jobs.now()
    await installation.move("acme")
    job = await cell.acceptance.submit(
        Credential(tenant=installation.tenant), SUBMISSION, spoken(b"late"), began=began, results_ttl=timedelta(hours=1)
    )
    assert await installation.listed() == [job.id]
    await installation.move("home")
    await installation.move("acme")
    late = await installation.acme.jobs.now()
    await installation.move("home")
    job = await installation.acme.acceptance.submit(
        Credential(tenant=installation.tenant), SUBMISSION, spoken(b"late"), began=late, results_ttl=timedelta(hours=1)
    )
    assert job.id in await installation.listed()


async def test_the_list_is_the_newest_hundred_of_all_cells(installation: Installation) -> None:
    """However they are spread, in the order of their creation."""
    old = [await installation.submit() for _ in range(60)]
    await installation.move("acme")
    new = [await installation.submit() for _ in range(60)]
    assert await installation.listed() == [job.id for job in reversed(old + new)][:100]


async def test_a_delete_finds_the_job(installation: Installation) -> None:
    """In the cell where it is; of what is in none there is a miss."""
    old, logged = await installation.submit(), await installation.submit()
    await finish(installation.home, old)
    await installation.move("acme")
    new = await installation.submit()
    for job in (old, new, logged):
        await installation.retention.jobs.delete(installation.tenant, job.id)
        with pytest.raises(NotFound):
            await installation.retention.jobs.look_up(installation.tenant, job.id)
        with pytest.raises(NotFound):
            await installation.retention.jobs.delete(installation.tenant, job.id)
    assert await installation.listed() == []


async def test_an_erasure_and_a_deletion_reach_every_cell(installation: Installation) -> None:
    """Jobs, recordings, entries of the request log and registrations, in both."""
    jobs = []
    for cell in ("home", "acme"):
        await installation.move(cell)
        place = await installation.retention.of(installation.tenant)
        await place.tenants.update(installation.tenant, learning_opt_out=False)
        jobs += [await installation.submit(customer=customer) for customer in ("c", "c", None)]
        await finish(place, jobs[-3])
    assert await installation.retention.jobs.erase_customer(installation.tenant, "c") == 4
    assert await installation.listed() == [jobs[5].id, jobs[2].id]
    assert await installation.retention.tenancy.delete(installation.tenant) == 2
    for redis in (installation.home_redis, installation.acme_redis):
        left = [key.decode() async for key in redis.scan_iter(f"*{installation.tenant}*")]
        assert [key for key in left if not key.startswith("volant:erased:")] == []
        assert not await redis.hexists("volant:tenants", installation.tenant)
    assert {path.name for path in kept(installation.settings)} <= {"root.key"}
    with pytest.raises(TenantGone):
        await installation.retention.of(installation.tenant)


async def test_a_cell_is_read_for_as_long_as_a_job_may_live_there(installation: Installation) -> None:
    """Until then; after that not, but what an erasure must reach it still reaches."""
    old = await installation.submit(customer="c")
    await installation.move("acme")
    settings, now = installation.settings, await installation.home.jobs.now()
    life = settings.upload_within + 2 * settings.patience + settings.max_results_ttl
    await installation.left_ago(now - life + timedelta(minutes=1))
    assert await installation.listed() == [old.id]
    assert (await installation.retention.jobs.look_up(installation.tenant, old.id))[0] == old
    await installation.left_ago(now - life - timedelta(seconds=1))
    assert await installation.listed() == []
    with pytest.raises(NotFound):
        await installation.retention.jobs.look_up(installation.tenant, old.id)
    assert await installation.is_at(installation.home, old)
    assert await installation.retention.jobs.erase_customer(installation.tenant, "c") == 1
    assert not await installation.is_at(installation.home, old)


async def test_a_move_back_is_a_move(installation: Installation) -> None:
    """The cell that it comes back to is not one that it has left any more."""
    first = await installation.submit()
    await installation.move("acme")
    second = await installation.submit()
    await installation.move("home")
    third = await installation.submit()
    assert await installation.listed() == [third.id, second.id, first.id]
    known = await installation.retention.tenants.get(installation.tenant)
    assert (known.cell, known.cells) == ("home", ("acme", "home"))
    assert await installation.acme.tenants.get(installation.tenant) == known


async def test_a_move_that_breaks_off_anywhere_loses_nothing_and_is_completed_by_the_next(
    installation: Installation,
) -> None:
    """At every step jobs are accepted, all are shown, and callback URLs count."""
    await installation.register()
    jobs = [await installation.submit(callback=True)]

    async def look() -> None:
        jobs.append(await installation.submit(callback=True))
        assert await installation.listed() == [job.id for job in reversed(jobs)][:100]

    assert await crashes(lambda: installation.move("acme"), look) > 10
    known = await installation.retention.tenants.get(installation.tenant)
    assert [(former.cell, former.carried) for former in known.former] == [("home", True)]
    assert await installation.acme.tenants.get(installation.tenant) == known
    assert await installation.is_at(installation.acme, jobs[-1])


async def test_a_creation_that_breaks_off_makes_a_tenant_or_none(installation: Installation) -> None:
    """Whoever is known at home is known in its cell."""

    async def look() -> None:
        for known in await installation.retention.tenants.all():
            if known.cell == "acme":
                assert await installation.acme.tenants.get(known.id) == known

    tenancy = installation.retention.tenancy
    assert await crashes(lambda: tenancy.create("new", cell="acme"), look) > 3
    # One that broke off after the last write, and before the audit log said so, has made a tenant as well.
    assert len(await installation.retention.tenants.all()) >= 2


async def test_a_deletion_that_breaks_off_anywhere_is_completed_by_the_next(installation: Installation) -> None:
    """Credentials are the first to go; in the end nothing is left in either cell, whatever broke off."""
    await installation.submit()
    await installation.move("acme")
    await installation.submit()
    keys = [
        await installation.retention.tenants.create_key(installation.tenant, now=await installation.home.jobs.now())
    ]
    broken: list[bool] = []

    async def delete() -> None:
        try:
            await installation.retention.tenancy.delete(installation.tenant)
        except NotFound:
            assert broken  # what is left to do after the last removal is nothing
        broken.append(True)

    async def look() -> None:
        gone = not await installation.home_redis.hexists("volant:tenants", installation.tenant)
        assert (await installation.retention.tenants.authenticate(keys[0]) is None) == gone
        broken.append(True)

    assert await crashes(delete, look) > 10
    for redis in (installation.home_redis, installation.acme_redis):
        assert not await redis.hexists("volant:tenants", installation.tenant)
        assert [key async for key in redis.scan_iter(f"*{installation.tenant}*")] == []
    assert not [path for path in kept(installation.settings) if path.parent.name == installation.tenant]


async def test_the_opt_out_reaches_the_cell_where_jobs_still_run(installation: Installation) -> None:
    """What an operator decides about a tenant counts in every cell of it."""
    await installation.move("acme")
    await installation.retention.tenancy.update(installation.tenant, learning_opt_out=True, callback_signature="sha1")
    for cell in (installation.home, installation.acme):
        known = await cell.tenants.get(installation.tenant)
        assert (known.learning_opt_out, known.callback_signature) == (True, "sha1")


async def test_another_tenants_job_is_a_miss_in_every_cell(installation: Installation) -> None:
    """Be it in the same cell, in one that was left, or in another."""
    other = (await installation.retention.tenancy.create("other", cell="acme")).id
    mine = await installation.submit()
    theirs = await installation.submit(other)
    await installation.move("acme")
    for tenant, job in ((installation.tenant, theirs.id), (other, mine.id), (other, new_job_id())):
        for ask in (installation.retention.jobs.look_up, installation.retention.jobs.delete):
            with pytest.raises(NotFound):
                await ask(tenant, job)


async def test_a_tenant_that_is_deleted_while_it_is_changed_stays_deleted(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change does not bring it back, in either cell."""
    tenancy, tenants = installation.retention.tenancy, installation.home.tenants
    change = tenants.change

    async def and_meanwhile(*arguments: Any, **options: Any) -> object:
        changed = await change(*arguments, **options)
        await tenancy.delete(installation.tenant)
        return changed

    await installation.move("acme")
    monkeypatch.setattr(tenants, "change", and_meanwhile)
    with pytest.raises(NotFound):
        await tenancy.update(installation.tenant, name="again")
    for cell in (installation.home, installation.acme):
        with pytest.raises(NotFound):
            await cell.tenants.get(installation.tenant)


async def test_a_cell_knows_in_the_end_what_home_knows(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though home learned something else, or forgot the tenant, while the cell was told."""
    tenancy, tenants = installation.retention.tenancy, installation.acme.tenants
    await installation.move("acme")
    copy = tenants.copy
    copies = 0

    async def and_rename(known: Tenant) -> None:
        nonlocal copies
        copies += 1
        if copies == 2:  # the last one, but for this
            await installation.home.tenants.update(installation.tenant, name="later")
        await copy(known)

    async def and_delete(known: Tenant) -> None:
        await tenancy.delete(installation.tenant)
        await copy(known)

    monkeypatch.setattr(tenants, "copy", and_rename)
    await tenancy.update(installation.tenant, name="first")
    assert (await tenants.get(installation.tenant)).name == "later"
    monkeypatch.setattr(tenants, "copy", and_delete)
    with pytest.raises(NotFound):
        await tenancy.update(installation.tenant, name="last")
    with pytest.raises(NotFound):
        await tenants.get(installation.tenant)


async def test_a_deletion_takes_what_it_can_reach_and_says_that_there_is_more(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that is away keeps neither the credentials nor what is elsewhere; the next try finds it again."""
    await installation.move("acme")
    there = await installation.submit()
    await installation.move("home")
    here = await installation.submit()
    now = await installation.home.jobs.now()
    key = await installation.retention.tenants.create_key(installation.tenant, now=now)

    async def away(_: object) -> int:
        raise Unavailable("away")

    monkeypatch.setattr(installation.acme.jobs, "delete_tenant", away)
    with pytest.raises(Unavailable):
        await installation.retention.tenancy.delete(installation.tenant)
    assert await installation.retention.tenants.authenticate(key) is None
    assert [await installation.is_at(*each) for each in ((installation.home, here), (installation.acme, there))] == [
        False,
        True,
    ]
    monkeypatch.undo()
    assert await installation.retention.tenancy.delete(installation.tenant) == 1


async def test_a_tenant_that_never_was_in_the_home_cell_is_deleted_there_too(installation: Installation) -> None:
    """Its record and its keys are kept there."""
    tenant = (await installation.retention.tenancy.create("acme's", cell="acme")).id
    await installation.retention.tenants.create_key(tenant, now=await installation.home.jobs.now())
    assert await installation.retention.tenancy.delete(tenant) == 0
    for redis in (installation.home_redis, installation.acme_redis):
        assert not await redis.hexists("volant:tenants", tenant)
    assert await installation.home_redis.hlen("volant:apikeys") == 0
