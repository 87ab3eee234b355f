"""Cells at hand: opened when they are needed, and the trouble of one is the trouble of its tenants alone."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import cast
from unittest.mock import patch

import msgspec
import pytest
import structlog
from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention.bootstrap import open_own_cell, open_retention
from retention.cell_settings import HOME
from retention.cells import Cell, Cells
from retention.errors import CellRefused, KeyUnavailable, NotFound, SettingsError, Unavailable
from retention.settings import Settings
from tests.integration.audited import told
from tests.integration.installation import Installation, settings_of
from tests.stack import wait_until


@pytest.fixture
def settings(redis_server: RedisServer, redis: Redis, other_redis_server: RedisServer, tmp_path: Path) -> Settings:
    """Give the settings of a home cell, of one that can be reached and of one that cannot."""
    del redis
    others = {"acme": other_redis_server.url, "away": f"unix://{tmp_path}/nobody.sock"}
    return settings_of(redis_server.url, others, tmp_path)


@pytest.mark.usefixtures("other_redis")
async def test_a_cell_that_is_away_keeps_nobody_else_waiting(settings: Settings) -> None:
    """The front starts without it, and serves; its own tenants are told that it is unavailable."""
    async with open_retention(settings, role="api") as retention:
        await retention.jobs.check()
        mine = await retention.tenancy.create("mine")
        assert (await retention.of(mine.id)).name == HOME
        acmes = await retention.tenancy.create("acme's", cell="acme")
        assert (await retention.of(acmes.id)).name == "acme"
        with pytest.raises(Unavailable, match="cell away: "):
            await retention.tenancy.create("its", cell="away")
        its = await retention.tenants.add(msgspec.structs.replace(mine, id="t", cell="away"))
        for ask in (retention.of(its.id), retention.jobs.latest(its.id), retention.jobs.erase_customer(its.id, "c")):
            with pytest.raises(Unavailable):
                await ask
        assert await retention.jobs.latest(mine.id) == []


@pytest.mark.usefixtures("other_redis")
async def test_a_worker_opens_its_own_cell_alone(settings: Settings, tmp_path: Path) -> None:
    """It needs neither the root key nor the Redis of another."""
    acmes = msgspec.structs.replace(settings, cell="acme", redis_url=f"unix://{tmp_path}/nothing.sock")
    async with open_own_cell(acmes, role="worker") as cell:
        assert cell.name == "acme"
        await cell.jobs.check()
    assert not settings.root_key_file.exists()
    assert (tmp_path / "acme" / "root.key").exists()


async def test_what_is_wrong_with_a_cell_is_the_trouble_of_its_tenants(
    installation: Installation, settings: Settings, tmp_path: Path
) -> None:
    """Another root key than that of its keys, a table that is gone: unavailable, and nobody else's concern."""
    tenant = await installation.retention.tenancy.create("acme's", cell="acme")
    wrong = msgspec.structs.replace(
        settings,
        cells={"acme": msgspec.structs.replace(settings.cells["acme"], root_key_file=tmp_path / "another.key")},
    )
    for changed, error in ((wrong, KeyUnavailable), (msgspec.structs.replace(settings, cells={}), SettingsError)):
        async with open_retention(changed, role="api") as retention:
            with pytest.raises(Unavailable):
                await retention.of(tenant.id)
            with pytest.raises(error):
                await retention.cells.get("acme")
            assert (await retention.of(installation.tenant)).name == HOME


async def test_a_copy_of_a_root_key_is_refused(settings: Settings, other_redis: Redis, tmp_path: Path) -> None:
    """Whatever it is called: its cell is not opened, and has no tenant."""
    async with open_retention(settings, role="admin"):
        pass
    (tmp_path / "acme").mkdir()
    shutil.copy(tmp_path / "root.key", tmp_path / "acme" / "root.key")
    async with open_retention(settings, role="admin") as retention:
        for _ in range(2):
            with pytest.raises(SettingsError, match="the cells home and acme must not share a root key"):
                await retention.tenancy.create("acme's", cell="acme")
    assert await other_redis.keys() == []


@pytest.mark.parametrize("trouble", [None, Unavailable("the root is away")])
async def test_another_database_of_one_server_is_no_other_redis(
    settings: Settings, redis: Redis, redis_server: RedisServer, tmp_path: Path, trouble: Unavailable | None
) -> None:
    """Whatever it is called, and though the root of the cell whose it is be away: nothing is written there."""
    (tmp_path / "another.sock").hardlink_to(redis_server.url.removeprefix("unix://"))
    there = msgspec.structs.replace(settings.cells["acme"], redis_url=f"unix://{tmp_path}/another.sock?db=1")
    async with open_retention(msgspec.structs.replace(settings, cells={"acme": there}), role="admin") as retention:
        root = retention.cells.home.keyring._root
        with (
            patch.object(root, "unwrap", side_effect=trouble) if trouble else nullcontext(),
            pytest.raises(SettingsError, match="the cells home and acme must not share a Redis"),
        ):
            await retention.tenancy.create("acme's", cell="acme")
    assert "db1" not in await redis.info("keyspace")


@pytest.mark.parametrize("copied", [True, False])
async def test_a_cell_is_looked_at_without_writing_into_another(
    settings: Settings, redis: Redis, other_redis: Redis, tmp_path: Path, *, copied: bool
) -> None:
    """Were the home cell emptied under a running process, the root of the next cell must not make it keys."""
    async with open_retention(settings, role="admin") as retention:
        (tmp_path / "acme").mkdir()
        if copied:
            shutil.copy(tmp_path / "root.key", tmp_path / "acme" / "root.key")
        await redis.flushall()
        with pytest.raises(SettingsError, match="must not share a root key") if copied else nullcontext():
            await retention.cells.get("acme")
        assert await redis.keys() == []
        assert bool(await other_redis.keys()) is not copied


async def test_all_who_wait_share_one_attempt_and_the_next_is_a_new_one() -> None:
    """Requests for a cell that is away do not queue up one behind the other."""
    attempts = 0
    may_open = asyncio.Event()

    @asynccontextmanager
    async def opening(name: str) -> AsyncIterator[Cell]:
        nonlocal attempts
        attempts += 1
        await may_open.wait()
        if attempts == 1:
            raise Unavailable(name)
        yield cast("Cell", object())

    async with Cells.around(cast("Cell", object()), ("acme",), opening) as cells:
        waiting = [asyncio.create_task(cells.get("acme")) for _ in range(5)]
        gone = asyncio.create_task(cells.get("acme"))

        async def attempted() -> bool:
            return attempts == 1

        await wait_until(attempted)
        gone.cancel()
        may_open.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 5
        assert await cells.get("acme") is await cells.get("acme")
        assert attempts == 2
        with pytest.raises(SettingsError, match="there is no cell globex"):
            await cells.get("globex")


@pytest.mark.usefixtures("other_redis")
async def test_the_log_says_which_cell_is_not_fit(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once when it is found, and not at every look."""
    monkeypatch.setattr("retention.cells.LOOK_EVERY", type(settings.lease)(milliseconds=1))
    looks: Counter[str] = Counter()
    serving = Cells.serving

    async def counted(cells: Cells, name: str) -> Cell:
        looks[name] += 1
        return await serving(cells, name)

    monkeypatch.setattr(Cells, "serving", counted)
    with structlog.testing.capture_logs() as lines:
        async with open_retention(settings, role="api"):

            async def looked() -> bool:
                return min(looks["acme"], looks["away"]) > 3

            await wait_until(looked)
    said = sorted((line["event"], line["cell"]) for line in lines if "cell" in line)
    assert said == [("cell not ready", "away"), ("cell ready", "acme")]


async def test_premium_is_alone_in_its_cell(installation: Installation) -> None:
    """Nobody comes into a cell that a tenant of Premium has, or had; nor does one go where another is, or was."""
    tenancy = installation.retention.tenancy
    with pytest.raises(CellRefused, match="premium needs a cell of its own"):
        await tenancy.create("premium", plan="premium")
    with pytest.raises(CellRefused, match="premium needs a cell of its own"):
        await installation.move("home", plan="premium")
    shared = await tenancy.create("shared", cell="acme")
    for act in (
        lambda: tenancy.create("premium", plan="premium", cell="acme"),
        lambda: installation.move("acme", plan="premium"),
    ):
        with pytest.raises(CellRefused, match=f"cell acme: .* tenant {shared.id} has it, or had"):
            await act()
    await tenancy.update(shared.id, cell="home")
    with pytest.raises(CellRefused, match=f"tenant {shared.id}"):
        await installation.move("acme", plan="premium")
    await tenancy.delete(shared.id)
    await installation.move("acme", plan="premium")
    for plan in ("plus", "premium"):
        with pytest.raises(CellRefused, match=f"tenant {installation.tenant}"):
            await tenancy.create("late", plan=plan, cell="acme")
    await tenancy.update(installation.tenant, plan="plus", cell="home")
    with pytest.raises(CellRefused, match=f"tenant {installation.tenant}"):
        await tenancy.create("late", cell="acme")
    with pytest.raises(SettingsError, match="there is no cell globex"):
        await tenancy.create("nowhere", cell="globex")
    assert [known.name for known in await installation.retention.tenants.all()] == ["test"]
    assert await installation.acme_redis.hkeys("volant:tenants") == [installation.tenant.encode()]


async def test_two_tenants_cannot_both_have_the_last_cell(installation: Installation) -> None:
    """Of commands given at the same time, one is refused, and leaves nothing behind in the cell."""
    tenancy = installation.retention.tenancy
    creating = [tenancy.create(f"number {number}", plan="premium", cell="acme") for number in range(5)]
    outcomes = await asyncio.gather(*creating, return_exceptions=True)
    created = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(created) == 1
    assert sum(isinstance(outcome, CellRefused) for outcome in outcomes) == 4
    assert await installation.acme_redis.hkeys("volant:tenants") == [created[0].id.encode()]


async def test_a_cells_own_log_tells_what_came_into_it_and_went(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a tenant that it knows: learned of, changed, forgotten with its key. Telling it the same again is nothing."""
    tenancy, log = installation.retention.tenancy, installation.acme.audit

    def twice(*events: str) -> list[tuple[str, str]]:
        return [(event, outcome) for event in events for outcome in ("pending", "success")]

    tenant = await tenancy.create("one", cell="acme")
    await tenancy.update(tenant.id, name="other")
    await tenancy.update(tenant.id, name="other")
    assert await told(log) == twice("volant.tenant.create", "volant.tenant.update")
    start = (await log.ends()).head.seq

    async def unseen(*_: object) -> None:
        """Have it refused in the step that counts."""

    monkeypatch.setattr(tenancy, "_check", unseen)
    with pytest.raises(CellRefused):
        await tenancy.create("late", plan="premium", cell="acme")
    assert await told(log, since=start) == twice(
        "volant.tenant.create", "volant.key.create", "volant.key.ack-rotate", "volant.tenant.delete"
    )


async def test_a_move_that_is_refused_at_the_last_moment_leaves_nothing_behind(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another tenant took the cell between the first look and the step that counts."""
    taken = await installation.retention.tenancy.create("taken", plan="premium", cell="acme")

    async def unseen(*_: object) -> None:
        pass

    monkeypatch.setattr(installation.retention.tenancy, "_check", unseen)
    with pytest.raises(CellRefused):
        await installation.move("acme")
    assert await installation.acme_redis.hkeys("volant:tenants") == [taken.id.encode()]
    assert (await installation.retention.tenants.get(installation.tenant)).cells == ("home",)


async def test_what_is_deleted_of_a_tenant_that_home_forgot_is_looked_for_everywhere(
    installation: Installation,
) -> None:
    """A deletion that broke off has taken the record that said which cells they are."""
    await installation.move("acme")
    await installation.submit()
    await installation.home.tenants.dismiss(installation.tenant)
    assert await installation.retention.tenancy.delete(installation.tenant) == 1
    with pytest.raises(NotFound):
        await installation.retention.tenancy.delete(installation.tenant)
