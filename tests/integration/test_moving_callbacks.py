"""Callback URLs of a tenant that moves: known in the new cell, and still told from the old one."""

from typing import Any

import pytest

from retention.errors import CustomerErased, NotRegistered, Superseded
from retention.job import Callback
from retention.registrations import Registration
from retention.routing import carry
from retention.telling import Notification, Unwanted
from tests.integration.installation import SECRET, URL, Installation, finish
from tests.killing import Crash


@pytest.fixture(autouse=True)
def receivers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every challenge for answered."""
    monkeypatch.setattr("retention.callbacks.Callbacks._challenge", _agree)


async def _agree(*_: object) -> None:
    pass


async def known_at(installation: Installation) -> tuple[Registration | None, Registration | None]:
    """Return the registration at home, and that in the other cell."""
    cells = (installation.home, installation.acme)
    home, acme = [await cell.registrations.find(installation.tenant, URL) for cell in cells]
    return home, acme


async def register(installation: Installation, secret: str | None, customer: str | None = None) -> bool:
    """Register as the front does."""
    cell = await installation.retention.of(installation.tenant)
    return await installation.retention.callbacks.register(
        installation.tenant, URL, secret, customer=customer, began=await cell.jobs.now(), at=cell
    )


async def subscribe(installation: Installation) -> Callback:
    """Subscribe a new job as the front does."""
    cell = await installation.retention.of(installation.tenant)
    return await installation.retention.callbacks.subscribe(
        installation.tenant, URL, ("recognitions.started",), at=cell
    )


async def test_what_is_registered_counts_after_the_move(installation: Installation) -> None:
    """With its secret, resealed; what is pending in the old cell is told as before, what is new from the new one."""
    await installation.register()
    old = await installation.submit(callback=True)
    await installation.move("acme")
    new = await installation.submit(callback=True)
    for cell, job in ((installation.home, old), (installation.acme, new)):
        await finish(cell, job)
        told = await cell.telling.next(installation.tenant, job.id)
        assert isinstance(told, Notification)
        assert told.url == URL
        assert "X-Callback-Signature" in told.headers
    home, acme = await known_at(installation)
    assert home is not None
    assert acme is not None
    assert (home.url, home.secret, home.created) == (acme.url, acme.secret, acme.created)
    assert home.id != acme.id


async def test_a_url_is_taken_back_in_both(installation: Installation) -> None:
    """Nothing that is pending is told any more; and once it is known nowhere, that is said."""
    await installation.register()
    old = await installation.submit(callback=True)
    await finish(installation.home, old)
    await installation.move("acme")
    await installation.retention.callbacks.unregister(installation.tenant, URL)
    assert await known_at(installation) == (None, None)
    assert isinstance(await installation.home.telling.next(installation.tenant, old.id), Unwanted)
    with pytest.raises(NotRegistered):
        await installation.retention.callbacks.unregister(installation.tenant, URL)
    with pytest.raises(NotRegistered):
        await subscribe(installation)


@pytest.mark.parametrize("cell", ["home", "acme"])
async def test_a_url_that_only_one_cell_knows_is_taken_back(installation: Installation, cell: str) -> None:
    """Whichever it is; and it is carried once."""
    await installation.register()
    await installation.move("acme")
    await (await installation.retention.cells.get(cell)).registrations.remove(installation.tenant, URL)
    await installation.move("acme")
    assert None in await known_at(installation)
    await installation.retention.callbacks.unregister(installation.tenant, URL)
    assert await known_at(installation) == (None, None)


async def test_a_new_secret_and_a_label_reach_both(installation: Installation) -> None:
    """What is pending in the old cell is signed with the new secret, and goes with the customer."""
    await installation.register()
    await installation.move("acme")
    assert not await register(installation, "another", customer="c")
    for known in await known_at(installation):
        assert known is not None
        assert known.secret == "another"
    assert not await register(installation, None)
    for known in await known_at(installation):
        assert known is not None
        assert known.secret == "another"
    await installation.retention.jobs.erase_customer(installation.tenant, "c")
    assert await known_at(installation) == (None, None)


async def test_a_new_url_is_known_in_the_new_cell_alone(installation: Installation) -> None:
    """There is nothing of it in the old one that would have to be told."""
    await installation.move("acme")
    assert await register(installation, SECRET)
    home, acme = await known_at(installation)
    assert home is None
    assert acme is not None


async def test_a_label_comes_along(installation: Installation) -> None:
    """Each cell has tags of its own; an erasure finds what was labelled in any of them, also after a second move."""
    await installation.register(customer="c")
    await installation.move("acme")
    await installation.move("home")
    await installation.move("acme")
    await installation.register(customer="d")
    await installation.move("home")
    await installation.retention.jobs.erase_customer(installation.tenant, "c")
    assert await known_at(installation) == (None, None)
    await installation.register(customer="e")
    await installation.move("acme")
    await installation.retention.jobs.erase_customer(installation.tenant, "another")
    assert None not in await known_at(installation)
    await installation.retention.jobs.erase_customer(installation.tenant, "e")
    assert await known_at(installation) == (None, None)


async def test_before_it_is_carried_a_url_counts(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two steps of a move, a job with a callback is accepted."""

    async def nothing(*_: object) -> None:
        pass

    await installation.register()
    monkeypatch.setattr(installation.retention.tenancy, "_carry", nothing)
    await installation.move("acme")
    assert (await known_at(installation))[1] is None
    await subscribe(installation)
    monkeypatch.undo()
    await installation.retention.callbacks.unregister(installation.tenant, URL)
    await installation.move("acme")
    assert await known_at(installation) == (None, None)
    with pytest.raises(NotRegistered):
        await subscribe(installation)


async def test_what_is_taken_back_while_it_is_carried_is_not_carried(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it had been read already; what is registered anew after that stays."""
    await installation.register()
    adopt = installation.acme.registrations.adopt
    anew = False

    async def late(*arguments: object) -> bytes:
        await installation.retention.callbacks.unregister(installation.tenant, URL)
        adopted: bytes = await adopt(*arguments)  # type: ignore[arg-type]
        if anew:
            await installation.register("anew")
        return adopted

    monkeypatch.setattr(installation.acme.registrations, "adopt", late)
    await installation.move("acme")
    assert await known_at(installation) == (None, None)
    await installation.move("home")
    await installation.register()
    anew = True
    await installation.move("acme")
    home, acme = await known_at(installation)
    assert home is None
    assert acme is not None
    assert acme.secret == "anew"


async def test_what_is_taken_back_while_it_is_carried_is_not_known_though_that_breaks_off(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts in the new cell only when it has been seen that it still does in the old one."""
    await installation.register()
    adopt = installation.acme.registrations.adopt

    async def late(*arguments: Any) -> bytes:
        await installation.retention.callbacks.unregister(installation.tenant, URL)
        await adopt(*arguments)
        raise Crash

    monkeypatch.setattr(installation.acme.registrations, "adopt", late)
    with pytest.raises(Crash):
        await installation.move("acme")
    monkeypatch.setattr(installation.acme.registrations, "adopt", adopt)
    for _ in range(2):
        assert await known_at(installation) == (None, None)
        assert await installation.acme.registrations.all(installation.tenant) == []
        with pytest.raises(NotRegistered):
            await subscribe(installation)
        await installation.move("acme")
    assert await register(installation, SECRET)
    assert (await known_at(installation))[1] is not None
    await subscribe(installation)


@pytest.mark.parametrize("anew", [False, True])
async def test_what_is_taken_back_at_the_last_moment_is_not_carried(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, *, anew: bool
) -> None:
    """Nor is it there again when another carries it, or it is registered anew, at the same moment."""
    await installation.register()
    settle = installation.acme.registrations.settle
    known = await installation.home.registrations.find(installation.tenant, URL)
    assert known is not None

    async def late(*arguments: Any) -> None:
        monkeypatch.undo()
        monkeypatch.setattr("retention.callbacks.Callbacks._challenge", _agree)
        await carry(installation.tenant, known, installation.home, installation.acme)
        await installation.retention.callbacks.unregister(installation.tenant, URL)
        if anew:
            assert await register(installation, "anew")
        await settle(*arguments)

    monkeypatch.setattr(installation.acme.registrations, "settle", late)
    await installation.move("acme")
    home, acme = await known_at(installation)
    assert home is None
    assert (acme.secret if acme else None) == ("anew" if anew else None)


async def test_of_two_who_carry_at_once_both_succeed(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that comes while the command moves the URL is told."""
    await installation.register()
    settle = installation.acme.registrations.settle

    async def late(*arguments: Any) -> None:
        monkeypatch.setattr(installation.acme.registrations, "settle", settle)
        await subscribe(installation)
        await settle(*arguments)

    monkeypatch.setattr(installation.acme.registrations, "settle", late)
    await installation.move("acme")
    home, acme = await known_at(installation)
    assert home is not None
    assert acme is not None
    assert home.secret == acme.secret == SECRET


async def test_what_was_registered_in_the_new_cell_keeps_its_secret(installation: Installation) -> None:
    """It is the later one; and it bears the older labels, too."""
    await installation.register("old", customer="c")
    await installation.acme.tenants.copy(await installation.retention.tenants.get(installation.tenant))
    began = await installation.acme.jobs.now()
    await installation.acme.registrations.keep(installation.tenant, URL, "new", customer=None, began=began)
    await installation.move("acme")
    _, acme = await known_at(installation)
    assert acme is not None
    assert acme.secret == "new"
    await installation.retention.jobs.erase_customer(installation.tenant, "c")
    assert await known_at(installation) == (None, None)


async def test_what_was_registered_in_the_new_cell_outlives_what_is_taken_back_in_the_old(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was carried is taken back with its source."""
    await installation.register("old", customer="c")
    await installation.acme.tenants.copy(await installation.retention.tenants.get(installation.tenant))
    began = await installation.acme.jobs.now()
    await installation.acme.registrations.keep(installation.tenant, URL, "new", customer=None, began=began)
    adopt = installation.acme.registrations.adopt

    async def and_take_back(*arguments: object) -> bytes:
        await installation.home.registrations.remove(installation.tenant, URL)
        return await adopt(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(installation.acme.registrations, "adopt", and_take_back)
    await installation.move("acme")
    home, acme = await known_at(installation)
    assert home is None
    assert acme is not None
    assert acme.secret == "new"


async def test_a_tenant_that_moves_while_it_registers_is_told_to_repeat(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registration may have come too late to be carried."""

    async def and_move(*_: object) -> None:
        await installation.move("acme")

    monkeypatch.setattr("retention.callbacks.Callbacks._challenge", and_move)
    with pytest.raises(Superseded):
        await register(installation, SECRET)
    assert await register(installation, SECRET)
    await subscribe(installation)


async def test_an_erasure_during_a_registration_counts_in_every_cell(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label that was asked for before the erasure is not given after it, in the cell that was left either."""
    await installation.register()
    await installation.move("acme")
    keep = installation.acme.registrations.keep

    async def and_erase(*arguments: object, **options: object) -> object:
        kept = await keep(*arguments, **options)  # type: ignore[arg-type]
        await installation.retention.jobs.erase_customer(installation.tenant, "c")
        return kept

    monkeypatch.setattr(installation.acme.registrations, "keep", and_erase)
    with pytest.raises(CustomerErased):
        await register(installation, "another", customer="c")


async def test_a_move_during_an_erasure_brings_nothing_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The erasure looks again, and goes on in the cell that was not the tenant's when it began."""
    await installation.register(customer="c")
    remove = installation.home.registrations.remove_customer

    async def and_move(*arguments: object) -> None:
        monkeypatch.undo()
        await installation.move("acme")
        await installation.submit(customer="c")
        await remove(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(installation.home.registrations, "remove_customer", and_move)
    assert await installation.retention.jobs.erase_customer(installation.tenant, "c") == 1
    assert await known_at(installation) == (None, None)
