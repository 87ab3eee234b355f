"""Plus: tenants share a cell and its key. Premium: a cell and keys of its own, and nothing in it opens another's."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import permutations
from pathlib import Path

import pytest
from redis.asyncio import Redis

from deploy.processes import RedisServer, temporary_directory
from retention.bootstrap import Retention, open_retention
from retention.errors import KeyUnavailable, Unsealable
from retention.job import Completed, TenantId
from retention.keyring import Keyring
from retention.roots.file import FileRoot
from retention.seal import Kind, unseal
from retention.tenant import Credential
from tests.integration.cell import AUDIO, HOUR, RESULTS, SUBMISSION, spoken
from tests.integration.installation import settings_of
from tests.security.loot import Loot, steal

CELLS = ("home", "acme", "globex")
CUSTOMER = "one and the same"
URL = "https://receiver.example/{cell}"
WILLING = type(SUBMISSION)(media=SUBMISSION.media, model=SUBMISSION.model, learning_opt_out=False)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, RedisServer]]:
    """Give a Redis for each cell."""
    with temporary_directory() as directory:
        started = {cell: RedisServer(directory / cell) for cell in CELLS}
        yield started
        for server in started.values():
            server.stop()


@pytest.fixture
async def redises(servers: dict[str, RedisServer]) -> AsyncIterator[dict[str, Redis]]:
    """Give clients of them, all empty."""
    async with AsyncExitStack() as stack:
        clients = {
            cell: await stack.enter_async_context(Redis.from_url(server.url)) for cell, server in servers.items()
        }
        for client in clients.values():
            await client.flushall()
        yield clients


async def live(retention: Retention, tenant: TenantId, cell: str) -> None:
    """Leave of everything something: a waiting job that tells, a completed one, an entry of the log, a registration."""
    place = await retention.of(tenant)
    assert place.name == cell
    await place.imports.token(tenant)
    began = await place.jobs.now()
    await place.registrations.keep(tenant, URL.format(cell=cell), "secret", customer=CUSTOMER, began=began)
    callback = await place.callbacks.subscribe(tenant, URL.format(cell=cell), ("recognitions.completed",))
    for ends in (False, True):
        job = await place.acceptance.submit(
            Credential(tenant=tenant),
            WILLING,
            spoken(AUDIO),
            began=began,
            results_ttl=HOUR,
            customer=CUSTOMER,
            callback=callback,
            user_token="token",
        )
        if ends:
            async with place.holding.hold(tenant, job.id) as held:
                assert held is not None
                assert isinstance(await place.holding.finish(held, RESULTS), Completed)


@pytest.fixture
async def loots(redises: dict[str, Redis], servers: dict[str, RedisServer], tmp_path: Path) -> dict[str, Loot]:
    """Give everything of three cells: home with two tenants of Plus, and two of Premium with cells of their own."""
    settings = settings_of(servers["home"].url, {cell: servers[cell].url for cell in CELLS[1:]}, tmp_path)
    async with open_retention(settings, role="admin") as retention:
        for name in ("plus one", "plus two"):
            await live(retention, (await retention.tenancy.create(name)).id, "home")
        for cell in CELLS[1:]:
            tenant = await retention.tenancy.create(f"tenant of {cell}", plan="premium", cell=cell)
            await live(retention, tenant.id, cell)
    return {cell: await steal(redises[cell], settings.of_cell(cell)) for cell in CELLS}


async def test_nothing_of_one_cell_opens_with_all_the_keys_of_another(loots: dict[str, Loot]) -> None:
    """Not with its root key, its common key, nor any key that these open; while its own open everything.

    Whoever has Premium A has nothing of Premium B, nor of Plus; and the common key of Plus opens nothing of Premium.
    """
    keys = {}
    for cell, loot in loots.items():
        opened, keys[cell] = loot.opened([loot.root])
        assert opened == {sealed.place for sealed in loot.sealed}
        assert loot.kinds() == set(Kind)
        # The root; tenant, index, token and audit key; data keys of jobs, log and registration; that of a token.
        assert len(keys[cell]) >= 1 + 4 + 4 + 1
    for thief, victim in permutations(CELLS, 2):
        assert loots[victim].opened(keys[thief])[0] == set(), f"keys of {thief} open what is of {victim}"


async def test_premium_is_under_keys_of_its_own(redises: dict[str, Redis], loots: dict[str, Loot]) -> None:
    """Each tenant under its own, from its first job on; those of Plus under the common key of their cell."""
    for cell, loot in loots.items():
        tenants = {name.decode() for name in await redises[cell].hkeys("volant:tenants")}
        used = {
            context.key_id for sealed in loot.sealed for context in sealed.contexts if context.kind is Kind.DATA_KEY
        }
        assert used == ({"common"} if cell == "home" else tenants)
        assert {name.decode() for name in await redises[cell].hkeys("volant:tenantkeys")} == used | {"common"}


async def test_a_cell_knows_nothing_of_the_tenants_of_another(
    loots: dict[str, Loot], redises: dict[str, Redis]
) -> None:
    """No id, no name, no customer: whose they are, and that they are one and the same, cannot be seen."""
    names = {cell: await redises[cell].hkeys("volant:tenants") for cell in CELLS}
    tags = {}
    for cell in CELLS[1:]:
        (mine,) = names[cell]
        assert mine in loots[cell].text
        assert b"tenant of " + cell.encode() in loots[cell].text
        assert mine in names["home"]  # which knows all, as the authority on credentials
        tags[cell] = {key.rpartition(b":")[2] async for key in redises[cell].scan_iter("volant:customer:*")}
    for one, other in permutations(CELLS[1:], 2):
        for name in names[other]:
            assert name not in loots[one].text
        assert b"tenant of " + other.encode() not in loots[one].text
        for tag in tags[other]:
            assert tag in loots[other].text
            assert tag not in loots[one].text


async def test_tenants_of_plus_are_told_apart_by_the_context_of_what_is_sealed(loots: dict[str, Loot]) -> None:
    """They share a key, and still what is one's does not open as the other's: it is bound to whose it is."""
    home = loots["home"]
    _, keys = home.opened([home.root])
    tenants = {context.tenant for sealed in home.sealed for context in sealed.contexts if context.tenant}
    assert len(tenants) == 2
    for sealed in home.sealed:
        for context in sealed.contexts:
            for another in tenants - {context.tenant} if context.tenant else ():
                moved = type(context)(
                    **{name: getattr(context, name) for name in context.__struct_fields__} | {"tenant": another}
                )
                for key in keys:
                    with pytest.raises(Unsealable):
                        unseal(key, sealed.ciphertext, moved)


async def test_the_root_key_of_one_cell_opens_no_other(loots: dict[str, Loot], redises: dict[str, Redis]) -> None:
    """A process that is given the wrong one does not start."""
    for thief, victim in permutations(CELLS, 2):
        with pytest.raises(KeyUnavailable):
            await Keyring.open(redises[victim], FileRoot(loots[thief].root))
