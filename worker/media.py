"""Audio bytes to samples, with FFmpeg's demuxers and decoders. Runs only inside a sandboxed child.

The demuxer is forced by the media type, never guessed: a guess would let a playlist or a session
description that calls itself a recording reach files and networks. Damaged audio is decoded as far
as it goes; only audio of which nothing can be decoded is refused.
"""

import contextlib
from array import array
from collections.abc import Iterator
from itertools import pairwise
from sys import byteorder
from typing import Any, Protocol

import av
from av.filter import Graph

from retention.job import SAMPLING_RATES, Media
from worker.errors import TooLong, Undecodable

RATE = 16000
"""Samples per second of what comes out, one channel, signed 16 bit, native byte order."""

_CHANNELS = range(1, 17)

_DEMUXERS = {
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/mp3": "mp3",
    "audio/ogg": "ogg",
    "audio/webm": "webm",
}

_WAV = [
    *("pcm_alaw", "pcm_f32le", "pcm_f64le", "pcm_mulaw", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_s64le", "pcm_u8"),
    *("adpcm_ima_wav", "adpcm_ms", "gsm_ms"),
]

_DECODERS = {
    "audio/wav": _WAV,
    "audio/flac": ["flac"],
    "audio/mp3": ["mp3", "mp3float", "mp2", "mp2float"],
    "audio/ogg": ["opus", "vorbis"],
    "audio/webm": ["opus", "vorbis"],
    "audio/l16": ["pcm_s16be", "pcm_s16le"],
}

_LOOKED_AT = 256 << 10
"""Bytes of raw samples from which their byte order is told."""


class Source(Protocol):
    """Where the bytes come from: forward only, `b""` at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, waiting for at least one."""
        ...


class Decoding:
    """One pass over one recording.

    Iterating yields runs of samples (bytes, whole samples). Raises Undecodable when no sample comes
    out, and TooLong as soon as there is more than `most` samples. `damaged` tells afterwards that
    parts could not be decoded; what could be has been yielded.
    """

    def __init__(self, source: Source, media: Media, *, most: int) -> None:
        self._source = source
        self._media = media
        self._most = most
        self.damaged = False

    def __iter__(self) -> Iterator[bytes]:
        samples = 0
        try:
            for run in self._runs():
                samples += len(run) // 2
                if samples > self._most:
                    raise TooLong
                yield run
        except (TooLong, GeneratorExit):
            raise
        except Exception as error:
            # FFmpeg's bindings raise a dozen types on hostile bytes.
            if not samples:
                raise Undecodable from error
            self.damaged = True
        if not samples:
            raise Undecodable

    def _runs(self) -> Iterator[bytes]:
        with self._open() as container:
            stream = container.streams.audio[0]
            decoder = stream.codec_context
            if decoder.name not in _DECODERS[self._media.type]:
                raise Undecodable
            decoder.thread_count = 1
            mixer, shape = None, None
            for frame in self._frames(container, stream):
                if frame.sample_rate not in SAMPLING_RATES or frame.layout.nb_channels not in _CHANNELS:
                    raise Undecodable
                # A chained stream may change its form between two frames.
                if mixer is None or shape != (frame.sample_rate, frame.layout.name, frame.format.name):
                    if mixer is not None:
                        yield from _mixed(mixer, None)
                    shape = (frame.sample_rate, frame.layout.name, frame.format.name)
                    mixer = _mixer(frame, stream.time_base)
                # The clock of the result is the count of samples; gaps that the container claims are not audio.
                frame.pts = None
                yield from _mixed(mixer, frame)
            if mixer is not None:
                yield from _mixed(mixer, None)

    def _open(self) -> Any:
        media = self._media
        options = {"protocol_whitelist": "none", "codec_whitelist": ",".join(_DECODERS[media.type])}
        source = self._source
        if media.type == "audio/l16":
            head = b""
            while len(head) < _LOOKED_AT and (more := source.read(_LOOKED_AT - len(head))):
                head += more
            little = _is_little_endian(head) if media.endianness is None else media.endianness == "little-endian"
            demuxer = "s16le" if little else "s16be"
            if media.rate not in SAMPLING_RATES or media.channels not in _CHANNELS:
                raise Undecodable
            source = _Rejoined(head, source)
            options |= {"sample_rate": str(media.rate), "ch_layout": f"{media.channels}C"}
        else:
            demuxer = _DEMUXERS[media.type]
        options["format_whitelist"] = "matroska,webm" if demuxer == "webm" else demuxer
        return av.open(source, mode="r", format=demuxer, options=options, metadata_errors="ignore")

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                self.damaged = True


class _Rejoined:
    """A source whose head has been looked at."""

    def __init__(self, head: bytes, rest: Source) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int) -> bytes:
        if not self._head:
            return self._rest.read(size)
        head, self._head = self._head[:size], self._head[size:]
        return head


def _mixer(frame: Any, time_base: Any) -> Graph:
    """Return what averages all channels, whatever their number and places, and resamples."""
    channels = frame.layout.nb_channels
    graph = Graph()
    steps = [
        graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=time_base
        ),
        graph.add("pan", "mono|c0=" + "+".join(f"{1 / channels:.6f}*c{channel}" for channel in range(channels))),
        graph.add("aformat", f"sample_fmts=s16:channel_layouts=mono:sample_rates={RATE}"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*steps).configure()
    return graph


def _mixed(mixer: Graph, frame: Any) -> Iterator[bytes]:
    """Push a frame, or the end, through a mixer."""
    mixer.push(frame)
    with contextlib.suppress(BlockingIOError, EOFError):
        while True:
            mixed: Any = mixer.pull()
            yield bytes(mixed.planes[0])[: mixed.samples * 2]  # the plane is padded


def _is_little_endian(head: bytes) -> bool:
    """Tell the byte order: speech is smooth, and read in the wrong order it is noise."""
    native = array("h", head[: len(head) // 2 * 2])
    swapped = native[:]
    swapped.byteswap()
    native_is_smoother = _roughness(native) <= _roughness(swapped)
    return native_is_smoother == (byteorder == "little")


def _roughness(samples: "array[int]") -> int:
    return sum(abs(after - before) for before, after in pairwise(samples))
