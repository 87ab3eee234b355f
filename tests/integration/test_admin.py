"""The administrator's command line against a real Redis."""

import re
import subprocess
import sys
from pathlib import Path

from deploy.processes import environment
from tests.commands import Run


def test_an_installation_is_administered(run: Run) -> None:
    """Tenants and keys are created, listed, revoked and deleted."""
    tenant = run("tenant", "create", "Example Ltd").stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{16}", tenant)
    assert re.fullmatch(
        rf"{tenant}  \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  plus     home  Example Ltd\n", run("tenant", "list").stdout
    )
    key = run("apikey", "create", tenant).stdout.strip()
    _, id_, secret = key.split("_", 2)
    listed = run("apikey", "list", tenant).stdout
    assert listed.startswith(f"{id_}  ")
    assert secret not in listed
    assert run("apikey", "revoke", id_).stdout == "revoked\n"
    assert run("apikey", "list", tenant).stdout == ""
    assert run("tenant", "delete", "--yes", tenant).stdout == "deleted, with 0 jobs\n"
    assert run("tenant", "list").stdout == ""


def test_where_a_tenant_is_served_is_changed_and_listed(run: Run) -> None:
    """What is not named stays; what is no network changes nothing."""
    tenant = run("tenant", "create", "Example Ltd").stdout.strip()
    for arguments, listed in [
        (["--endpoints", "private"], "Example Ltd  (private)"),
        (["--networks", "10.1.0.0/16 fd00:1::/64"], "Example Ltd  (private, 10.1.0.0/16 fd00:1::/64)"),
        (["--endpoints", "both"], "Example Ltd  (10.1.0.0/16 fd00:1::/64)"),
        (["--networks", ""], "Example Ltd"),
    ]:
        assert run("tenant", "update", tenant, *arguments).stdout == "updated\n"
        assert run("tenant", "list").stdout.endswith(f"Z  plus     home  {listed}\n")
    for arguments in (["--networks", "10.1.0.1/16"], ["--networks", "here"], ["--endpoints", "none"]):
        refused = run("tenant", "update", tenant, "--name", "Other", *arguments)
        assert (refused.exit_code, arguments[1] in refused.stderr) == (2, True)
    assert run("tenant", "list").stdout.endswith("Z  plus     home  Example Ltd\n")


def test_what_is_not_there_is_a_sentence(run: Run) -> None:
    """Exit 1, one line, no traceback."""
    for command in (
        *(["tenant", "delete", "--yes", "t1"], ["tenant", "limits", "t1"]),
        *(["apikey", "create", "t1"], ["apikey", "list", "t1"], ["apikey", "revoke", "t1"]),
    ):
        refused = run(*command)
        assert (refused.exit_code, refused.stdout, refused.stderr) == (1, "", "Error: there is no t1\n")


def test_another_installations_root_key_is_a_sentence(run: Run, tmp_path: Path) -> None:
    """The keys in this Redis were sealed by another root key: nothing is done."""
    assert run("tenant", "create", "one").exit_code == 0
    refused = run("tenant", "create", "two", root_key_file=str(tmp_path / "other.key"))
    assert refused.exit_code == 1
    assert refused.stderr == "Error: the root key does not open the key index@1 of this Redis\n"
    assert run("tenant", "list").stdout.count("\n") == 1


def test_the_installed_command_is_this_one(settings: dict[str, str]) -> None:
    """As a process: results on standard output, exit 0; trouble on standard error, exit 1."""
    program = [sys.executable, "-c", "from retention.cli import main; main()", "tenant", "list"]
    for found, code in ((settings, 0), (settings | {"lease": "1"}, 1)):
        done = subprocess.run(program, env=environment(found), capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("Error: lease" if code else "")
        assert "Traceback" not in done.stderr
