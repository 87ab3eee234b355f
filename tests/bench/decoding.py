"""How fast an hour of audio is decoded, against PyAV alone, and whether memory stays flat.

Both read the same file forward only, with the same demuxer and decoder, and end in the same form: 16 kHz, mono,
16 bit. They take turns within each round, every other round in the other order; processor time is compared, since
the machine may be shared. A process decodes one format and is warm: it has decoded the first minutes before.
Exits with 1 when a format has less than 0.8 of PyAV's speed, or memory grows over the hour. A line more tells what the
whole way through the child costs, speech detection and transport included; no bound is put on it.
Run it with `make bench`.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import BinaryIO

import av
from msgspec import Struct

from retention.job import Media
from tests.formats import RATE, Form, speech, written
from worker import sandbox
from worker.decoding import Decoder, Limits, Order
from worker.media import Decoding

HOUR = 3600
ROUNDS = 3
AT_LEAST = 0.8
"""The share of PyAV's speed that our decoding must reach, in every format."""

AT_MOST = 4 << 20
"""Bytes by which the peak of resident memory may grow from the first minutes to the end of the hour."""

WARM = 1 / 20
"""The share of a file with which a process becomes warm: three minutes."""

FORMS = {
    "wav": Form(muxer="wav", encoder="pcm_s16le"),
    "flac": Form(muxer="flac", encoder="flac", rate=44100, channels=2),
    "mp3": Form(muxer="mp3", encoder="mp3", rate=22050, bit_rate=32_000),
    "ogg": Form(muxer="ogg", encoder="libopus", bit_rate=24_000),
    "webm": Form(muxer="webm", encoder="vorbis", rate=RATE, channels=2),
}


Decode = Callable[["Forward", str], int]


class Speeds(Struct, frozen=True):
    """Processor seconds of each round, ours and PyAV's alone, and bytes by which our peak of memory grew."""

    ours: list[float]
    bare: list[float]
    grown: int


class Forward:
    """The first bytes of a file as the decoding child has them: no seeking, at most 64 KiB at a time."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self._left = length

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes."""
        content = self._file.read(min(size, 64 << 10, self._left))
        self._left -= len(content)
        return content


def ours(source: Forward, name: str) -> int:
    return sum(len(run) for run in Decoding(source, Media(type=f"audio/{name}"), most=2 * HOUR * RATE)) // 2


def bare(source: Forward, name: str) -> int:
    samples = 0
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(source, mode="r", format=name) as container:
        for frame in container.decode(audio=0):
            for out in resampler.resample(frame):
                samples += len(bytes(out.planes[0])[: out.samples * 2]) // 2
        for out in resampler.resample(None):
            samples += len(bytes(out.planes[0])[: out.samples * 2]) // 2
    return samples


def timed(decode: Decode, path: Path, name: str) -> float:
    """Return the processor seconds of decoding the hour."""
    with path.open("rb") as file:
        begun = time.process_time()
        samples = decode(Forward(file, path.stat().st_size), name)
        spent = time.process_time() - begun
    if abs(samples - HOUR * RATE) > RATE:
        raise AssertionError(f"{decode.__name__}: {samples} samples of {name}")
    return spent


def peak() -> int:
    """Return the most bytes of resident memory that this process has had; getrusage counts its parent's, too."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10


def measure(path: Path, name: str) -> Speeds:
    """Decode a file again and again; in a process of its own, whose memory nothing else has touched."""
    with path.open("rb") as file:
        ours(Forward(file, round(path.stat().st_size * WARM)), name)
    warm = peak()
    timed(ours, path, name)
    grown = peak() - warm
    spent: dict[Decode, list[float]] = {ours: [], bare: []}
    for number in range(ROUNDS):
        for which in (ours, bare) if number % 2 else (bare, ours):
            spent[which].append(timed(which, path, name))
    return Speeds(ours=spent[ours], bare=spent[bare], grown=grown)


async def through_the_child(path: Path, name: str) -> float:
    """Return seconds of the clock from the bytes of a file to its last segment of speech."""

    async def pieces() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(256 << 10):
                yield piece

    limits = Limits(memory=1 << 30, stall=timedelta(minutes=1), max_audio=timedelta(hours=2))
    begun = time.monotonic()
    async with Decoder(pieces(), Order(media=Media(type=f"audio/{name}")), limits) as decoder:
        async for _ in decoder:
            pass
    return time.monotonic() - begun


def an_hour() -> "Iterator[array[int]]":
    """Yield real speech, over and over."""
    names = ("librivox_0870.wav", "librivox_0880.wav", "librivox_0890.wav", "goforward.wav", "cards_001.wav")
    some = speech(*names)
    for at in range(0, HOUR * RATE, len(some)):
        yield some[: HOUR * RATE - at]


def compare(name: str, folder: Path) -> bool:
    """Print how one format does; tell whether it does as it must."""
    path = folder / name
    with path.open("wb") as file:
        written(an_hour(), FORMS[name], file)
    with SpawnContext().Pool(1) as pool:
        speeds = pool.apply(measure, (path, name))
    mine, theirs = statistics.median(speeds.ours), statistics.median(speeds.bare)
    ratio = statistics.median(theirs / mine for mine, theirs in zip(speeds.ours, speeds.bare, strict=True))
    print(
        f"  {name:5} {path.stat().st_size >> 20:4} MiB   bare {HOUR / theirs:5.0f}   ours {HOUR / mine:5.0f}   "
        f"ratio {ratio:.2f}   memory +{speeds.grown / (1 << 20):.1f} MiB   "
        f"through the child, by the clock: {HOUR / asyncio.run(through_the_child(path, name)):.0f}",
        flush=True,
    )
    path.unlink()
    return ratio >= AT_LEAST and speeds.grown <= AT_MOST


def main() -> int:
    sandbox.start_forkserver(["worker.preload"])
    print(f"an hour of speech, {ROUNDS} rounds, medians; audio s per s of processor time:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        well = [compare(name, Path(folder)) for name in FORMS]
    print(f"  at least {AT_LEAST} of PyAV's speed and at most {AT_MOST >> 20} MiB more wanted in each")
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
