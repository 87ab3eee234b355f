"""Children that hang, die, or are no longer wanted; and the worker that dies before them."""

import asyncio
import contextlib
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
from pebble.pool.process import TaskResult

from retention.job import Media, Submission
from retention.offer import Feature, Offer
from tests.recognizers import AT_WORK, recording
from tests.speech import stream
from tests.stack import wait_until
from tests.transcribing import transcribing
from worker import pool
from worker.recognizers import Utterance
from worker.transcriber import EngineFailed, Transcriber

SCRIPTED = Submission(media=Media(type="audio/wav"), model="en-US_BroadbandModel")
DONE = b'"transcript":"done "'


def running(
    recognizer: str = "tests.recognizers:Scripted", *, stall: float = 30, children: int = 1, memory: int = 2 << 30
) -> contextlib.AbstractAsyncContextManager[Transcriber]:
    """Run a transcriber, usually with the scripted engine; `stall` is in seconds."""
    return transcribing(recognizer, stall=timedelta(seconds=stall), children=children, memory=memory)


def children(of: int | None = None) -> list[psutil.Process]:
    """Return what the forkserver of this process has forked, or that of another: the stack has workers, too."""
    own = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    found = []
    for process in psutil.Process(of or own).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() != of and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def at_work(of: int | None = None) -> list[psutil.Process]:
    """Return the children that are recognising."""
    found = []
    for process in children(of):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() == AT_WORK.decode():
                found.append(process)
    return found


async def test_cancelling_kills_the_children_of_the_recording_and_no_others() -> None:
    """Decoder and child at work die long before the 200 s they would take; another recording is served."""
    async with running() as transcriber:
        idle = set(children())
        job = asyncio.create_task(transcriber.transcribe(stream(recording(200)), SCRIPTED))
        await wait_until(at_work)
        wanted = set(children())
        assert idle <= wanted
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        async def gone() -> bool:
            return not any(process.is_running() for process in wanted)

        await wait_until(gone)
        assert DONE in await transcriber.transcribe(stream(recording(0)), SCRIPTED)


async def test_cancelling_kills_the_decoder() -> None:
    """A decoder that waits for more audio dies with its recording."""
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield recording(0)[:1000]
        await never.wait()

    async with running() as transcriber:
        before = set(children())
        job = asyncio.create_task(transcriber.transcribe(endless(), SCRIPTED))

        async def decoding() -> set[psutil.Process]:
            return set(children()) - before

        await wait_until(decoding)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

        async def alone() -> bool:
            return set(children()) == before

        await wait_until(alone)


async def test_cancelling_closes_the_source() -> None:
    """At once, though nobody was asking it for more just then: it holds a key and a file."""
    second = recording(200, lasts=1)[44:]
    closed = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            while True:
                yield second
        finally:
            closed = True

    async with running() as transcriber:
        asked = Submission(media=Media(type="audio/l16", rate=16000), model="en-US_BroadbandModel")
        job = asyncio.create_task(transcriber.transcribe(endless(), asked))
        await wait_until(at_work)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert closed


async def test_a_child_that_hangs_is_killed() -> None:
    """Recognition that takes longer than `stall` fails the recording, and the next one is served."""
    async with running(stall=3) as transcriber:
        with pytest.raises(EngineFailed):
            await transcriber.transcribe(stream(recording(200)), SCRIPTED)
        assert DONE in await transcriber.transcribe(stream(recording(0)), SCRIPTED)


async def test_a_decoder_that_hangs_is_killed() -> None:
    """A decoder that neither takes nor gives for `stall` fails the recording."""
    content = recording(0, lasts=20)
    gate = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield content[:50000]
        await gate.wait()
        yield content[50000:]

    async with running(stall=3) as transcriber:
        before = set(children())
        job = asyncio.create_task(transcriber.transcribe(slowly(), SCRIPTED))

        async def decoding() -> set[psutil.Process]:
            return set(children()) - before

        await wait_until(decoding)
        (decoder,) = await decoding()
        decoder.send_signal(signal.SIGSTOP)
        gate.set()
        with pytest.raises(EngineFailed):
            await job
        await asyncio.to_thread(decoder.wait, 30)


async def test_waiting_for_the_source_is_no_stall() -> None:
    """Audio that is slow to come, as in an outage of the store, does not count against the children."""
    content = recording(0)

    async def slowly() -> AsyncIterator[bytes]:
        yield content[:1000]
        await asyncio.to_thread(subprocess.run, ["sleep", "4"], check=True)
        yield content[1000:]

    async with running(stall=3) as transcriber:
        assert DONE in await transcriber.transcribe(slowly(), SCRIPTED)


async def test_a_segment_whose_child_dies_is_recognised_by_another() -> None:
    """One death is survived without a trace in the result."""
    async with running() as transcriber:
        job = asyncio.create_task(transcriber.transcribe(stream(recording(3)), SCRIPTED))

        async def killed() -> bool:
            victims = await at_work()
            for victim in victims:
                victim.kill()
            return bool(victims)

        await wait_until(killed)
        assert DONE in await job


async def test_a_segment_that_kills_twice_fails_its_recording_alone() -> None:
    """A second death is an error; the transcriber works on."""
    async with running() as transcriber:
        job = asyncio.create_task(transcriber.transcribe(stream(recording(100)), SCRIPTED))
        for _ in range(2):
            await wait_until(at_work)
            (victim,) = await at_work()
            victim.kill()
            await asyncio.to_thread(victim.wait)
        with pytest.raises(EngineFailed):
            await job
        assert DONE in await transcriber.transcribe(stream(recording(0)), SCRIPTED)


async def test_idle_children_that_die_are_replaced() -> None:
    """Children that are killed while nobody uses them leave a transcriber that still works."""
    async with running(children=2) as transcriber:
        for child in children():
            child.kill()
            await asyncio.to_thread(child.wait)
        assert DONE in await transcriber.transcribe(stream(recording(0)), SCRIPTED)


class Hoarder:
    """An engine that wants two GiB for anything but silence."""

    features: ClassVar[frozenset[Feature]] = frozenset()

    def __init__(self, model: Path | None) -> None:
        del model
        self.offer = Offer(engine="hoarder", languages=("en-US",), features=self.features)

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `worker.recognizers.Recognizer`."""
        del language, alternatives
        bytearray(2 << 30 if any(pcm) else 0)
        return Utterance()


async def test_a_child_beyond_its_memory_fails_the_recording() -> None:
    """An engine that asks for more than `child_memory` gets an error, not the machine's memory."""
    async with running(f"{__name__}:Hoarder", memory=1 << 30) as transcriber:
        with pytest.raises(EngineFailed):
            await transcriber.transcribe(stream(recording(0)), SCRIPTED)


def test_the_worker_reads_nothing_but_the_protocol_from_a_child() -> None:
    """A message that names any other object than pebble's own is refused before it is built."""
    reader, writer = pool._Context().Pipe(duplex=False)
    with reader, writer:
        writer.send(TaskResult(task=1, result=b"fine"))
        assert reader.recv().result == b"fine"
        writer.send(Path("/etc/passwd"))
        with pytest.raises(Exception, match="not of the protocol"):
            reader.recv()


HELPER = """
import asyncio, os, signal, sys
from datetime import timedelta
from tests.integration.test_transcriber_children import SCRIPTED, running
from tests.recognizers import recording
from tests.speech import stream

async def main(takes):
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    async with running(children=2) as transcriber:
        jobs = [transcriber.transcribe(stream(recording(takes)), SCRIPTED) for _ in range(2)]
        print(sum(b'"done "' in told for told in await asyncio.gather(*jobs)), flush=True)
        await asyncio.to_thread(sys.stdin.read)

if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
"""


@contextlib.contextmanager
def helper(takes: float) -> Iterator[subprocess.Popen[str]]:
    """Run a process, in a group of its own, that works on two recordings."""
    command = [sys.executable, "-c", HELPER, str(takes)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


async def test_no_child_outlives_a_killed_worker() -> None:
    """After `kill -9` of the process that owns them, every child is gone within seconds."""
    with helper(200) as process:

        async def busy() -> bool:
            return len(await at_work(process.pid)) == 2

        await wait_until(busy)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 4
        process.kill()

        async def gone() -> bool:
            return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)

        await wait_until(gone)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_group_leave_the_children_to_the_worker(number: signal.Signals) -> None:
    """Ctrl-C, or a supervisor that signals all, does not disturb what the worker wants to finish."""
    working = set[psutil.Process]()
    with helper(3) as process:

        async def busy() -> bool:
            for child in await at_work(process.pid):
                child.suspend()  # however long the other one takes to begin, this one has not ended
                working.add(child)
            return len(working) == 2

        await wait_until(busy)
        os.killpg(process.pid, number)
        for child in working:
            child.resume()
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "2\n"
        assert all(child.is_running() for child in working)
