"""JavaScript of `tests/node` as processes that are told, and tell, JSON: a line each."""

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pytest

from deploy.processes import uninterrupted
from tests.missing import missing
from tests.stack import wait_until

NODE = Path(__file__).parent / "node"
_PATIENCE = 60.0
"""How long a program may take to print its next line, in seconds."""


@pytest.fixture(scope="session")
def node() -> None:
    """Node, or what it needs, may be `missing`."""
    if not shutil.which("node") or not (NODE / "node_modules").is_dir():
        missing("IBM's Node SDK is not installed: install node (18.3 or newer) and npm, then `make .venv/.node`")


class Program:
    """A running `node FILE`; a context manager that ends it."""

    def __init__(self, file: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it. `environment` is all it gets, besides the PATH: SDKs look there for credentials and proxies."""
        with uninterrupted():
            self._process = subprocess.Popen(
                ["node", str(NODE / file), *arguments],  # noqa: S607 - whichever node the PATH gives
                env={"PATH": os.environ["PATH"], **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self._printed: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout], daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        with self._process:  # closes the pipes, and waits
            self._reader.join()

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def told(self) -> Any:
        """Wait for the next line that it prints, and return what it says."""
        try:
            line = self._printed.get(timeout=_PATIENCE)
        except queue.Empty:
            raise AssertionError(f"nothing printed within {_PATIENCE} s") from None
        assert line, f"it has ended with {self._process.wait()}"
        return json.loads(line)

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._printed.put(line)
        self._printed.put("")


class Sdk:
    """IBM's Node SDK, with a service URL and credentials."""

    def __init__(self, drive: Program, **service: object) -> None:
        """Use a running `drive.mjs`; `service` is what it makes the service of: `auth`, `url`, `apikey` and so on."""
        self._drive = drive
        self._service = service

    def call(self, method: str, /, **params: object) -> Any:
        """Call a method of the SDK: its `status`, `result` and `headers`, or its `error`."""
        self._drive.tell(json.dumps({**self._service, "method": method, "params": params}))
        return self._drive.told()

    def result_of(self, method: str, /, **params: object) -> Any:
        """Call a method that succeeds, and return its result."""
        answer = self.call(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    def refusal_of(self, method: str, /, **params: object) -> tuple[int | None, str]:
        """Call a method that fails, and return the code and the message that the SDK shows."""
        answer = self.call(method, **params)
        assert "error" in answer, answer
        return answer["error"].get("code"), answer["error"]["message"]

    async def final(self, job: str) -> Any:
        """Wait until the job is completed or failed, and return it."""

        async def is_final() -> bool:
            return self.result_of("checkJob", id=job)["status"] in {"completed", "failed"}

        await wait_until(is_final)
        return self.result_of("checkJob", id=job)


class Receiver(Program):
    """A receiver of notifications, on a port of its own."""

    def __init__(self, *, secret: str = "", hash_: str = "sha256") -> None:
        """Start it, and wait until it listens."""
        super().__init__("receiver.mjs", f"--secret={secret}", f"--hash={hash_}")
        try:
            self.port: int = self.told()["port"]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.url = f"http://127.0.0.1:{self.port}/results"

    def answer(self, status: int) -> None:
        """Let it answer the next request with this status."""
        self.tell(f"answer {status}")
        assert self.told() == {"answer": status}

    def replay(self) -> Any:
        """Return what its library says to the last notification, ten minutes later."""
        self.tell("replay")
        return self.told()["replay"]


@pytest.fixture(scope="session")
def drive(node: None) -> Iterator[Program]:
    """Give a running `drive.mjs`, shared by all tests."""
    del node
    with Program("drive.mjs") as running:
        yield running
