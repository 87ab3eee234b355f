"""The administrator's command line over two cells: every command finds what is in either."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from unittest.mock import AsyncMock, patch

import msgspec
import pytest
import redis as blocking
from click.testing import Result

from deploy.processes import RedisServer
from retention.bootstrap import Retention, open_retention
from retention.cells import Cell
from retention.job import TenantId
from retention.settings import Settings, load
from retention.tenant import Credential
from tests.commands import volant
from tests.integration.cell import AUDIO, HOUR, RESULTS, SUBMISSION, spoken
from tests.integration.installation import URL
from tests.stack import assert_all_expire

T = TypeVar("T")

WILLING = msgspec.structs.replace(SUBMISSION, learning_opt_out=False)


class Commands:
    """Runs `volant` in an installation of two cells, and what is done by requests and workers between commands."""

    def __init__(self, config: Path, content: str) -> None:
        config.write_text(content)
        self.settings: Settings = load({"VOLANT_CONFIG": str(config)})
        self._volant = partial(volant, config=str(config))

    def run(self, *arguments: str) -> str:
        """Return what a command prints; it must succeed."""
        done: Result = self._volant(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """Return what a command says on its way out with exit 1."""
        done: Result = self._volant(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        return done.stderr

    def failed(self, *arguments: str, answers: str | None = None) -> str:
        """Return all that is said by a command that goes wrong, answered so."""
        done: Result = self._volant(*arguments, input=answers)
        assert done.exit_code == 1, done.output
        return done.output

    def answered(self, *arguments: str, answers: str) -> str:
        """Return all that is said by a command that succeeds, answered so."""
        done: Result = self._volant(*arguments, input=answers)
        assert done.exit_code == 0, done.output
        return done.output

    def do(self, act: Callable[[Retention], Awaitable[T]]) -> T:
        """Do something without a command."""

        async def run() -> T:
            async with open_retention(self.settings, role="admin") as retention:
                return await act(retention)

        return asyncio.run(run())

    def logged(self, tenant: str) -> str:
        """Have a job of a tenant complete where the tenant's jobs go; return its id."""

        async def complete(retention: Retention) -> str:
            cell: Cell = await retention.of(TenantId(tenant))
            began = await cell.jobs.now()
            job = await cell.acceptance.submit(
                Credential(tenant=TenantId(tenant)), WILLING, spoken(AUDIO), began=began, results_ttl=HOUR
            )
            async with cell.holding.hold(job.tenant, job.id) as held:
                assert held is not None
                await cell.holding.finish(held, RESULTS)
            return job.id

        return self.do(complete)


@pytest.fixture
def commands(redis_server: RedisServer, nothing_is_kept_forever: None, second: RedisServer, tmp_path: Path) -> Commands:
    """Give an empty installation."""
    del nothing_is_kept_forever
    return Commands(
        tmp_path / "volant.toml",
        f"""
redis_url = "{redis_server.url}"
root_key_file = "{tmp_path}/root.key"
create_root_key = true
audio = "{tmp_path}/audio"
request_log = true

[cells.acme]
redis_url = "{second.url}"
root_key_file = "{tmp_path}/acme.key"
create_root_key = true
audio = "{tmp_path}/acme"
""",
    )


@pytest.fixture
def second(other_redis_server: RedisServer) -> Iterator[RedisServer]:
    """Give the second cell's Redis, empty."""
    with blocking.Redis.from_url(other_redis_server.url) as client:
        client.flushall()
    yield other_redis_server
    assert_all_expire(other_redis_server.url)


def test_tenants_are_created_listed_and_moved(commands: Commands) -> None:
    """Plan and cell are shown, and refusals are sentences."""
    one = commands.run("tenant", "create", "one").strip()
    two = commands.run("tenant", "create", "two", "--plan", "premium", "--cell", "acme").strip()
    listed = [line.split()[0:1] + line.split()[2:] for line in commands.run("tenant", "list").splitlines()]
    assert listed == [[one, "plus", "home", "one"], [two, "premium", "acme", "two"]]
    refusal = f"Error: cell acme: premium needs one of its own, and tenant {two} has it, or had\n"
    assert commands.refused("tenant", "update", one, "--cell", "acme") == refusal
    assert commands.refused("tenant", "create", "three", "--cell", "acme") == refusal
    assert commands.refused("tenant", "create", "three", "--cell", "globex") == (
        "Error: there is no cell globex in the settings\n"
    )
    assert commands.refused("tenant", "update", "t1", "--cell", "acme") == "Error: there is no t1\n"
    assert commands.refused("tenant", "create", "three", "--plan", "premium") == (
        "Error: premium needs a cell of its own, and home is everybody's: give --cell\n"
    )
    assert commands.run("tenant", "update", two, "--cell", "home", "--plan", "plus") == "updated\n"
    assert [line.split()[2:] for line in commands.run("tenant", "list").splitlines()][1] == ["plus", "home", "two"]
    commands.run("apikey", "create", two)
    assert commands.run("tenant", "delete", "--yes", two) == "deleted, with 0 jobs\n"


def test_what_is_left_of_a_tenant_in_its_cells_is_counted(commands: Commands) -> None:
    """So an operator sees whether a cell that it has left is empty."""
    tenant = commands.run("tenant", "create", "one").strip()
    for _ in range(2):
        commands.logged(tenant)
    assert fields(commands.run("tenant", "cells", tenant)) == [["home", "present", "2", "2"]]
    commands.run("tenant", "update", tenant, "--cell", "acme")
    commands.logged(tenant)
    commands.run("request-log", "purge", tenant, "--cell", "home", "--yes")
    now, left = fields(commands.run("tenant", "cells", tenant))
    assert now == ["acme", "present", "1", "1"]
    assert (left[0], left[2:]) == ("home", ["2", "0"])
    assert datetime.now(UTC) - datetime.fromisoformat(left[1]) < timedelta(minutes=1)
    assert commands.refused("tenant", "cells", "t1") == "Error: there is no t1\n"


def fields(printed: str) -> list[list[str]]:
    """Return what was printed, line by line."""
    return [line.split() for line in printed.splitlines()]


def test_the_request_log_is_seen_and_purged_in_all_cells(commands: Commands, tmp_path: Path) -> None:
    """Of a tenant that has moved, of all tenants, or of one cell."""
    moved = commands.run("tenant", "create", "moved").strip()
    other = commands.run("tenant", "create", "other", "--cell", "acme").strip()
    jobs = [commands.logged(moved), commands.logged(other)]
    commands.run("tenant", "update", moved, "--cell", "acme")
    jobs.append(commands.logged(moved))

    def listed(*arguments: str) -> list[str]:
        return [line.split()[2] for line in commands.run("request-log", "list", *arguments).splitlines()]

    assert listed() == jobs
    assert listed(moved) == [jobs[0], jobs[2]]
    assert listed("--cell", "home") == jobs[:1]
    assert listed("--cell", "acme") == jobs[1:]
    assert listed(moved, "--cell", "acme") == jobs[2:]
    for job in (jobs[0], jobs[2]):
        commands.run("request-log", "export", moved, job, "--to", str(tmp_path / "to"))
        assert (tmp_path / "to" / f"{job}.audio").read_bytes() == AUDIO
    assert commands.refused("request-log", "export", moved, jobs[1], "--to", str(tmp_path / "to")) == (
        f"Error: there is no {jobs[1]}\n"
    )
    assert commands.run("request-log", "purge", "--yes", moved) == "purged 2 entries\n"
    assert listed() == [jobs[1]]
    assert commands.run("request-log", "purge", "--yes", "--cell", "home") == "purged 0 entries\n"
    assert commands.run("request-log", "purge", "--yes") == "purged 1 entries\n"
    assert "there is no cell globex" in commands.refused("request-log", "list", "--cell", "globex")


def test_callbacks_are_seen_and_replayed_in_all_cells(commands: Commands) -> None:
    """A dead notification of a job that is in the cell that its tenant has left."""
    tenant = TenantId(commands.run("tenant", "create", "one").strip())

    async def die(retention: Retention) -> str:
        home = retention.cells.home
        began = await home.jobs.now()
        await home.registrations.keep(tenant, URL, None, customer=None, began=began)
        callback = await home.callbacks.subscribe(tenant, URL, ("recognitions.completed",))
        job = await home.acceptance.submit(
            Credential(tenant=tenant), SUBMISSION, spoken(AUDIO), began=began, results_ttl=HOUR, callback=callback
        )
        async with home.holding.hold(tenant, job.id) as held:
            assert held is not None
            await home.holding.finish(held, RESULTS)
        (entry,) = await home.notification_leases.claim(1, lapsed=True)
        told = await home.telling.next(tenant, job.id)
        assert entry.endswith(job.id)
        assert await home.telling.note(told, 410) == "dead"  # type: ignore[arg-type]
        return job.id

    job = commands.do(die)
    commands.run("tenant", "update", tenant, "--cell", "acme")
    assert commands.run("callbacks", "list", tenant).split()[1:] == ["unsigned", URL.partition("?")[0]]

    async def register(retention: Retention) -> None:
        acme = await retention.cells.get("acme")
        began = await acme.jobs.now()
        await acme.registrations.keep(tenant, "https://late.example/", None, customer=None, began=began)

    commands.do(register)
    assert "https://late.example/" in commands.run("callbacks", "list", tenant)
    dead = commands.run("callbacks", "dead")
    assert dead.split()[:3] == [tenant, job, "recognitions.completed"]
    assert commands.run("callbacks", "dead", "--cell", "acme") == ""
    assert commands.run("callbacks", "dead", "--cell", "home") == dead
    assert commands.run("callbacks", "replay", tenant, job) == "1 to be sent\n"
    assert commands.refused("callbacks", "replay", tenant, job) == "Error: there is no such dead notification\n"


def test_keys_are_those_of_the_tenants_cell(commands: Commands) -> None:
    """Where the tenant is now, unless another cell is named; `common` is that of home."""
    tenant = commands.run("tenant", "create", "one", "--plan", "premium", "--cell", "acme").strip()
    assert "wraps with version 2" in commands.run("key", "rotate", tenant)
    assert tenant not in commands.run("key", "list", "--cell", "home")
    assert tenant in commands.run("key", "list", "--cell", "acme")
    assert commands.run("key", "list").endswith("  cell acme\n")
    assert "there is no" in commands.refused("key", "disable", tenant, "--cell", "home")
    commands.run("key", "disable", tenant)
    assert commands.run("key", "enable", tenant, "--cell", "acme") == f"{tenant} is active\n"


@pytest.fixture
def moved(commands: Commands) -> str:
    """Give a tenant that was at home and is in acme, with a key of its own in both."""
    tenant = commands.run("tenant", "create", "one").strip()
    commands.run("key", "create", tenant)
    commands.run("tenant", "update", tenant, "--cell", "acme")
    return tenant


def states(commands: Commands, tenant: str) -> list[str]:
    """Return the states of a tenant's keys, at home and in acme."""
    return [line.split()[1] for line in commands.run("key", "list").splitlines() if line.startswith(tenant)]


def test_what_is_done_to_a_key_is_done_in_all_cells_of_its_tenant(commands: Commands, moved: str) -> None:
    """Older jobs are under another key than new ones; what is asked and answered names every cell."""
    said = "disabled: reads are refused within 5 seconds, and work on jobs stops within 30"
    assert commands.run("key", "disable", moved) == f"cell home: {said}\ncell acme: {said}\n"
    assert states(commands, moved) == ["suspended"] * 2
    assert commands.run("key", "enable", moved) == f"cell home: {moved} is active\ncell acme: {moved} is active\n"
    asked = commands.answered("key", "destroy", moved, answers="y\n")
    assert f"no data of the tenant whose key is {moved} can be read in the cells home and acme" in asked
    assert states(commands, moved) == ["destroyed"] * 2
    assert commands.run("key", "restore", moved) == f"cell home: {moved} is active\ncell acme: {moved} is active\n"
    asked = commands.answered("key", "destroy", moved, "--now", answers=f"y\n{moved}\n")
    assert f"All data of the tenant whose key is {moved} is erased in the cells home and acme" in asked
    assert states(commands, moved) == ["purged"] * 2


def test_one_cell_of_several_may_be_named(commands: Commands, moved: str) -> None:
    """Then the question is of that one, and nothing is done in the others."""
    commands.run("key", "disable", moved, "--cell", "home")
    assert states(commands, moved) == ["suspended", "active"]
    asked = commands.answered("key", "destroy", moved, "--cell", "acme", answers="y\n")
    assert "can be read in the cell acme." in asked
    assert states(commands, moved) == ["suspended", "destroyed"]


def test_a_cell_in_which_nothing_is_to_be_done_is_no_trouble(commands: Commands, moved: str) -> None:
    """A command that broke off is given again; and where there is no key, that is said."""
    commands.run("key", "disable", moved, "--cell", "home")
    first, second = commands.run("key", "disable", moved).splitlines()
    assert (first, second[:20]) == ("cell home: the key is suspended already", "cell acme: disabled:")
    assert states(commands, moved) == ["suspended"] * 2
    again = commands.failed("key", "disable", moved)
    assert again.endswith("cell acme: the key is suspended already\nError: nothing was changed\n")
    other = commands.run("tenant", "create", "other").strip()
    commands.run("tenant", "update", other, "--cell", "acme")
    assert commands.failed("key", "disable", other).endswith(f"Error: there is no key {other}\n")
    assert commands.refused("key", "destroy", other) == f"Error: there is no key {other}\n"
    commands.run("key", "create", other)
    first, second = commands.run("key", "disable", other).splitlines()
    assert first == "cell home: there is no key of the tenant's own; what it has there is under `common`"
    assert second.startswith("cell acme: disabled")


def test_a_cell_in_which_it_goes_wrong_keeps_nothing_back_in_the_others(
    commands: Commands, moved: str, second: RedisServer, tmp_path: Path
) -> None:
    """It is named, with what went wrong, and the command that is given again does the rest."""
    config = tmp_path / "volant.toml"
    away = Commands(tmp_path / "away.toml", config.read_text().replace(second.url, f"unix://{tmp_path}/nobody.sock"))
    for do, state in (("disable", "suspended"), ("enable", "active")):
        told = away.failed("key", do, moved)
        assert "cell home: " in told
        assert "cell acme: Redis cannot be reached, or refuses: " in told
        assert told.endswith("Error: not done in acme: the command can be given again\n")
        assert states(commands, moved)[0] == state
        assert f"cell home: the key is {state}" in commands.run("key", do, moved)
        assert states(commands, moved) == [state] * 2
    commands.run("tenant", "update", moved, "--cell", "home")
    asked = away.failed("key", "destroy", moved, answers="y\n")
    assert "can be read in the cells acme and home" in asked
    assert states(commands, moved) == ["destroyed", "active"]


def test_a_cell_that_refuses_is_no_success(commands: Commands, moved: str) -> None:
    """Whatever was done in the other."""
    commands.run("key", "destroy", moved, "--yes", "--cell", "acme")
    commands.run("key", "disable", moved, "--cell", "home")
    told = commands.failed("key", "enable", moved)
    assert f"cell home: {moved} is active\ncell acme: the key is destroyed, and not suspended\n" in told
    assert told.endswith("Error: not done in acme: the command can be given again\n")
    commands.answered("key", "destroy", moved, "--yes", "--now", "--cell", "acme", answers=f"{moved}\n")
    commands.run("key", "disable", moved)
    assert f"cell home: {moved} is active\n" in commands.run(
        "key", "enable", moved
    )  # in acme there is nothing any more


def test_a_tenant_that_moves_meanwhile_is_looked_at_again(commands: Commands, moved: str) -> None:
    """Nothing is destroyed in a cell that nobody was asked about, and nothing is called done that may not be."""
    with patch("retention.key_cli.cells_of", AsyncMock(return_value=("home",))):
        told = commands.failed("key", "destroy", moved, answers="y\n")
    assert told.endswith("Error: the tenant has moved meanwhile: give the command again; nothing was done\n")
    assert states(commands, moved) == ["active"] * 2
    with patch("retention.key_places.cells_of", AsyncMock(side_effect=[("home", "acme"), ("home", "acme", "home")])):
        told = commands.failed("key", "disable", moved)
    assert told.endswith("Error: the tenant has moved meanwhile: give the command again\n")


def test_a_key_is_brought_into_a_cell_before_the_move(commands: Commands, tmp_path: Path) -> None:
    """The refused move names the commands, and these let it go on."""
    tenant = commands.run("tenant", "create", "one").strip()
    material = tmp_path / "key.bin"
    material.touch(mode=0o600)
    material.write_bytes(os.urandom(32))

    def bring(*options: str) -> None:
        token, wrapped, proof = (tmp_path / name for name in ("token.json", "wrapped.bin", "proof.bin"))
        for file in (wrapped, proof):
            file.unlink(missing_ok=True)
        token.write_text(commands.run("key", "import-token", tenant, *options))
        given = ["--material", str(material), "--out-material", str(wrapped), "--out-proof", str(proof)]
        commands.run("key", "prepare", "--token", str(token), *given)
        id_ = msgspec.json.decode(token.read_bytes())["id"]
        given = ["--token", id_, "--material", str(wrapped), "--proof", str(proof)]
        commands.run("key", "import", tenant, *given, *options)

    bring()
    refused = commands.refused("tenant", "update", tenant, "--cell", "acme")
    assert "`volant key import-token` and `volant key import`, both with `--cell acme`" in refused
    bring("--cell", "acme")
    commands.run("tenant", "update", tenant, "--cell", "acme")
    listed = [line.split() for line in commands.run("key", "list").splitlines()]
    assert [words[3] for words in listed if words[0] == tenant] == ["imported"] * 2
    assert commands.run("tenant", "list").split()[2:4] == ["plus", "acme"]


def test_each_cell_has_an_audit_log(commands: Commands) -> None:
    """A tenant's records are shown from all its cells, also once it is deleted; each chain is proven for itself."""
    tenant = commands.run("tenant", "create", "one", "--plan", "premium", "--cell", "acme").strip()
    listed = commands.run("audit", "list", tenant).splitlines()
    assert {(line.split()[2], "cell=acme" in line) for line in listed} == {
        ("volant.tenant.create", False),
        ("volant.tenant.create", True),
        ("volant.key.create", True),
        ("volant.key.ack-rotate", True),
    }
    assert "volant.key.create" not in commands.run("audit", "list", "--cell", "home")
    assert commands.run("audit", "verify", "--cell", "acme").startswith("whole, from record 1 to ")
    assert "volant.key.create" in commands.run("audit", "export", "--cell", "acme")
    commands.run("tenant", "delete", "--yes", tenant)
    for cell in ("home", "acme"):
        events = [line.split()[2:4] for line in commands.run("audit", "list", "--cell", cell).splitlines()]
        assert events.count(["volant.tenant.delete", "pending"]) == 1
        assert events.count(["volant.tenant.delete", "success"]) == 1
    left = commands.run("audit", "list", tenant).splitlines()
    assert set(listed) < set(left)
    deleted = ("volant.tenant.delete", "success")
    assert [("cell=acme" in line) for line in left if tuple(line.split()[2:4]) == deleted] == [True, False]


def test_what_is_a_cells_own_is_asked_for_by_its_name(commands: Commands) -> None:
    """The horizon of erasures, the root, a tenant's limits."""
    tenant = commands.run("tenant", "create", "one", "--cell", "acme").strip()
    status = commands.run("erasure", "status", "--cell", "acme").splitlines()
    assert [line.partition(": ")[::2] for line in status[:2]] == [
        ("oldest erasure that the files may still show", "not known"),
        ("nothing is left in them of erasures before", "not known"),
    ]
    assert status[2].startswith("but: since Redis started, its file was not rewritten yet")
    assert commands.run("root", "check", "--cell", "acme") == "root: file\nwraps and unwraps\n"
    commands.logged(tenant)
    assert commands.run("tenant", "limits", tenant).splitlines()[4].split() == ["tenant", "waiting", "100000", "0"]
    assert "there is no cell other" in commands.refused("root", "check", "--cell", "other")
