"""Speech out of sound: voice activity detection, and segments short enough to recognise whole."""

from array import array
from collections.abc import Iterable, Iterator
from itertools import accumulate

import pocketsphinx
from msgspec import Struct

from worker.media import RATE

LONGEST = 20 * RATE
"""Samples of the longest segment: bounded memory, and a child that is killed loses little."""

_CUT_WITHIN = 2 * RATE
"""Speech without a pause is cut at the quietest moment of so many last samples, seldom within a word."""

_REPORT_EVERY = 10 * RATE


class Segment(Struct, frozen=True):
    """Speech: its first sample in the audio, and the samples (native signed 16 bit)."""

    start: int
    pcm: bytes


def segments(runs: Iterable[bytes], *, sensitivity: float = 0.5) -> Iterator[Segment | int]:
    """Yield the segments of speech in time order, and now and then, and at the end, the samples heard so far.

    The latter tell that work goes on while nobody speaks. `sensitivity` says how readily sound is taken for speech
    (spec 1.3, `speech_detector_sensitivity`): 0 takes none of it, 1 takes all.
    """
    if sensitivity in (0, 1):
        yield from _all_of(runs) if sensitivity else _none_of(runs)
        return
    detector = _detector(sensitivity)
    speech = _Speech()
    heard = reported = 0
    waiting = bytearray()
    size = detector.frame_bytes
    for run in runs:
        waiting += run
        usable = len(waiting) // size * size
        for at in range(0, usable, size):
            frame = detector.process(bytes(waiting[at : at + size]))
            if frame is not None:
                yield from speech.add(frame, begins=detector.speech_start)
                if not detector.in_speech:
                    yield from speech.end()
        del waiting[:usable]
        heard += usable // 2
        if heard - reported >= _REPORT_EVERY:
            reported = heard
            yield heard
    if detector.in_speech:
        # The detector takes no empty end; a last, incomplete frame is filled with silence.
        tail = detector.end_stream(bytes(waiting) or bytes(2))
        if tail is not None:
            yield from speech.add(tail, begins=detector.speech_start)
        yield from speech.end()
    yield heard + len(waiting) // 2


def _detector(sensitivity: float) -> pocketsphinx.Endpointer:
    """Return the detector. Half-way, mode 2 refuses tones, which an engine would hear as words.

    The short window splits sentences at pauses; `ratio` is the share of it that must be speech.
    """
    mode = 3 if sensitivity < 0.25 else 2 if sensitivity <= 0.5 else 1 if sensitivity < 0.75 else 0  # noqa: PLR2004
    return pocketsphinx.Endpointer(vad_mode=mode, window=0.4, ratio=min(0.95, max(0.5, 1.1 - 0.6 * sensitivity)))


def _all_of(runs: Iterable[bytes]) -> Iterator[Segment | int]:
    speech, heard = _Speech(), 0
    for run in runs:
        heard += len(run) // 2
        yield from speech.add(run, begins=0)
    yield from speech.end()
    yield heard


def _none_of(runs: Iterable[bytes]) -> Iterator[int]:
    heard = reported = 0
    for run in runs:
        heard += len(run) // 2
        if heard - reported >= _REPORT_EVERY:
            reported = heard
            yield heard
    yield heard


class _Speech:
    """The speech being heard. `_next` is where the next segment begins at the earliest."""

    def __init__(self) -> None:
        self._pcm = bytearray()
        self._start = 0
        self._next = 0

    def add(self, pcm: bytes, *, begins: float) -> Iterator[Segment]:
        if not self._pcm:
            self._start = max(self._next, round(begins * RATE))
        self._pcm += pcm
        while len(self._pcm) > LONGEST * 2:
            yield self._take(_quietest(bytes(self._pcm[: LONGEST * 2])))

    def end(self) -> Iterator[Segment]:
        if self._pcm:
            yield self._take(len(self._pcm) // 2)

    def _take(self, samples: int) -> Segment:
        segment = Segment(start=self._start, pcm=bytes(self._pcm[: samples * 2]))
        del self._pcm[: samples * 2]
        self._next = self._start = self._start + samples
        return segment


def _quietest(pcm: bytes) -> int:
    """Return after how many samples to cut: the middle of the quietest tenth of a second near the end."""
    near = array("h", pcm[-_CUT_WITHIN * 2 :])
    window = RATE // 10
    sums = [0, *accumulate(map(abs, near))]
    quiet = min(range(0, len(near) - window, window // 4), key=lambda at: sums[at + window] - sums[at])
    return len(pcm) // 2 - len(near) + quiet + window // 2
