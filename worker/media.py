"""Audio bytes to samples, with FFmpeg's demuxers and decoders. Runs only inside a sandboxed child.

The demuxer is forced by the media type, never guessed: a guess would let a playlist or a session
description that calls itself a recording reach files and networks. Damaged audio is decoded as far
as it goes; only audio of which nothing can be decoded is refused. There may be up to 16 channels in
any form, WAV included, for which the contract promises nine (spec 5.1).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import av
from av.filter import Graph

from retention.job import SAMPLING_RATES, Media
from worker.errors import TooLong, Undecodable
from worker.raw import Source, g729_bit_rate, is_little_endian

RATE = 16000
"""Samples per second of what comes out, one channel, signed 16 bit, native byte order."""

_CHANNELS = range(1, 17)

_MPEG = ["mp3", "mp3float", "mp2", "mp2float"]
_OPUS_OR_VORBIS = ["opus", "vorbis"]
_IN_WAV = [
    *("pcm_alaw", "pcm_f32le", "pcm_f64le", "pcm_mulaw", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_s64le", "pcm_u8"),
    *("adpcm_ima_wav", "adpcm_ms", "g722", "g726", "g729", "gsm_ms", *_MPEG),
]

_CONTAINED = {
    "audio/wav": ("wav", _IN_WAV),
    "audio/flac": ("flac", ["flac"]),
    "audio/mp3": ("mp3", _MPEG),
    "audio/ogg": ("ogg", _OPUS_OR_VORBIS),
    "audio/webm": ("webm", _OPUS_OR_VORBIS),
}
"""The demuxer of each type of container, and the decoders that may follow it."""


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
        source, demuxer, decoders, options = _reading(self._source, self._media)
        with _open(source, demuxer, decoders, options) as container:
            stream = container.streams.audio[0]
            decoder = stream.codec_context
            if decoder.name not in decoders:
                raise Undecodable
            decoder.thread_count = 1
            mixer, shape = None, None
            for frame in self._frames(container, stream):
                # A chained stream may change its form between two frames.
                form = (frame.sample_rate, frame.layout.name, frame.format.name)
                if form != shape:
                    if mixer is not None:
                        yield from _mixed(mixer, None)
                    shape, mixer = form, _mixer(frame, stream.time_base)
                if mixer is None:
                    yield _samples(frame)
                    continue
                # The clock of the result is the count of samples; gaps that the container claims are not audio.
                frame.pts = None
                yield from _mixed(mixer, frame)
            if mixer is not None:
                yield from _mixed(mixer, None)

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                self.damaged = True


def _reading(source: Source, media: Media) -> tuple[Source, str, list[str], dict[str, str]]:
    """Return what to read, and the demuxer, decoders and options to read it with."""
    if media.type in _CONTAINED:
        return source, *_CONTAINED[media.type], {}
    if media.type == "audio/g729":
        bit_rate, source = g729_bit_rate(source)
        return source, "g729", ["g729"], {"bit_rate": str(bit_rate)}
    if media.rate not in SAMPLING_RATES or media.channels not in _CHANNELS:
        raise Undecodable
    options = {"sample_rate": str(media.rate), "ch_layout": f"{media.channels}C"}
    if media.type in ("audio/alaw", "audio/mulaw"):
        law = media.type.removeprefix("audio/")
        return source, law, [f"pcm_{law}"], options
    little = media.endianness == "little-endian"
    if media.endianness is None:
        little, source = is_little_endian(source, media.channels)
    demuxer = "s16le" if little else "s16be"
    return source, demuxer, [f"pcm_{demuxer}"], options


def _open(source: Source, demuxer: str, decoders: list[str], options: dict[str, str]) -> Any:
    options = options | {
        "protocol_whitelist": "none",
        "format_whitelist": "matroska,webm" if demuxer == "webm" else demuxer,
        "codec_whitelist": ",".join(decoders),
    }
    return av.open(source, mode="r", format=demuxer, options=options, metadata_errors="ignore")


def _mixer(frame: Any, time_base: Any) -> Graph | None:
    """Return what averages all channels, whatever their number and places, and resamples; None if there is no need.

    Raises Undecodable for frames outside the bounds.
    """
    channels = frame.layout.nb_channels
    if frame.sample_rate not in SAMPLING_RATES or channels not in _CHANNELS:
        raise Undecodable
    if (frame.sample_rate, channels) == (RATE, 1) and frame.format.name in ("s16", "s16p"):
        return None
    graph = Graph()
    mean = "mono|c0=" + "+".join(f"{1 / channels:.6f}*c{channel}" for channel in range(channels))
    steps = [
        graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format.name, layout=frame.layout.name, time_base=time_base
        ),
        *([graph.add("pan", mean)] if channels > 1 else []),
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
            yield _samples(mixer.pull())


def _samples(frame: Any) -> bytes:
    return bytes(memoryview(frame.planes[0])[: frame.samples * 2])  # the plane is padded
