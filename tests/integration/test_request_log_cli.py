"""`volant request-log` and the tenants' opt-out, on an installation with two entries."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest

from retention.bootstrap import open_retention
from retention.job import JobId, TenantId
from retention.settings import load
from retention.tenant import Credential
from tests.commands import Run
from tests.integration.cell import AUDIO, HOUR, RESULTS, spoken
from tests.integration.logged import WILLING


@pytest.fixture
def settings(settings: dict[str, str]) -> dict[str, str]:
    """Give the settings of an empty installation with a request log."""
    return {**settings, "request_log": "true"}


@pytest.fixture
def entries(settings: dict[str, str]) -> list[tuple[TenantId, JobId]]:
    """Give two entries, each of a tenant of its own."""

    async def keep(name: str) -> tuple[TenantId, JobId]:
        loaded = load({f"VOLANT_{setting.upper()}": value for setting, value in settings.items()})
        async with open_retention(loaded, role="admin") as retention:
            began = await retention.cells.home.jobs.now()
            tenant = (await retention.tenants.create(name, now=began)).id
            home = retention.cells.home
            job = await home.acceptance.submit(
                Credential(tenant=tenant), WILLING, spoken(AUDIO), began=began, results_ttl=HOUR
            )
            async with home.holding.hold(tenant, job.id) as held:
                assert held is not None
                await retention.cells.home.holding.finish(held, RESULTS)
        return tenant, job.id

    return [asyncio.run(keep(name)) for name in ("one", "two")]


def test_the_log_is_listed_without_content(run: Run, entries: list[tuple[TenantId, JobId]]) -> None:
    """Time, tenant, job, bytes; all of it or a tenant's."""
    listed = run("request-log", "list").stdout.splitlines()
    for line, (tenant, job) in zip(listed, entries, strict=True):
        assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  {tenant}  {job}  {len(AUDIO) + 72}", line)
    assert run("request-log", "list", entries[1][0]).stdout.splitlines() == listed[1:]
    assert run("request-log", "list", "nobody").stdout == ""


def test_an_entry_is_exported(run: Run, entries: list[tuple[TenantId, JobId]], tmp_path: Path) -> None:
    """The bytes that were uploaded, the results, what was asked; for the operator only; never over another file."""
    tenant, job = entries[0]
    to = tmp_path / "export"
    export = ("request-log", "export", tenant, job, "--to", str(to))
    assert run(*export).stdout == f"exported to {to}\n"
    assert to.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in to.iterdir()} == {
        f"{job}.audio": 0o600,
        f"{job}.results.json": 0o600,
        f"{job}.submission.json": 0o600,
    }
    assert (to / f"{job}.audio").read_bytes() == AUDIO
    assert (to / f"{job}.results.json").read_bytes() == RESULTS
    assert msgspec.json.decode((to / f"{job}.submission.json").read_bytes(), type=type(WILLING)) == WILLING

    (to / f"{job}.audio").unlink()
    (to / f"{job}.results.json").write_text("mine")
    refused = run(*export)
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {job}.results.json is there already\n")
    assert (to / f"{job}.results.json").read_text() == "mine"
    assert not (to / f"{job}.audio").exists()

    told = [line.split("  ") for line in run("audit", "list", tenant).stdout.splitlines() if f"target={job}" in line]
    assert [line[2:4] for line in told] == [
        ["volant.request-log.read", outcome] for outcome in ("pending", "success", "pending")
    ]


@pytest.mark.parametrize("kind", ["shared", "link", "file", "within nothing"])
def test_an_export_goes_only_where_nobody_else_writes(
    run: Run, entries: list[tuple[TenantId, JobId]], tmp_path: Path, kind: str
) -> None:
    """Not into a directory that others can write to, nor through a link; one sentence, and nothing is written."""
    to = tmp_path / "export" / "deep" if kind == "within nothing" else tmp_path / "export"
    if kind == "shared":
        to.mkdir()
        to.chmod(0o777)
    elif kind == "link":
        (tmp_path / "elsewhere").mkdir()
        to.symlink_to(tmp_path / "elsewhere")
    elif kind == "file":
        to.write_text("mine")
    refused = run("request-log", "export", *entries[0], "--to", str(to))
    assert refused.exit_code in {1, 2}
    assert str(to) in refused.stderr
    assert not list(tmp_path.rglob(f"{entries[0][1]}.*"))


def test_damaged_audio_is_not_half_exported(
    run: Run, settings: dict[str, str], entries: list[tuple[TenantId, JobId]], tmp_path: Path
) -> None:
    """What does not authenticate is not left behind; nor is there an entry of another tenant, or an unknown one."""
    (tenant, job), (other, _) = entries
    recording = Path(settings["audio"], ".log", tenant, job)
    recording.write_bytes(recording.read_bytes()[:-1])
    to = tmp_path / "export"
    assert run("request-log", "export", tenant, job, "--to", str(to)).stderr == "Error: Unsealable\n"
    assert list(to.iterdir()) == []
    assert run("request-log", "export", other, job, "--to", str(to)).stderr == f"Error: there is no {job}\n"


def test_the_log_is_purged(run: Run, settings: dict[str, str], entries: list[tuple[TenantId, JobId]]) -> None:
    """A tenant's part or all of it, once that is confirmed."""
    recordings = Path(settings["audio"], ".log")
    assert run("request-log", "purge").exit_code == 1  # nobody said yes
    assert len(run("request-log", "list").stdout.splitlines()) == 2
    assert run("request-log", "purge", entries[0][0], "--yes").stdout == "purged 1 entries\n"
    assert [path.name for path in recordings.rglob("*-*")] == [entries[1][1]]
    assert run("request-log", "purge", "--yes").stdout == "purged 1 entries\n"
    assert run("request-log", "list").stdout == ""
    assert list(recordings.rglob("*-*")) == []


def test_a_tenant_is_opted_out_and_in(run: Run, settings: dict[str, str]) -> None:
    """Said either way; not said, it stays."""
    tenant = TenantId(run("tenant", "create", "one").stdout.strip())

    def opted_out() -> bool:
        async def ask() -> bool:
            loaded = load({f"VOLANT_{setting.upper()}": value for setting, value in settings.items()})
            async with open_retention(loaded, role="admin") as retention:
                return (await retention.tenants.get(tenant)).learning_opt_out

        return asyncio.run(ask())

    assert not opted_out()
    for said, out in (("--learning-opt-out", True), ("--name=two", True), ("--no-learning-opt-out", False)):
        assert run("tenant", "update", tenant, said).stdout == "updated\n"
        assert opted_out() is out
