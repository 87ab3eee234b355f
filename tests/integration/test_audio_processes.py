"""Audio stores in processes of their own: one that is killed, and one whose memory is measured."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.places import KINDS, Place, place_of

UPLOADER = """
import asyncio
from retention.audio_stores import open_audio
from retention.settings import load

async def endless():
    while True:
        yield bytes(1 << 20)
        print("more", flush=True)

async def main():
    await open_audio(load())[0].write("tenant-1", "job-1", endless())

asyncio.run(main())
"""

MEASURE = """
import asyncio, resource
from retention.audio_stores import open_audio
from retention.settings import load

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def recording(mebibytes):
    piece = bytes(65536)
    for _ in range(mebibytes * 16):
        yield piece

async def main():
    store = open_audio(load())[0]
    await store.write("tenant-1", "job-0", recording(16))
    async for piece in store.read("tenant-1", "job-0"):
        pass
    before = peak()
    size = await store.write("tenant-1", "job-1", recording(200))
    async for piece in store.read("tenant-1", "job-1"):
        size -= len(piece)
    print(size, peak() - before)

asyncio.run(main())
"""

SHORT = """
import asyncio
from retention.audio_stores import open_audio
from retention.settings import load

async def main():
    return await open_audio(load())[0].holds("tenant-1", "job-1")

raise SystemExit(7 if not asyncio.run(main()) else 0)
"""


@pytest.fixture(params=KINDS)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """Give a place of each kind that is ready to use."""
    async with place_of(request.param, request, tmp_path, monkeypatch) as place:
        await place.audio.prepare()
        yield place


async def running(program: str, place: Place) -> asyncio.subprocess.Process:
    environment = {f"VOLANT_{name.upper()}": value for name, value in place.settings.items()}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=os.environ | environment, stdout=PIPE
    )


async def test_a_killed_uploader_leaves_nothing(place: Place) -> None:
    """SIGKILL in the middle of an upload leaves no recording, not even a hidden one; in S3 and at Google parts of it.

    They are what the rules of the bucket are for (README): nothing that reads the bucket can see them.
    """
    uploader = await running(UPLOADER, place)
    assert uploader.stdout is not None
    for _ in range(20):
        assert await uploader.stdout.readline() == b"more\n"
    uploader.kill()
    await uploader.communicate()
    assert place.names() == []
    assert place.unfinished() <= 1


async def test_memory_is_flat(place: Place) -> None:
    """Storing and reading 200 MiB takes less than 16 MiB more than 16 MiB did."""
    measured = await running(MEASURE, place)
    shown, _ = await measured.communicate()
    difference, growth = map(int, shown.split())
    assert difference == 0
    assert growth < 16


async def test_a_process_may_end_at_once(place: Place) -> None:
    """A command that ends with its last call ends as it says, and is not aborted."""
    for _ in range(4):
        command = await running(SHORT, place)
        await command.communicate()
        assert command.returncode == 7
