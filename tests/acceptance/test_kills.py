"""Processes that are killed, or asked to stop, in the middle of their work (promise P1)."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from retention.job import Processing
from tests.acceptance.client import Client
from tests.acceptance.remains import (
    at_work,
    busy,
    completions,
    family,
    is_alive,
    nothing_left_over,
    record,
    records,
    said,
    uploading,
)
from tests.recognizers import QUICK, recording
from tests.stack import StartStack, wait_until

BACKLOG = 1000


async def test_a_killed_workers_job_goes_to_another_within_20_s_and_before_the_backlog(fresh_stack: StartStack) -> None:
    """With the default lease: claimed again, counted, finished once, while a thousand others go on waiting."""
    stack = fresh_stack(workers=0, **QUICK)
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(recording(3))
        short = recording(1)
        await asyncio.gather(*(client.submit(short) for _ in range(BACKLOG)))
        killed = stack.start_worker()
        await wait_until(lambda: busy(stack))
        orphans = family(killed)
        stack.kill("worker-1")
        deadline = time.monotonic() + 20
        await wait_until(lambda: all_dead(orphans))
        began = time.monotonic()
        stack.start_worker()
        deadline += time.monotonic() - began  # the other one is there already where it matters

        async def claimed_again() -> bool:
            found = record(stack, job)
            return isinstance(found, Processing) and found.attempts == 2

        await wait_until(claimed_again, within=deadline - time.monotonic())
        assert len(said(stack, "job completed")) < 20
        await wait_until(lambda: client.ended(job))
        code, body = await client.look_up(job)
        assert (code, body["status"], len(body["results"])) == (200, "completed", 1)
        assert await completions(stack, job) == [2]
        assert len(said(stack, "job completed")) < 30
        tenant = next(iter(records(stack))).tenant
    stack.volant("tenant", "delete", tenant, "--yes")
    await nothing_left_over(stack)


async def test_a_killed_recognising_child_is_replaced(fresh_stack: StartStack) -> None:
    """The worker lives on, the job ends, and so does the next one."""
    stack = fresh_stack(workers=1, **QUICK)
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(recording(2))
        await wait_until(lambda: busy(stack))
        for child in at_work(stack.workers[0]):
            child.kill()
        await wait_until(lambda: client.ended(job))
        after = await client.submit(recording(0))
        await wait_until(lambda: client.ended(after))
        assert [await client.status(job), await client.status(after)] == ["completed", "completed"]
    assert stack.workers[0].poll() is None
    await nothing_left_over(stack)


async def test_a_killed_decoding_child_is_replaced(fresh_stack: StartStack) -> None:
    """The job ends with the result that it would have had."""
    stack = fresh_stack(workers=1, **QUICK)
    audio = recording(0.5, lasts=60)  # too much to be decoded before the first part is recognised
    idle = set(family(stack.workers[0]))
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(audio)
        await wait_until(lambda: busy(stack))
        for child in set(family(stack.workers[0])) - idle:
            child.kill()
        undisturbed = await client.submit(audio)
        bodies = []
        for each in (job, undisturbed):
            await wait_until(lambda each=each: client.ended(each))  # type: ignore[misc]
            bodies.append((await client.look_up(each))[1])
        assert bodies[0]["status"] == "completed"
        assert bodies[0]["results"] == bodies[1]["results"]
    assert stack.workers[0].poll() is None
    await nothing_left_over(stack)


async def test_a_killed_forkserver_is_replaced_by_one_that_knows_as_little(fresh_stack: StartStack) -> None:
    """All children die with it; the new ones have nothing of the worker's environment either."""
    stack = fresh_stack(workers=1, **QUICK)
    worker = stack.workers[0]
    own = psutil.Process(worker.pid).children()
    (forkserver,) = [child for child in own if "multiprocessing.forkserver" in str(child.cmdline())]
    old = [forkserver, *forkserver.children()]
    assert len(old) == 2
    forkserver.kill()
    await wait_until(lambda: all_dead(old))
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(recording(3))
        await wait_until(lambda: busy(stack))
        environments = [environment(child) for child in family(worker) if is_alive(child)]
        await wait_until(lambda: client.ended(job))
        assert await client.status(job) == "completed"
    assert len(environments) >= 3  # of the forkserver, the resource tracker, and a child at least
    assert {"PATH"} <= set().union(*environments) <= {"PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    await nothing_left_over(stack)


def environment(process: psutil.Process) -> set[str]:
    """Return the names in the environment that a process began with; none of a confined one but to the superuser."""
    try:
        content = Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:  # also one that has just ended
        return set()
    return {entry.partition(b"=")[0].decode() for entry in content.split(b"\0") if entry}


async def test_a_killed_api_leaves_nothing_of_an_upload_under_way(fresh_stack: StartStack) -> None:
    """What had arrived is gone with the process; started again, the API serves."""
    stack = fresh_stack(workers=1, **QUICK)
    audio = recording(0, lasts=30)
    for_ever = asyncio.Event()

    async def begun() -> AsyncIterator[bytes]:
        yield audio
        await for_ever.wait()

    async with Client(stack.url, stack.apikey) as client:
        upload = asyncio.create_task(client.submit(begun()))
        await wait_until(lambda: uploading(stack))
        stack.kill("api")
        with pytest.raises(aiohttp.ClientError):
            await upload
        assert not [path for path in (stack.data / "audio").rglob("*") if path.is_file()]
        stack.start_api()
        assert await client.listed() == []
        assert records(stack) == []
        job = await client.submit(audio)
        await wait_until(lambda: client.ended(job))
    await nothing_left_over(stack)


async def test_a_stopped_worker_hands_its_job_to_another_uncounted(fresh_stack: StartStack) -> None:
    """On SIGTERM: exit code 0, the other begins at once, and clients never see anything but `processing`."""
    stack = fresh_stack(workers=1, drain="0.5", **QUICK)
    seen = set()
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(recording(3))
        await wait_until(lambda: busy(stack))
        first = stack.workers[0]
        for child in at_work(first):
            child.suspend()  # however long the other worker takes to start, this one has not ended
        await asyncio.to_thread(stack.start_worker)
        before = record(stack, job)
        assert isinstance(before, Processing)
        first.send_signal(signal.SIGTERM)

        async def stopped() -> bool:
            seen.add(await client.status(job))
            return first.poll() is not None

        async def taken() -> bool:
            seen.add(await client.status(job))
            found = record(stack, job)
            return isinstance(found, Processing) and found.holder not in {"", before.holder}

        await wait_until(stopped)
        assert first.returncode == 0
        await wait_until(taken, within=5)  # the lease, of 10 s, need not lapse
        assert seen == {"processing"}
        await wait_until(lambda: client.ended(job))
    assert await completions(stack, job) == [1]
    await nothing_left_over(stack)


async def all_dead(processes: list[psutil.Process]) -> bool:
    return not any(is_alive(process) for process in processes)
