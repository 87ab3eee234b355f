"""The audio store in processes of their own: one that is killed, and one whose memory is measured."""

import signal
import subprocess
import sys
from pathlib import Path

UPLOADER = """
import asyncio, sys, pathlib
from retention.audio_directory import AudioDirectory

async def endless():
    while True:
        yield bytes(1 << 20)
        print("more", flush=True)

asyncio.run(AudioDirectory(pathlib.Path(sys.argv[1])).write("tenant-1", "job-1", endless()))
"""

MEASURE = """
import asyncio, sys, pathlib, resource
from retention.audio_directory import AudioDirectory

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def recording(mebibytes):
    piece = bytes(65536)
    for _ in range(mebibytes * 16):
        yield piece

async def main():
    store = AudioDirectory(pathlib.Path(sys.argv[1]))
    await store.write("tenant-1", "job-0", recording(4))
    before = peak()
    size = await store.write("tenant-1", "job-1", recording(300))
    async for piece in store.read("tenant-1", "job-1"):
        size -= len(piece)
    print(size, peak() - before)

asyncio.run(main())
"""


def test_a_killed_uploader_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL in the middle of an upload leaves no file, not even a hidden one."""
    with subprocess.Popen([sys.executable, "-c", UPLOADER, str(tmp_path)], stdout=subprocess.PIPE) as uploader:
        assert uploader.stdout is not None
        for _ in range(8):
            assert uploader.stdout.readline() == b"more\n"
        uploader.send_signal(signal.SIGKILL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_memory_is_flat(tmp_path: Path) -> None:
    """Storing and reading 300 MiB takes less than 16 MiB more than 4 MiB did."""
    shown = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], check=True, capture_output=True).stdout
    difference, growth = map(int, shown.split())
    assert difference == 0
    assert growth < 16
