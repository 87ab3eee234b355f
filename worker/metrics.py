"""Measures of the audio, as the engine hears it: one channel of 16 kHz (spec 4.7, `audio_metrics`).

Every tenth of a second has an offset, a share of clipped samples and a level. Levels are in decibels on a scale from
0 (96 dB below the loudest, the step of 16 bits) to 1. Whether high frequencies are missing is told from what is above
5 kHz in the speech: nothing is, when a recording of a telephone was made to look better.
"""

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from operator import mul
from typing import Any

import av
from av.filter import Graph
from msgspec import UNSET, UnsetType

from retention.results import Accumulated, Bin
from worker.media import RATE
from worker.segments import Segment

INTERVAL = 0.1
"""Seconds."""

_SAMPLES = round(RATE * INTERVAL)
_FULL = 32768
_DEPTH = 96.0
_LOST, _THERE = -58.0, -42.0
"""Decibels of what is above, relative to the whole: certainly missing, certainly there (measured on recordings)."""


class Meter:
    """Measures the samples that pass through, and learns which of them are speech. Grows by 9 bytes an interval."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._samples = 0
        self._power = array("f")
        self._upper = array("f")
        self._speech = bytearray()
        self._offsets = _Histogram(-1, 1, 20)
        self._clipped = _Histogram(0, 1, 10)
        self._upper_half = _upper_half()

    def through(self, runs: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the runs of samples unchanged, measuring each."""
        for run in runs:
            self._waiting += run
            self._samples += len(run) // 2
            if usable := len(self._waiting) // (_SAMPLES * 2) * (_SAMPLES * 2):
                self._measure(bytes(self._waiting[:usable]))
                del self._waiting[:usable]
            yield run

    def mark(self, segment: Segment) -> None:
        """Learn that a segment is speech."""
        first, end = segment.start // _SAMPLES, (segment.start + len(segment.pcm) // 2) // _SAMPLES
        self._speech.extend(bytes(max(0, end - len(self._speech))))
        self._speech[first:end] = b"\1" * (end - first)

    def accumulated(self) -> Accumulated:
        """Return the measures. Less than one interval at the end is not measured."""
        spoken = self._speech.ljust(len(self._power), b"\0")
        pairs = list(zip(self._power, spoken, strict=False))
        levels = _Histogram(0, 1, 10), _Histogram(0, 1, 10)
        for power, speech in pairs:
            levels[speech].add(_level(power))
        return Accumulated(
            end_time=round(self._samples / RATE, 2),
            signal_to_noise_ratio=_ratio(
                [power for power, speech in pairs if speech], [power for power, speech in pairs if not speech]
            ),
            speech_ratio=round(sum(speech for _, speech in pairs) / len(pairs), 2) if pairs else 0.0,
            high_frequency_loss=self._loss(spoken),
            direct_current_offset=self._offsets.bins(),
            clipping_rate=self._clipped.bins(),
            speech_level=levels[1].bins(),
            non_speech_level=levels[0].bins(),
        )

    def _measure(self, pcm: bytes) -> None:
        samples, upper = array("h", pcm), array("h", _filtered(self._upper_half, pcm))
        for at in range(0, len(samples), _SAMPLES):
            part, above = samples[at : at + _SAMPLES], upper[at : at + _SAMPLES]
            self._offsets.add(sum(part) / _SAMPLES / _FULL)
            self._clipped.add((part.count(_FULL - 1) + part.count(-_FULL)) / _SAMPLES)
            self._power.append(sum(map(mul, part, part)) / _SAMPLES)
            self._upper.append(sum(map(mul, above, above)) / _SAMPLES)

    def _loss(self, spoken: bytes | bytearray) -> float:
        """Return how likely it is that the upper half of the frequencies is missing; 0 without speech."""
        whole = sum(power for power, speech in zip(self._power, spoken, strict=False) if speech)
        upper = sum(power for power, speech in zip(self._upper, spoken, strict=False) if speech)
        if not whole:
            return 0.0
        below = 10 * math.log10(max(upper, 1e-9) / whole)
        return round(min(1.0, max(0.0, (_THERE - below) / (_THERE - _LOST))), 2)


class _Histogram:
    """Counts of values between two bounds; what is outside counts as the bound."""

    def __init__(self, low: float, high: float, bins: int) -> None:
        self._low, self._width = low, (high - low) / bins
        self._counts = [0] * bins

    def add(self, value: float) -> None:
        self._counts[min(len(self._counts) - 1, max(0, int((value - self._low) / self._width)))] += 1

    def bins(self) -> list[Bin]:
        edges = [round(self._low + at * self._width, 3) for at in range(len(self._counts) + 1)]
        return [Bin(*row) for row in zip(edges, edges[1:], self._counts, strict=False)]


def _level(power: float) -> float:
    """Return a mean square as decibels between 0 and 1."""
    return 1 + 10 * math.log10(max(power, 1e-9) / _FULL**2) / _DEPTH


def _ratio(speech: Sequence[float], noise: Sequence[float]) -> float | UnsetType:
    """Return how far speech is above noise, in dB; silence counts as the noise of 16-bit samples."""
    if not speech or not noise:
        return UNSET
    ground = max(sum(noise) / len(noise), 1 / 12)
    return round(10 * math.log10(max(sum(speech) / len(speech) - ground, 1e-3) / ground), 2)


def _upper_half() -> Graph:
    graph = Graph()
    steps = [
        graph.add_abuffer(sample_rate=RATE, format="s16", layout="mono", time_base=Fraction(1, RATE)),
        *(graph.add("highpass", "f=5000:poles=2") for _ in range(6)),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*steps).configure()
    return graph


def _filtered(graph: Graph, pcm: bytes) -> bytes:
    """Return the samples after a filter that gives as many as it takes."""
    frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    frame.sample_rate = RATE
    frame.planes[0].update(pcm.ljust(frame.planes[0].buffer_size, b"\0"))
    graph.push(frame)
    given: Any = graph.pull()
    return bytes(given.planes[0])[: given.samples * 2]
