"""One recording in a process of its own: bytes in, segments of speech out.

The two processes share a socket. Downwards go the bytes of the recording, until the writing half is
closed; upwards go frames: kind, sample, length, payload. The child has met hostile bytes, so
the parent believes nothing: every frame is checked, and time is bounded by the child's progress.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from retention.job import Media
from retention.results import AudioMetrics
from worker import sandbox
from worker.errors import EngineFailed, TooLong, Undecodable
from worker.media import RATE, Decoding
from worker.metrics import INTERVAL, Meter
from worker.segments import LONGEST, Segment, segments

_HEADER = struct.Struct("!cQI")
_SEGMENT, _PROGRESS, _METRICS = b"S", b"P", b"M"
_WHOLE, _DAMAGED, _UNDECODABLE, _TOO_LONG = b"W", b"D", b"U", b"L"
_REFUSALS = {_UNDECODABLE: Undecodable, _TOO_LONG: TooLong}
_BLOCK = 64 << 10


class Limits(Struct, frozen=True, kw_only=True):
    """What one recording may cost: bytes of address space, time without progress, length."""

    memory: int
    stall: timedelta
    max_audio: timedelta


class Order(Struct, frozen=True, kw_only=True):
    """What a child is told: the form of the audio, how readily sound is taken for speech, whether it is measured."""

    media: Media
    sensitivity: float = 0.5
    metrics: bool = False


class Decoder:
    """A decoding child, from entering the context until leaving it; leaving kills it.

    Iterating yields the segments in time order. Raises Undecodable, TooLong, EngineFailed, or what
    the source of the audio raises. `samples` is how many are known to have come out; afterwards `damaged` tells
    whether parts could not be decoded, and `metrics` what was measured, if that was asked for.
    """

    def __init__(self, audio: AsyncIterator[bytes], order: Order, limits: Limits) -> None:
        self._audio = audio
        self._order = order
        self._stall = limits.stall.total_seconds()
        self._most = round(limits.max_audio.total_seconds() * RATE)
        self._limits = limits
        self._moved = 0.0
        self._source_is_slow = False
        self._source_failed: BaseException | None = None
        self.damaged = False
        self.samples = 0
        self.metrics: AudioMetrics | None = None

    async def __aenter__(self) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = ForkServerContext().Process(
                target=_decode, args=(theirs, self._order, self._most, self._limits), name="decoder", daemon=True
            )
            self._process.start()
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=_BLOCK)
        self._feeding = asyncio.create_task(self._feed())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._writer.transport.abort()
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)
        if isinstance(self._audio, AsyncGenerator):
            await self._audio.aclose()  # now, and not when it is collected: it holds a key and a file

    async def __aiter__(self) -> AsyncIterator[Segment]:
        heard = reported = 0
        while True:
            kind, start, length = _HEADER.unpack(await self._read(_HEADER.size))
            size = length // 2 if kind == _SEGMENT else 0
            expected = {
                _SEGMENT: 0 < length <= LONGEST * 2 and length % 2 == 0,
                _METRICS: 0 < length <= _BLOCK and self.metrics is None,
            }.get(kind, length == 0)
            # The detector may fill the last frame with silence: hence the second above what was asked for.
            if not expected or not heard <= start <= start + size <= self._most + RATE:
                raise EngineFailed
            self.samples = max(self.samples, start + size)
            if kind == _SEGMENT:
                heard = start + size
                yield Segment(start=start, pcm=await self._read(length))
            elif kind == _METRICS:
                self.metrics = _decoded_metrics(await self._read(length))
            elif kind in _REFUSALS:
                raise _REFUSALS[kind]
            elif kind in (_WHOLE, _DAMAGED):
                self.damaged, self.samples = kind == _DAMAGED, start
                if self._source_failed:
                    raise self._source_failed
                return
            elif kind == _PROGRESS and start > reported:
                reported = start
            else:  # also progress that is none: it would keep a child alive that was taken over
                raise EngineFailed

    async def _read(self, size: int) -> bytes:
        """Read what the child says, as long as it makes progress: it takes bytes or gives some."""
        clock = asyncio.get_running_loop().time
        self._moved = max(self._moved, clock())
        while True:
            try:
                async with asyncio.timeout_at(self._moved + self._stall):
                    content = await self._reader.readexactly(size)
            except TimeoutError:
                if self._source_is_slow:
                    self._moved = clock()
                elif clock() >= self._moved + self._stall:
                    raise EngineFailed from None
            except (OSError, asyncio.IncompleteReadError):
                raise self._source_failed or EngineFailed from None
            else:
                return content

    async def _feed(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._source_is_slow = True
            try:
                chunk = await anext(self._audio, None)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's, and no end of the audio
                self._source_failed = error
                self._writer.transport.abort()
                return
            finally:
                self._source_is_slow = False
                self._moved = clock()
            with contextlib.suppress(OSError):  # the child has ended, or is killed: the reader finds out
                if chunk is None:
                    self._writer.write_eof()
                    return
                for at in range(0, len(chunk), _BLOCK):
                    self._writer.write(chunk[at : at + _BLOCK])
                    await self._writer.drain()
                    self._moved = clock()
                continue
            return


def _decoded_metrics(content: bytes) -> AudioMetrics:
    try:
        return msgspec.json.decode(content, type=AudioMetrics)
    except (msgspec.MsgspecError, RecursionError):
        raise EngineFailed from None


def _decode(channel: socket.socket, order: Order, most: int, limits: Limits) -> None:
    """Decode in a child, until the parent kills it."""
    # A twentieth of the time of the audio is seven times what the slowest decoder needs, with all measures.
    sandbox.confine(memory=limits.memory, cpu=60 + most // RATE // 20)
    descriptor = channel.detach()

    def send(kind: bytes, start: int, payload: bytes = b"") -> None:
        rest = memoryview(_HEADER.pack(kind, start, len(payload)) + payload)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    decoding = Decoding(_Bytes(descriptor), order.media, most=most)
    try:
        heard = _listen(decoding, order, send)
        send(_DAMAGED if decoding.damaged else _WHOLE, heard)
    except Undecodable:
        send(_UNDECODABLE, 0)
    except TooLong:
        send(_TOO_LONG, most)
    # Closing a socket with unread bytes in it would take the last frame from the parent: it kills us.
    while os.read(descriptor, _BLOCK):
        pass


def _listen(decoding: Decoding, order: Order, send: Callable[[bytes, int, bytes], None]) -> int:
    """Send the segments and the measures; return how many samples there were."""
    heard = 0
    meter = Meter() if order.metrics else None
    runs = meter.through(decoding) if meter else decoding
    for found in segments(runs, sensitivity=order.sensitivity):
        if isinstance(found, Segment):
            heard = found.start + len(found.pcm) // 2
            send(_SEGMENT, found.start, found.pcm)
            if meter:
                meter.mark(found)
        elif found > heard:
            heard = found
            send(_PROGRESS, found, b"")
    if meter:
        metrics = AudioMetrics(sampling_interval=INTERVAL, accumulated=meter.accumulated())
        send(_METRICS, heard, msgspec.json.encode(metrics))
    return heard


class _Bytes:
    """The recording as FFmpeg reads it: forward only, as much as there is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        return os.read(self._descriptor, min(size, _BLOCK))
