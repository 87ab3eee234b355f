"""Keys of a tenant that moves: one of its own stays one of its own, and nothing gets around a key that is disabled."""

import asyncio
import operator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest

from retention.errors import CellRefused, KeyRefused, NotFound, Unavailable
from retention.job import TenantId
from retention.key_places import Change, change_in
from retention.keyring import name_of
from retention.keys import COMMON, KeyId, KeyState, TenantKey
from retention.own_keys import give_key
from retention.seal import Key
from retention.tenancy import Tenancy
from retention.tenant import Tenant
from tests.integration.audited import told
from tests.integration.cell import HOUR, RESULTS
from tests.integration.installation import Installation, crashes, finish


async def own(installation: Installation, cell: str, tenant: TenantId | None = None) -> TenantKey | None:
    """Return the tenant's own key in a cell."""
    place = await installation.retention.cells.get(cell)
    keys = {key.id: key for key in await place.custody.all()}
    return keys.get(KeyId(tenant or installation.tenant))


async def wraps(installation: Installation, tenant: TenantId | None = None) -> str:
    """Return which key wraps that of a new job."""
    tenant = tenant or installation.tenant
    job = await installation.submit(tenant)
    stored = await (await installation.retention.of(tenant)).store.read(tenant, job.id)
    assert stored is not None
    return name_of(stored.key, job.id)[0]


async def test_premium_has_a_key_of_its_own_from_the_first_job_on(installation: Installation) -> None:
    """Plus has none."""
    tenant = (await installation.retention.tenancy.create("premium", plan="premium", cell="acme")).id
    assert await wraps(installation, tenant) == tenant
    assert await own(installation, "home", tenant) is None
    assert await wraps(installation) == COMMON


async def test_a_premium_tenant_that_is_refused_leaves_no_key(installation: Installation) -> None:
    await installation.retention.tenancy.create("plus", cell="acme")
    with pytest.raises(CellRefused):
        await installation.retention.tenancy.create("premium", plan="premium", cell="acme")
    assert [key.id for key in await installation.acme.custody.all()] == [COMMON]


async def test_one_that_becomes_premium_gets_a_key(installation: Installation) -> None:
    """In the cell to which it moves; or, if it has that one to itself, where it is."""
    await installation.move("acme", plan="premium")
    assert await wraps(installation) == installation.tenant
    assert await own(installation, "home") is None


async def test_one_that_stays_and_becomes_premium_gets_a_key(installation: Installation) -> None:
    await installation.move("acme")
    assert await own(installation, "acme") is None
    await installation.retention.tenancy.update(installation.tenant, plan="premium")
    assert await wraps(installation) == installation.tenant


async def test_a_key_that_was_made_here_has_a_fresh_one_in_the_new_cell(installation: Installation) -> None:
    """With its date; and a second move makes no further one. What is older stays under the old one."""
    expires = await installation.home.jobs.now() + HOUR
    await installation.home.custody.create(installation.tenant, expires=expires)
    older = await installation.submit()
    await installation.move("acme")
    there = await own(installation, "acme")
    assert there is not None
    assert (there.state, there.expires, there.imported) == (KeyState.ACTIVE, expires, False)
    assert await wraps(installation) == installation.tenant
    assert older.id in await installation.listed()
    await installation.move("home")
    await installation.move("acme")
    again = await own(installation, "acme")
    assert again is not None
    assert again.versions[-1].number == there.versions[-1].number


async def test_an_imported_key_is_to_be_brought_first(installation: Installation) -> None:
    """The refused move leaves nothing; a token can be had for the cell beforehand, and a deletion reaches it."""
    await installation.home.custody.import_material(installation.tenant, Key.random())
    with pytest.raises(KeyRefused, match="--cell acme"):
        await installation.move("acme")
    with pytest.raises(NotFound):
        await installation.acme.tenants.get(installation.tenant)
    await installation.retention.tenancy.prepare(installation.tenant, "acme")
    assert (await installation.retention.tenants.get(installation.tenant)).cell == "home"
    await installation.acme.imports.token(installation.tenant)
    with pytest.raises(KeyRefused, match="--cell acme"):
        await installation.move("acme")
    brought = await installation.acme.custody.import_material(installation.tenant, Key.random())
    await installation.move("acme")
    assert await own(installation, "acme") is not None
    assert brought.imported
    assert await wraps(installation) == installation.tenant


@pytest.mark.parametrize("moment", ["home.tenants.change", "acme.tenants.dismiss", "acme.keyring.remove"])
async def test_a_refused_move_takes_nothing_from_one_that_is_let_in_meanwhile(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whenever that is: the tenant and its key stay, and what came under the key is read."""
    await installation.home.custody.create(installation.tenant)
    refused, change = Tenancy(installation.retention.cells), installation.home.tenants.change
    place, _, name = moment.rpartition(".")
    owner = operator.attrgetter(place)(installation)
    does = getattr(owner, name)
    jobs = []

    async def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(owner, name, does)
        await installation.move("acme")
        jobs.append(await installation.submit())
        return await does(*arguments, **options)

    async def refuse(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(installation.home.tenants, "change", change)
        if does == change:
            await late(*arguments, **options)
            monkeypatch.setattr(installation.acme.tenants, "dismiss", None)  # not even for a moment
        raise CellRefused

    monkeypatch.setattr(owner, name, late)
    monkeypatch.setattr(installation.home.tenants, "change", refuse)
    with pytest.raises(CellRefused):
        await refused.update(installation.tenant, cell="acme")
    assert (await installation.acme.tenants.get(installation.tenant)).cell == "acme"
    assert await own(installation, "acme") is not None
    (job,) = jobs
    await finish(installation.acme, job)
    assert (await installation.retention.jobs.look_up(installation.tenant, job.id))[1] == RESULTS


@pytest.mark.parametrize("plan", ["plus", "premium"])
async def test_of_two_moves_at_once_both_are_let_in(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    """Although both would make the key: whose is too late takes that of the other, and takes nothing away."""
    await installation.home.custody.create(installation.tenant)
    custody, tenants = installation.acme.custody, installation.home.tenants
    create, change = custody.create, tenants.change
    made, ended, others = asyncio.Event(), asyncio.Event(), []

    async def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(custody, "create", create)
        others.append(asyncio.create_task(installation.move("acme", plan=plan)))
        await made.wait()
        return await create(*arguments, **options)

    async def later(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(tenants, "change", change)
        made.set()
        await ended.wait()
        return await change(*arguments, **options)

    monkeypatch.setattr(custody, "create", late)
    monkeypatch.setattr(tenants, "change", later)
    try:
        await installation.move("acme", plan=plan)
    finally:
        ended.set()
        await asyncio.gather(*others)
    assert await wraps(installation) == installation.tenant


@pytest.mark.parametrize("plan", ["plus", "premium"])
async def test_a_key_that_a_refused_move_takes_away_is_made_anew(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    """It was made before the move counted, and nothing came under it."""
    await installation.home.custody.create(installation.tenant)

    async def and_withdraw(*arguments: Any) -> None:
        await give_key(*arguments)
        monkeypatch.undo()
        await installation.retention.tenancy._withdraw(installation.tenant, installation.acme)
        assert await own(installation, "acme") is None

    monkeypatch.setattr("retention.tenancy.give_key", and_withdraw)
    await installation.move("acme", plan=plan)
    assert await wraps(installation) == installation.tenant


async def test_nothing_of_premium_comes_under_the_common_key_of_its_cell(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the tenant is known and its key, which a refused move took away, is not: no job, no callback URL."""
    tenancy, refused = installation.retention.tenancy, []
    publish = tenancy._publish

    async def and_withdraw(*arguments: Any) -> None:
        await give_key(*arguments)
        monkeypatch.setattr("retention.tenancy.give_key", give_key)
        await tenancy._withdraw(installation.tenant, installation.acme)

    async def and_use(tenant: TenantId) -> Tenant:
        known = await publish(tenant)
        monkeypatch.undo()
        for use in (installation.submit, installation.register):
            with pytest.raises(Unavailable) as caught:
                await use()
            refused.append(str(caught.value.__cause__ or caught.value))
        return known

    monkeypatch.setattr("retention.tenancy.give_key", and_withdraw)
    monkeypatch.setattr(tenancy, "_publish", and_use)
    await installation.move("acme", plan="premium")
    assert len([words for words in refused if "no key of its own" in words]) == 2
    await installation.register()
    assert await wraps(installation) == installation.tenant


async def test_a_tenant_that_is_deleted_while_it_moves_leaves_nothing(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit log of the new cell says that it went from there."""
    await installation.home.custody.create(installation.tenant)

    async def and_delete(*arguments: Any) -> None:
        await give_key(*arguments)
        await installation.retention.tenancy.delete(installation.tenant)

    monkeypatch.setattr("retention.tenancy.give_key", and_delete)
    with pytest.raises(NotFound):
        await installation.move("acme")
    assert await own(installation, "acme") is None
    assert await installation.acme_redis.hkeys("volant:tenants") == []
    events = [event for event, _ in await told(installation.acme.audit)]
    assert events.index("volant.key.create") < events.index("volant.tenant.delete")


async def test_a_deletion_takes_the_keys_of_all_cells(installation: Installation) -> None:
    """Also of one for which it was only prepared."""
    await installation.home.custody.create(installation.tenant)
    await installation.retention.tenancy.prepare(installation.tenant, "acme")
    await installation.acme.custody.import_material(installation.tenant, Key.random())
    await installation.retention.tenancy.delete(installation.tenant)
    for cell in ("home", "acme"):
        assert await own(installation, cell) is None
    for redis in (installation.home_redis, installation.acme_redis):
        assert [key async for key in redis.scan_iter(f"*{installation.tenant}*")] == []


async def test_a_deletion_takes_what_a_move_that_broke_off_has_left(installation: Installation) -> None:
    """In a cell of which the home cell was never told."""
    await installation.home.custody.create(installation.tenant)
    with (
        patch.object(installation.home.tenants, "change", side_effect=Unavailable),
        pytest.raises(Unavailable),
    ):
        await installation.move("acme")
    assert (await installation.retention.tenants.get(installation.tenant)).cells == ("home",)
    assert await own(installation, "acme") is not None
    await installation.retention.tenancy.delete(installation.tenant)
    assert [key.id for key in await installation.acme.custody.all()] == [COMMON]
    assert await installation.acme.tenants.all() == []


@pytest.mark.parametrize("state", ["suspended", "destroyed", "purged"])
async def test_a_move_does_not_get_around_a_key(installation: Installation, state: str) -> None:
    custody, id_ = installation.home.custody, KeyId(installation.tenant)
    await custody.create(installation.tenant)
    if state == "suspended":
        await custody.disable(id_)
    else:
        await custody.destroy(id_, grace=timedelta(days=1) if state == "destroyed" else None)
    with pytest.raises(KeyRefused, match=state):
        await installation.move("acme")
    assert (await installation.retention.tenants.get(installation.tenant)).cell == "home"
    assert await own(installation, "acme") is None


@pytest.mark.parametrize("how", ["disable", "destroy"])
async def test_a_key_that_is_disabled_while_its_tenant_moves_is_told_of(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whoever did that looked before the move counted; given again, as whoever moves is told, it reaches both cells."""
    id_ = KeyId(installation.tenant)
    await installation.home.custody.create(installation.tenant)
    change = Change(
        do=lambda custody: custody.disable(id_) if how == "disable" else custody.destroy(id_, grace=None),
        wanted=frozenset({KeyState.SUSPENDED}),
        say=str,
    )

    async def and_disable(*arguments: Any) -> None:
        await give_key(*arguments)
        monkeypatch.undo()
        await change_in(installation.retention, id_, None, change)

    monkeypatch.setattr("retention.tenancy.give_key", and_disable)
    with pytest.raises(KeyRefused, match="in the cell home was disabled or destroyed"):
        await installation.move("acme")
    await change_in(installation.retention, id_, None, change)
    for cell in ("home", "acme"):
        key = await own(installation, cell)
        assert key is not None
        assert key.state in {KeyState.SUSPENDED, KeyState.DESTROYED}
    await installation.move("acme")


async def test_a_creation_of_premium_that_breaks_off_can_be_given_again(installation: Installation) -> None:
    """Whoever is known at home has a key in its cell; and in the end the cell knows nobody else, and has no other."""

    async def look() -> None:
        for known in await installation.retention.tenants.all():
            if known.plan == "premium":
                assert await own(installation, "acme", known.id) is not None

    async def create() -> None:
        try:
            await installation.retention.tenancy.create("new", plan="premium", cell="acme")
        except CellRefused:  # a try before made it, and broke off before the audit log said so
            assert [known.name for known in await installation.retention.tenants.all()] == ["test", "new"]

    assert await crashes(create, look) > 5
    made = (await installation.retention.tenants.all())[-1].id
    assert await installation.acme_redis.hkeys("volant:tenants") == [made.encode()]
    assert {key.id for key in await installation.acme.custody.all()} == {COMMON, KeyId(made)}


@pytest.mark.parametrize("moment", ["acme.jobs.delete_tenant", "home.tenants.add"])
async def test_of_two_creations_at_once_one_is_whole(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Also when the other, which is refused, has taken it for one that broke off: before it counts, or just then."""
    first, second = (Tenancy(installation.retention.cells) for _ in range(2))
    add = installation.home.tenants.add
    place, _, name = moment.rpartition(".")
    owner = operator.attrgetter(place)(installation)
    does = getattr(owner, name)

    async def meanwhile(tenant: Tenant) -> Tenant:
        async def late(*arguments: Any) -> Any:
            monkeypatch.undo()
            await add(tenant)
            return await does(*arguments)

        monkeypatch.undo()
        monkeypatch.setattr(owner, name, late)
        with pytest.raises(CellRefused):
            await second.create("same", plan="premium", cell="acme")
        return tenant

    monkeypatch.setattr(installation.home.tenants, "add", meanwhile)
    made = await first.create("same", plan="premium", cell="acme")
    assert await installation.acme.tenants.all() == [made]
    assert await wraps(installation, made.id) == made.id


async def test_a_creation_erases_no_data(installation: Installation) -> None:
    """Whoever has some in the cell, and is not known at home, is named, and deleted by a command that asks."""
    tenancy = installation.retention.tenancy
    lost = (await tenancy.create("new", plan="premium", cell="acme")).id
    job = await installation.submit(lost)
    await installation.home_redis.hdel("volant:tenants", lost)
    with pytest.raises(CellRefused, match=f"volant tenant delete {lost}"):
        await tenancy.create("new", plan="premium", cell="acme")
    assert await installation.is_at(installation.acme, job)
    assert await tenancy.delete(lost) == 1
    await tenancy.create("new", plan="premium", cell="acme")


async def test_a_move_to_premium_that_breaks_off_is_completed_by_the_next(installation: Installation) -> None:
    """No job is ever under another key than its own once it is Premium."""

    async def look() -> None:
        if (await installation.retention.tenants.get(installation.tenant)).plan == "premium":
            assert await wraps(installation) == installation.tenant

    assert await crashes(lambda: installation.move("acme", plan="premium"), look) > 10
    assert (await installation.retention.tenants.get(installation.tenant)).cell == "acme"
