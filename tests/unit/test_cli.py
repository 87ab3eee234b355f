"""The administrator's command line, without a Redis: settings, and sentences for what is wrong."""

import tomllib
from pathlib import Path

import pytest

from retention.settings import Settings, load
from tests.commands import volant


def test_the_settings_in_force_are_printed_as_a_configuration_file(tmp_path: Path) -> None:
    """What is printed can be read back, and is documented line by line."""
    printed = volant("settings", lease="5", patience="P1D", audio="/srv/audio")
    assert printed.exit_code == 0
    file = tmp_path / "volant.toml"
    file.write_text(printed.stdout)
    assert load({"VOLANT_CONFIG": str(file)}) == load(
        {"VOLANT_LEASE": "5", "VOLANT_PATIENCE": "P1D", "VOLANT_AUDIO": "/srv/audio"}
    )
    named = {line.split(" =")[0].removeprefix("# ") for line in printed.stdout.splitlines() if " =" in line}
    assert named | {"listeners", "cells"} >= set(Settings.__struct_fields__)
    assert "# [[listeners]]\n" in printed.stdout
    assert "# [cells.acme]\n" in printed.stdout
    assert set(tomllib.loads(printed.stdout)) <= set(Settings.__struct_fields__)


def test_cells_are_printed_as_tables(tmp_path: Path) -> None:
    """Every setting of each, behind all others, as TOML wants it; read back they are the same."""
    file = tmp_path / "volant.toml"
    file.write_text(ACME.format(name="acme") + ACME.format(name="other"))
    printed = volant("settings", config=str(file), cell="other")
    assert printed.exit_code == 0
    (tmp_path / "printed.toml").write_text(printed.stdout)
    again = load({"VOLANT_CONFIG": str(tmp_path / "printed.toml")})
    assert again == load({"VOLANT_CONFIG": str(file), "VOLANT_CELL": "other"})
    assert list(again.cells) == ["acme", "other"]


ACME = """
[cells.{name}]
redis_url = "rediss://{name}/0"
redis_user = "volant"
root_key_file = "/etc/volant/{name}.key"
audio = "/srv/{name}"
"""


@pytest.mark.parametrize("command", [["settings"], ["tenant", "list"], ["apikey", "create", "t"]])
def test_a_wrong_setting_is_a_sentence(command: list[str]) -> None:
    """Every command says what is wrong, in one line and without a traceback."""
    refused = volant(*command, lease="1")
    assert refused.exit_code == 1
    assert refused.stderr == "Error: lease must be at least 3 seconds: it is renewed every third of it\n"
    assert refused.stdout == ""


def test_an_unreachable_redis_is_a_sentence(tmp_path: Path) -> None:
    """A command does not wait for Redis: it says that it cannot be reached."""
    refused = volant(
        "tenant",
        "list",
        redis_url=f"unix://{tmp_path}/nobody.sock",
        root_key_file=str(tmp_path / "root.key"),
        create_root_key="true",
        audio=str(tmp_path / "audio"),
    )
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: Redis cannot be reached, or refuses: ")
    assert refused.stderr.count("\n") == 1


def test_a_missing_root_key_is_a_sentence(tmp_path: Path) -> None:
    """The file is named."""
    refused = volant("tenant", "list", root_key_file=str(tmp_path / "root.key"))
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {tmp_path}/root.key cannot be read: No such file or directory\n"


def test_a_tenant_is_not_deleted_without_being_asked(tmp_path: Path) -> None:
    """Nobody erases a tenant by a slip: without a yes nothing is even opened."""
    refused = volant("tenant", "delete", "t1", root_key_file=str(tmp_path / "root.key"))
    assert refused.exit_code == 1
    assert "Aborted" in refused.stderr
