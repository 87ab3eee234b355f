"""Volant's processes and a Redis of their own, started and stopped together.

`make run`, `make demo`, the tests and the load tests all start this one class.
"""

import http.client
import json
import shlex
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from deploy.processes import ROOT, Process, RedisServer, StackError, environment, uninterrupted

_DRAIN = 20.0
"""How long a process may take to stop in good order, in seconds: the setting `drain`, and as much again."""


class Stack:
    """A running Redis, API and workers; a context manager that stops them, Redis last.

    Public: `url` of the API's first listener, `urls` of all by name, `redis_url`, `data` (the directory that holds
    everything they store), `api`, `redis`, `workers` and `notifiers` (the processes), `cells` (the Redis servers of
    further cells, by name; a worker of one is started with `start_worker(cell=…)`).
    """

    def __init__(
        self,
        data: Path,
        *,
        settings: Mapping[str, str] | None = None,
        redis_url: str = "",
        workers: int = 1,
        notifiers: int = 1,
        cells: Sequence[str] = (),
        users: Path | None = None,
        ca: Path | None = None,
    ) -> None:
        """Start everything and wait until it is ready.

        `settings` override the defaults by name (`{"lease": "3"}`). With `redis_url` no Redis is started but those of
        `cells`. `users` is a directory of `deploy.acl`: then each process has the Redis user that is its role's, in
        every cell. `ca` is the authority of the API's certificate, if it has one. Raises StackError when something
        cannot be started; what was started before it is stopped again.
        """
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data = data
        self.workers: list[Process] = []
        self.notifiers: list[Process] = []
        self._ca = ca
        self._ended: list[Process] = []
        self._redis: RedisServer | None = None
        self._users = users
        self.cells: dict[str, RedisServer] = {}
        self._api: Process | None = None
        self._settings = {
            "root_key_file": str(data / "root.key"),
            "create_root_key": "true",
            "audio": str(data / "audio"),
            "port": "0",
            **(settings or {}),
        }
        with_users = ["--aclfile", str(users / "users.acl")] if users else []
        try:
            if not redis_url:
                self._redis = RedisServer(data / "redis", *with_users)
            self.redis_url = redis_url or self._redis_server.url
            self._settings["redis_url"] = self.redis_url
            for name in cells:
                self.cells[name] = RedisServer(data / name / "redis", *with_users)
            self.start_api()
            for _ in range(workers):
                self.start_worker()
            for _ in range(notifiers):
                self.start_notifier()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def redis(self) -> Process:
        """The process of the own Redis."""
        return self._redis_server.process

    @property
    def api(self) -> Process:
        if self._api is None:
            raise StackError("the API has not been started")
        return self._api

    @cached_property
    def apikey(self) -> str:
        """An API key of a tenant that exists for this stack."""
        return self.new_tenant()[1]

    def new_tenant(self, name: str = "development") -> tuple[str, str]:
        """Create a tenant and an API key of it. Returns the tenant's id and the key."""
        tenant = self.volant("tenant", "create", name)
        return tenant, self.volant("apikey", "create", tenant)

    def volant(self, *arguments: str) -> str:
        """Run the `volant` command against this stack. Returns the last line that it prints.

        Raises StackError, with what it says, when it fails.
        """
        done = subprocess.run(
            ["volant", *arguments],  # noqa: S607 - the PATH is ours
            env=environment(self._settings_of("admin")),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StackError(f"volant {arguments[0]} failed: {done.stderr.strip()}")
        return (done.stdout.splitlines() or [""])[-1].strip()

    def start_api(self) -> None:
        """Start the API, again at the same address if it had run before, and wait until it is ready."""
        if self._api is not None:
            self._ended.append(self._api)
        with uninterrupted():
            self._api = api = self._start("api", "api", {})
        api.wait_until(lambda: _said(api, "listening") is not None, "listening")
        self.url = str((_said(api, "listening") or {})["url"])
        if self._settings["port"] == "0":
            self._settings["port"] = str(urlsplit(self.url).port)
        api.wait_until(lambda: _is_ready(self.url, self._ca), "ready")
        self.urls = {str(each["listener"]): str(each["url"]) for each in _all_said(api, "listening")}

    def start_worker(self, **settings: str) -> Process:
        """Start one more worker, with `settings` of its own, and wait until it can take jobs."""
        return self._start_one_more("worker", self.workers, settings)

    def start_notifier(self, **settings: str) -> Process:
        """Start one more notifier, with `settings` of its own, and wait until it can send."""
        return self._start_one_more("notifier", self.notifiers, settings)

    @property
    def places(self) -> dict[str, str]:
        """The settings that say where what is kept is, and its key."""
        return {name: self._settings[name] for name in ("redis_url", "root_key_file", "audio")}

    def restart_redis(self) -> None:
        """Start Redis again on its data, after it was killed, or in good order if it runs."""
        self._redis_server.restart()

    def processes(self) -> list[Process]:
        """Return all that should be running now."""
        redis = [*([self._redis] if self._redis else []), *self.cells.values()]
        return [self.api, *self.workers, *self.notifiers, *(server.process for server in redis)]

    def kill(self, name: str) -> None:
        """End one process at once (SIGKILL): "redis", "api", "worker-1" and so on."""
        process = self._process(name)
        process.kill()
        process.wait()

    def logs(self, name: str) -> str:
        """Return all that the process of this name has printed."""
        return self._process(name).log.read_text(errors="replace")

    def stop(self) -> None:
        """Stop everything, Redis last; what does not stop in good order is killed."""
        processes = [*([self._api] if self._api else []), *self.workers, *self.notifiers, *self._ended]
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            process.stop(patience=_DRAIN)
        for server in [*self.cells.values(), *([self._redis] if self._redis else [])]:
            server.stop()

    def _configured(self, role: str) -> Path:
        """Write the tables of the further cells, as a role has them, into a file of settings, which holds no others."""
        file = self.data / f"cells.{role}.toml"
        user = "".join(f"{name} = {json.dumps(value)}\n" for name, value in self._user(role).items())
        file.write_text(
            "".join(
                f"[cells.{name}]\n"
                f"redis_url = {json.dumps(server.url)}\n"
                f"root_key_file = {json.dumps(str(self.data / name / 'root.key'))}\n"
                f"create_root_key = true\n"
                f"audio = {json.dumps(str(self.data / name / 'audio'))}\n"
                f"{user}"
                for name, server in self.cells.items()
            )
        )
        return file

    @property
    def _redis_server(self) -> RedisServer:
        if self._redis is None:
            raise StackError("this stack uses an outside Redis")
        return self._redis

    def _process(self, name: str) -> Process:
        return next(process for process in self.processes() if process.name == name)

    def _start_one_more(self, kind: str, known: list[Process], settings: Mapping[str, str]) -> Process:
        with uninterrupted():
            process = self._start(kind, f"{kind}-{len(known) + 1}", settings)
            known.append(process)
        process.wait_until(lambda: _said(process, f"{kind} ready") is not None, "ready")
        return process

    def _settings_of(self, role: str) -> dict[str, str]:
        cells = {"config": str(self._configured(role))} if self.cells else {}
        return {**self._settings, **self._user(role), **cells}

    def _user(self, role: str) -> dict[str, str]:
        if self._users is None:
            return {}
        return {"redis_user": role, "redis_password_file": str(self._users / f"{role}.password")}

    def _start(self, kind: str, name: str, settings: Mapping[str, str]) -> Process:
        return Process(
            name,
            shlex.split(_procfile()[kind]),
            log=self.data / f"{name}.log",
            environment=environment({**self._settings_of(kind), **settings}),
        )


def _procfile() -> dict[str, str]:
    lines = (ROOT / "deploy/Procfile").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line)


def _said(process: Process, event: str) -> dict[str, object] | None:
    """Return the first log line of this event that the process has written."""
    return next(_all_said(process, event), None)


def _all_said(process: Process, event: str) -> Iterator[dict[str, object]]:
    """Yield the log lines of this event that the process has written."""
    for line in process.printed().splitlines():
        if f'"{event}"' in line:
            fields: dict[str, object] = json.loads(line)
            if fields.get("event") == event:
                yield fields


def _is_ready(url: str, ca: Path | None) -> bool:
    address = urlsplit(url)
    host, port = address.hostname or "", address.port
    if address.scheme == "https":
        trust = ssl.create_default_context(cafile=ca)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=10, context=trust)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
