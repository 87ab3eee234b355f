"""Recordings that are traps end as failed jobs, in the contract's words, and nothing of them is left."""

import asyncio
import functools
import io
import os
from typing import Any

import av

from deploy.stack import Stack
from retention.settings import Settings
from tests.acceptance.client import Client
from tests.acceptance.remains import nothing_left_over, said
from tests.acceptance.test_bad_input import submit
from tests.integration.test_hostile_audio import wav
from tests.integration.test_sandbox import confined
from tests.stack import StartStack, wait_until
from worker import sandbox

UNDECODABLE = "unable to transcode data stream -> audio/x-float-array"
TOO_LONG = "the audio is longer than this service accepts"


def silence(container: str, codec: str, *, hours: float, **options: str) -> bytes:
    """Return a file of silence that says itself what it is, as small as the codec makes it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as muxer:
        encoder: Any = muxer.add_stream(codec, rate=16000, layout="mono", options=options)
        frame = av.AudioFrame(format="s16", layout="mono", samples=16000)
        frame.rate = 16000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        for _ in range(round(hours * 3600)):
            frame.pts = None
            muxer.mux(encoder.encode(frame))
        muxer.mux(encoder.encode(None))
    return file.getvalue()


def test_the_worker_reports_what_confines_its_children(stack: Stack) -> None:
    """The log line of a real worker's start says of every part what a confined child says."""
    sandbox.start_forkserver(["worker.preload"])
    isolation, _ = confined(os.getpid)
    assert set(isolation) == {"network", "files", "processes", "memory"}
    memory = f"rlimit {Settings().child_memory >> 20} MiB"
    assert said(stack, "worker ready")[0]["isolation"] == isolation | {"memory": memory}


async def test_traps_fail_their_jobs_and_leave_nothing(fresh_stack: StartStack) -> None:
    """Hours in few bytes, and rates that nobody records at, in a service that takes a minute."""
    stack = fresh_stack(max_audio="60", children="1")
    flac = await asyncio.to_thread(silence, "flac", "flac", hours=10, frame_size="65535")
    assert len(flac) < 200_000
    opus = await asyncio.to_thread(silence, "ogg", "libopus", hours=0.1, dtx="1", b="6000")
    traps = {"flac": flac, "ogg": opus, "wav at 1 Hz": wav(rate=1), "wav at 4 GHz": wav(rate=4_000_000_000)}
    jobs = {}
    for name, audio in traps.items():
        code, job = await submit(stack.url, stack.apikey, "", audio, {})
        assert code == 201, job
        jobs[name] = job["id"]
    outcomes = {}
    async with Client(stack.url, stack.apikey) as client:
        for name, job in jobs.items():
            await wait_until(functools.partial(client.ended, job))
            ended = (await client.look_up(job))[1]
            outcomes[name] = (ended["status"], ended["results"])
    assert outcomes == {
        name: ("failed", [{"error": UNDECODABLE if name.startswith("wav") else TOO_LONG}]) for name in traps
    }
    await nothing_left_over(stack)
