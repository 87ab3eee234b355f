"""`volant key`: every command, what it says, and what it refuses."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from retention.bootstrap import Retention, open_retention
from retention.custody import Custody
from retention.errors import Unavailable
from retention.job import TenantId
from retention.keys import KeyId, KeyState, TenantKey
from retention.keystore import TenantKeys
from retention.rotation import Rotation
from retention.settings import load
from retention.tenant import Credential
from tests.commands import Run, volant
from tests.integration.cell import AUDIO, HOUR, SUBMISSION, spoken

Act = Callable[[Callable[[Retention], Awaitable[object]]], object]
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def tenant(run: Run) -> TenantId:
    """Give a tenant."""
    return TenantId(run("tenant", "create", "Example Ltd").stdout.strip())


@pytest.fixture
def act(settings: dict[str, str]) -> Act:
    """Give what acts on all that keeps jobs."""

    def act(action: Callable[[Retention], Awaitable[object]]) -> object:
        async def run() -> object:
            loaded = load({f"VOLANT_{setting.upper()}": value for setting, value in settings.items()})
            async with open_retention(loaded, role="admin") as retention:
                return await action(retention)

        return asyncio.run(run())

    return act


def submits(tenant: TenantId, count: int) -> Callable[[Retention], Awaitable[None]]:
    """Return what has a tenant submit so many jobs."""

    async def submit(retention: Retention) -> None:
        for _ in range(count):
            began = await retention.cells.home.jobs.now()
            await retention.cells.home.acceptance.submit(
                Credential(tenant=tenant), SUBMISSION, spoken(AUDIO), began=began, results_ttl=HOUR
            )

    return submit


def test_a_key_is_led_through_its_life(run: Run, act: Act, tenant: TenantId) -> None:
    """Created, listed, rotated, disabled, enabled, destroyed, restored, destroyed for good, and created anew."""
    act(submits(tenant, 3))
    made = run("key", "create", tenant, "--expires", "P90D")
    assert (made.exit_code, made.stdout) == (0, f"{tenant} wraps with version 1\nall data is under it\n")
    assert "rewrapping" in made.stderr
    common, own = run("key", "list").stdout.splitlines()
    assert re.fullmatch(rf"common            active       v1  made here  file  created {_TIME}", common)
    assert re.fullmatch(rf"{tenant}  active       v1  made here  file  created {_TIME}  expires {_TIME}", own)
    assert run("key", "rotate", tenant).stdout == f"{tenant} wraps with version 2\nall data is under it\n"
    assert "  v2  " in run("key", "list").stdout
    assert run("key", "disable", tenant).stdout.startswith("disabled: ")
    assert f"{tenant}  suspended  " in run("key", "list").stdout
    assert run("key", "enable", tenant).stdout == f"{tenant} is active\n"
    assert re.fullmatch(rf"destroyed; its data is erased from {_TIME} on, unless it is restored\n",
                        run("key", "destroy", tenant, "--yes").stdout)  # fmt: skip
    assert re.search(rf"{tenant}  destroyed .*  expires {_TIME}  purged {_TIME}\n", run("key", "list").stdout)
    assert run("key", "restore", tenant).stdout == f"{tenant} is active\n"
    destroy = partial(run, "key", "destroy", tenant, "--now")
    assert destroy("--yes", input=f"{tenant}\n").stdout.endswith("destroyed, and its data erased\n")
    assert re.search(rf"{tenant}  purged       created {_TIME}\n", run("key", "list").stdout)
    assert run("key", "create", tenant).stdout == f"{tenant} wraps with version 3\nall data is under it\n"


def test_a_key_is_destroyed_only_when_that_is_confirmed(run: Run, tenant: TenantId) -> None:
    """Once, and with --now a second time, by its id."""
    run("key", "create", tenant)
    for arguments, answers in (
        ((), "n\n"),
        ((), ""),
        (("--now",), "n\n"),
        (("--now",), "y\nno\n"),
        (("--now",), "y\n"),
    ):
        refused = run("key", "destroy", tenant, *arguments, input=answers)
        assert refused.exit_code == 1
        assert f"{tenant}  active" in run("key", "list").stdout
    assert "nothing was done" in run("key", "destroy", tenant, "--now", "--yes", input="common\n").stderr
    asked = run("key", "destroy", tenant, input="y\n")
    assert (asked.exit_code, f"key is {tenant} can be read" in asked.stdout) == (0, True)
    assert run("key", "destroy", tenant, "--now", input=f"y\n{tenant}\n").exit_code == 0


REFUSED: dict[tuple[str, ...], str] = {
    ("rotate", "nobody"): "there is no key nobody",
    ("disable", "nobody"): "there is no key nobody",
    ("destroy", "nobody"): "there is no key nobody",
    ("create", "nobody"): "there is no nobody",
    ("create", "common"): "there is no common",
    ("import-token", "nobody"): "there is no nobody",
    ("import-token", "nobody", "--cell", "home"): "there is no nobody",
    ("create", "TENANT"): "there is such a key already: rotate it",
    ("enable", "TENANT"): "the key is active, and not suspended",
    ("restore", "TENANT"): "the key is not destroyed",
    ("destroy", "common"): "the common key is not destroyed: the data of every tenant without a key of its own"
    " is under it",
}


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_what_is_refused_is_a_sentence_and_told(run: Run, act: Act, tenant: TenantId, command: tuple[str, ...]) -> None:
    """Exit 1, one line, no traceback; the audit log says what was refused, and of whom if that is an id."""
    act(submits(tenant, 1))
    run("key", "create", tenant)
    before = run("audit", "export").stdout.splitlines()
    refused = run("key", *(tenant if word == "TENANT" else word for word in command))
    assert (refused.exit_code, refused.stderr) == (1, f"Error: {REFUSED[command]}\n")
    told = [json.loads(line) for line in run("audit", "export").stdout.splitlines()[len(before) :]]
    assert [(each["event"], each["outcome"]) for each in told] == [
        (f"volant.key.{command[0]}", outcome) for outcome in ("pending", "failure")
    ]
    target = {"TENANT": tenant, "common": "common"}.get(command[1], "")
    assert {each.get("target", "") for each in told} == {target}


def test_an_outage_of_the_root_is_not_called_one_of_redis(run: Run, tenant: TenantId) -> None:
    """Each says what is away."""
    with patch("retention.roots.file.FileRoot.wrap", side_effect=Unavailable("the token gave no answer in time")):
        refused = run("key", "create", tenant)
    assert (refused.exit_code, refused.stderr) == (1, "Error: the token gave no answer in time\n")


def test_a_key_that_was_made_at_the_same_moment_is_seen(run: Run, tenant: TenantId) -> None:
    """Two operators: the later one looks again, and is told."""
    run("key", "create", tenant)
    get, looks = TenantKeys.get, 0

    async def too_early(self: TenantKeys, id_: KeyId) -> TenantKey | None:
        nonlocal looks
        looks += id_ == KeyId(tenant)
        return None if id_ == KeyId(tenant) and looks == 1 else await get(self, id_)

    with patch("retention.keystore.TenantKeys.get", too_early):
        refused = run("key", "create", tenant)
    assert (refused.exit_code, "there is such a key already" in refused.stderr) == (1, True)


@pytest.mark.parametrize("wrong", ["soon", "-P1D", "0", "P0D", ""])
def test_a_wrong_duration_is_wrong_use(run: Run, tenant: TenantId, wrong: str) -> None:
    """Exit 2; nothing is made."""
    assert run("key", "create", tenant, f"--expires={wrong}").exit_code == 2
    assert tenant not in run("key", "list").stdout


def test_a_rotation_that_is_interrupted_is_gone_on_with(run: Run, act: Act, tenant: TenantId) -> None:
    """Ctrl-C says who goes on; the same command does; a further version is made only when that is asked for."""
    act(submits(tenant, 250))
    replaced = 0
    original = Rotation._bring

    async def interrupting(self: Rotation, *args: object) -> None:
        nonlocal replaced
        replaced += 1
        if replaced == 100:
            signal.raise_signal(signal.SIGINT)
        await original(self, *args)  # type: ignore[arg-type]

    with patch.object(Rotation, "_bring", interrupting):
        cut = run("key", "rotate", "common")
    assert cut.exit_code == 130
    assert "left to the workers; `volant key rotate common` goes on" in cut.stderr
    listed = run("key", "list").stdout
    found = re.search(r"common            active       v1,2  .*  (\d+) of 250 rewrapped\n", listed)
    assert found is not None
    assert 90 <= int(found[1]) < 250
    assert run("key", "rotate", "common").stdout == "common wraps with version 2\nall data is under it\n"
    with patch.object(Rotation, "_bring_all", return_value=False):
        assert "not all data is under it yet" in run("key", "rotate", "common").stdout
        assert run("key", "rotate", "common", "--again").stdout.startswith("common wraps with version 4\n")
    assert run("key", "rotate", "common").stdout == "common wraps with version 4\nall data is under it\n"


def test_it_is_said_whose_key_holds_a_rotation(run: Run, act: Act, tenant: TenantId) -> None:
    """That of a tenant whose data is to come under its own key, as it cannot while that may not wrap."""
    other = TenantId(run("tenant", "create", "other").stdout.strip())
    act(submits(tenant, 2))
    act(submits(other, 3))
    quiet = run("tenant", "create", "nothing is to come under its key").stdout.strip()
    run("key", "create", quiet)
    run("key", "disable", quiet)
    with patch.object(Rotation, "_bring_all", return_value=False):
        run("key", "create", tenant)
        run("key", "rotate", "common")
    listed = run("key", "list").stdout
    assert "0 of 5 rewrapped" in listed
    assert "held by" not in listed
    run("key", "disable", tenant)
    assert "not all data is under it yet" in run("key", "rotate", "common").stdout
    common, *own = run("key", "list").stdout.splitlines()
    assert common.endswith(f"3 of 5 rewrapped  held by {tenant}")
    assert "held by" not in "".join(own)
    run("key", "enable", tenant)
    run("key", "rotate", "common")
    assert "held by" not in run("key", "list").stdout


def test_an_interrupt_before_anything_was_done_says_nothing_of_workers(run: Run, tenant: TenantId) -> None:
    """There is nothing for them to go on with."""

    async def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    with patch.object(Custody, "create", interrupted):
        cut = run("key", "create", tenant)
    assert (cut.exit_code, "Aborted" in cut.stderr, "workers" in cut.stderr) == (1, True, False)


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """Give a customer's key, in a file."""
    path = tmp_path / "key.bin"
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(32))
    return path


def brought(run: Run, tenant: str, material: Path, *options: str, expires: str = "") -> tuple[str, str]:
    """Bring a key as customer and operator do; return what each of them was told."""
    directory = material.parent
    token = directory / "token.json"
    token.write_text(run("key", "import-token", tenant).stdout)
    out = [directory / "wrapped.bin", directory / "proof.bin"]
    for path in out:
        path.unlink(missing_ok=True)
    prepared = volant("key", "prepare", f"--token={token}", f"--material={material}", f"--out-material={out[0]}",
                      f"--out-proof={out[1]}", *options)  # fmt: skip
    assert prepared.exit_code == 0, prepared.output
    assert [path.stat().st_mode & 0o777 for path in out] == [0o600] * 2
    id_ = json.loads(token.read_text())["id"]
    imported = run("key", "import", tenant, f"--token={id_}", f"--material={out[0]}", f"--proof={out[1]}", *options,
                   *([f"--expires={expires}"] if expires else []))  # fmt: skip
    return prepared.stdout, imported.stdout + imported.stderr


def test_a_customer_brings_a_key(run: Run, act: Act, tenant: TenantId, material: Path) -> None:
    """Both sides see the same key check value; nobody sees the key; destroyed, it takes the same material alone."""
    act(submits(tenant, 2))
    prepared, imported = brought(run, tenant, material, expires="P365D")
    assert re.fullmatch("key check value [0-9a-f]{16}\n", prepared)
    assert imported.startswith(f"{prepared}{tenant} wraps with version 1\n")
    assert "all data is under it\n" in imported
    check = prepared.split()[-1]
    assert re.search(
        rf"{tenant}  active       v1  imported {check}  file  created {_TIME}  expires", run("key", "list").stdout
    )
    assert "import new material" in run("key", "rotate", tenant).stderr
    assert "already" in brought(run, tenant, material)[1]
    run("key", "destroy", tenant, "--yes")
    assert "import the same material" in run("key", "restore", tenant).stderr
    other = material.with_name("other.bin")
    other.touch(mode=0o600)
    other.write_bytes(os.urandom(32))
    assert "not the material that the key had" in brought(run, tenant, other)[1]
    assert (
        f"{tenant} wraps with version 1\n" in brought(run, tenant, material, "--algorithm=RSA_AES_KEY_WRAP_SHA_256")[1]
    )
    assert f"{tenant} wraps with version 2\n" in brought(run, tenant, other)[1]

    async def state(retention: Retention) -> KeyState:
        return (await retention.cells.home.custody.get(KeyId(tenant))).state

    assert act(state) is KeyState.ACTIVE


def test_of_several_imported_versions_each_is_brought_again(
    run: Run, act: Act, tenant: TenantId, material: Path
) -> None:
    """Until then the key stays destroyed, and the command says what is missing."""
    act(submits(tenant, 1))
    brought(run, tenant, material)
    other = material.with_name("other.bin")
    other.touch(mode=0o600)
    other.write_bytes(os.urandom(32))
    with patch.object(Rotation, "_bring_all", return_value=False):
        brought(run, tenant, other)
    run("key", "destroy", tenant, "--yes")
    told = brought(run, tenant, other)[1]
    assert "import their material, too" in told
    assert told.endswith(f"{tenant} is destroyed\n")
    assert "all data is under it\n" in brought(run, tenant, material)[1]


def test_a_bad_import_is_one_sentence_and_spends_the_token(run: Run, tenant: TenantId, tmp_path: Path) -> None:
    """The same, whatever was bad; there is no key afterwards."""
    bad, token = tmp_path / "bad", tmp_path / "token.json"
    bad.write_bytes(os.urandom(512))
    said = set()
    for id_ in ("nonsense", ""):
        token.write_text(run("key", "import-token", tenant).stdout)
        real = json.loads(token.read_text())["id"]
        for name in (id_ or real, real):
            refused = run("key", "import", tenant, f"--token={name}", f"--material={bad}", f"--proof={bad}")
            assert refused.exit_code == 1
            said.add(refused.stderr)
    assert said == {
        "Error: the material was not taken: it, its proof or its token is not good. The token is spent; make another\n"
    }
    assert tenant not in run("key", "list").stdout


def test_what_a_customer_does_wrong_is_said(run: Run, tenant: TenantId, material: Path, tmp_path: Path) -> None:
    """A key that others can read, no key, no token, files that are there; never what the key is."""
    token, out = tmp_path / "token.json", [tmp_path / "out1", tmp_path / "out2"]
    token.write_text(run("key", "import-token", tenant).stdout)

    def said(token: Path = token) -> str:
        refused = volant("key", "prepare", f"--token={token}", f"--material={material}", f"--out-material={out[0]}",
                         f"--out-proof={out[1]}")  # fmt: skip
        assert refused.exit_code == 1
        assert not any(path.exists() and path.stat().st_size for path in out)
        return refused.stderr

    material.chmod(0o644)
    assert "0600" in said()
    material.chmod(0o600)
    assert "is not a token" in said(material)
    material.write_bytes(b"correct horse battery staple, 1!")
    assert "it is text" in (told := said())
    assert "horse" not in told
    material.write_bytes(os.urandom(32))
    out[0].touch()
    assert "File exists" in said()
