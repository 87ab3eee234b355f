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


def segments(runs: Iterable[bytes]) -> Iterator[Segment | int]:
    """Yield the segments of speech in time order, and now and then the samples heard so far.

    The latter tell that work goes on while nobody speaks.
    """
    # Mode 2 refuses tones, which an engine would hear as words; the short window splits sentences at pauses.
    detector = pocketsphinx.Endpointer(vad_mode=2, window=0.4, ratio=0.8)
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
