"""Mutated recordings through the sandboxed decoder, and what must hold for each.

A job ends with a result or with a known error, soon; neither has a word in it that is not ours. No child dies of it. No
file is opened and no connection made, although many mutants name a file and an address that wait for that.
"""

import asyncio
import ctypes
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import psutil

from retention.job import Submission
from tests.fuzz.mutants import Mutant, mutant
from tests.speech import stream
from tests.transcribing import transcribing
from worker.transcriber import DAMAGED, TooLong, Transcriber, Undecodable

AT_ONCE = 4
SOON = 60.0
"""Seconds in which a job has ended, on a busy machine."""

ENGINE = "tests.integration.test_hostile_audio:Prompt"
_HEARD = "done"
"""What that engine makes of any speech."""

_IN_OPEN = 0x20


class _Alternative(msgspec.Struct, forbid_unknown_fields=True):
    transcript: str
    confidence: float = 0.0


class _Result(msgspec.Struct, forbid_unknown_fields=True):
    final: bool
    alternatives: list[_Alternative]


class _Results(msgspec.Struct, forbid_unknown_fields=True):
    """All that a result may hold of which nothing was asked."""

    result_index: int
    results: list[_Result]
    warnings: list[str] = []


class Trap:
    """A file and an address that nobody should come to, and the texts that send one there."""

    def __init__(self, file: Path, server: socket.socket, watch: int) -> None:
        port = server.getsockname()[1]
        self._server = server
        self._watch = watch
        self.lures = tuple(
            text.encode()
            for text in (
                f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
                f"ffconcat version 1.0\nfile '{file}'\n",
                f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:{port}/a.wav\n#EXT-X-ENDLIST\n",
                f"[playlist]\nFile1=file://{file}\nNumberOfEntries=1\n",
                f"file:{file}",
                f"tcp://127.0.0.1:{port}",
            )
        )

    def sprung(self) -> list[str]:
        """Tell what was reached since the last time."""
        found = []
        try:
            self._server.accept()[0].close()
            found.append("a connection was made")
        except BlockingIOError:
            pass
        try:
            os.read(self._watch, 4096)
            found.append("a file was opened")
        except BlockingIOError:
            pass
        return found


@contextmanager
def trap() -> Iterator[Trap]:
    """Set a trap for the time of the context."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        file = Path(folder) / "secret.wav"
        file.write_bytes(bytes(100))
        watch = libc.inotify_init1(os.O_NONBLOCK)
        try:
            if libc.inotify_add_watch(watch, os.fsencode(file), _IN_OPEN) < 0:
                raise OSError(ctypes.get_errno(), "no watch")
            yield Trap(file, server, watch)
        finally:
            os.close(watch)


class Campaign:
    """Tries mutants on a transcriber of its own.

    `ends` counts how they ended, `failures` says what went wrong, `slowest` is the longest time and whose it was.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.ends: Counter[str] = Counter()
        self.failures: list[str] = []
        self.slowest = (0.0, -1)

    async def run(self, numbers: range, *, progress: Callable[[int], None] = lambda _: None) -> None:
        """Try the mutants with these numbers, some at once."""
        prompt = transcribing(
            ENGINE, children=2, memory=1 << 30, stall=timedelta(seconds=20), max_audio=timedelta(minutes=10)
        )
        async with prompt as transcriber:
            with trap() as self._trap:
                born = _descendants()
                ahead = iter(numbers)
                async with asyncio.TaskGroup() as group:
                    for _ in range(AT_ONCE):
                        group.create_task(self._some(transcriber, ahead, progress))
                self.failures += self._trap.sprung()
                if not born <= _descendants():
                    self.failures.append("a child died")

    async def _some(self, transcriber: Transcriber, ahead: Iterator[int], progress: Callable[[int], None]) -> None:
        for number in ahead:
            one = mutant(self._seed, number, self._trap.lures)
            begun = asyncio.get_running_loop().time()
            end = await self.end(transcriber, one)
            self.slowest = max(self.slowest, (asyncio.get_running_loop().time() - begun, number))
            self.ends[end] += 1
            if end not in ("result", "damaged", "undecodable", "too long"):
                self.failures.append(f"number {number} ({one.origin}, as {one.media}): {end}")
            progress(self.ends.total())

    async def end(self, transcriber: Transcriber, one: Mutant) -> str:
        """Return how the job of a mutant ended, in a word, or what is wrong with its end."""
        asked = Submission(media=one.media, model="en-US_BroadbandModel")
        try:
            async with asyncio.timeout(SOON):
                told = await transcriber.transcribe(stream(one.content), asked)
        except (Undecodable, TooLong) as error:
            known = "undecodable" if isinstance(error, Undecodable) else "too long"
            return known if not error.args else f"the error says {error}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            return repr(error)
        try:
            results = msgspec.json.decode(told, type=_Results)
        except msgspec.ValidationError as error:
            return f"the result is odd: {error}"
        words = {word for result in results.results for one in result.alternatives for word in one.transcript.split()}
        if words - {_HEARD} or set(results.warnings) - {DAMAGED}:
            return "the result says more than was heard"
        return "damaged" if results.warnings else "result"


def _descendants() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}
