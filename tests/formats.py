"""Speech in whatever form a test wants it: raw or contained, at any rate, in any number of channels.

FFmpeg's own encoders make the forms, so that what decodes them is not tried on its own mirror image
alone: headers, frames and paddings are those that other programs write.
"""

import io
import wave
from array import array
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, Literal, get_args

import av
from av.filter import Graph
from msgspec import Struct

from tests.speech import AUDIO

RATE = 16000
"""Samples a second of the recordings from which the forms are made."""

Order = Literal["big-endian", "little-endian"]
ORDERS: tuple[Order, ...] = get_args(Order)

_AT_ONCE = 4096


class Form(Struct, frozen=True, kw_only=True):
    """How samples are written: FFmpeg's names of a muxer and of an encoder, and options of both."""

    muxer: str
    encoder: str
    rate: int = RATE
    channels: int = 1
    bit_rate: int | None = None
    options: tuple[tuple[str, str], ...] = ()


def speech(*names: str) -> "array[int]":
    """Return the samples of recordings in WAV, one after the other, half a second apart."""
    samples = array("h")
    for name in names:
        with wave.open(str(AUDIO / name)) as file:
            samples.frombytes(file.readframes(file.getnframes()) + bytes(RATE))
    return samples


def written(runs: "Iterable[array[int]]", form: Form, file: Any) -> None:
    """Write runs of samples at `RATE` to a file.

    The channels differ in loudness and share it so that their mean is what was given: a channel that
    is lost, or counted twice, changes the sound.
    """
    with av.open(file, "w", format=form.muxer, options=dict(form.options)) as container:
        stream: Any = container.add_stream(form.encoder, rate=form.rate, layout=_layout(form.channels))
        stream.codec_context.options = {"strict": "experimental"}  # as FFmpeg calls its own encoder of Vorbis
        if form.bit_rate:
            stream.bit_rate = form.bit_rate
        for frame in _frames(runs, form):
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def encoded(samples: "array[int]", form: Form) -> bytes:
    """Return samples at `RATE` as a file."""
    file = io.BytesIO()
    written([samples], form, file)
    return file.getvalue()


def raw(samples: "array[int]", rate: int, channels: int, order: Order) -> bytes:
    """Return samples at `RATE` as `audio/l16`."""
    encoder = "pcm_s16be" if order == "big-endian" else "pcm_s16le"
    return encoded(samples, Form(muxer=encoder[4:], encoder=encoder, rate=rate, channels=channels))


def _frames(runs: "Iterable[array[int]]", form: Form) -> Iterator[Any]:
    spread = _spread(form.channels)
    for run in runs:
        for at in range(0, len(run), _AT_ONCE):
            part = run[at : at + _AT_ONCE]
            frame = av.AudioFrame(format="s16", layout="mono", samples=len(part))
            frame.sample_rate = RATE
            frame.planes[0].update(part.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
            spread.push(frame)
            yield spread.pull()


def _spread(channels: int) -> Graph:
    """Return what makes channels of one, of which the first is the loudest, and whose mean is that one."""
    shares = [1.0] if channels == 1 else [1.25 - 0.5 * channel / (channels - 1) for channel in range(channels)]
    graph = Graph()
    steps = [
        graph.add_abuffer(sample_rate=RATE, format="s16", layout="mono", time_base=Fraction(1, RATE)),
        graph.add("pan", "|".join([_layout(channels), *(f"c{at}={share:.6f}*c0" for at, share in enumerate(shares))])),
        graph.add("aformat", "sample_fmts=s16"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*steps).configure()
    return graph


def _layout(channels: int) -> str:
    return {1: "mono", 2: "stereo", 3: "3.0", 6: "5.1", 8: "7.1"}.get(channels, f"{channels} channels")
