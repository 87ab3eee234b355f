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

_AROUND = RATE // 5
"""Samples before and after what the detector calls speech that belong to a segment: they save first and last sounds."""

_KEPT = RATE
"""Samples of what is no speech that are kept: more than the detector hesitates, and what is around besides."""


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
            frame = bytes(waiting[at : at + size])
            speech.hear(frame)
            spoken = detector.process(frame)
            if spoken is not None:
                yield from speech.goes_on(spoken, begins=detector.speech_start)
                if not detector.in_speech:
                    yield from speech.ends()
        del waiting[:usable]
        heard += usable // 2
        if heard - reported >= _REPORT_EVERY:
            reported = heard
            yield heard
    speech.hear(bytes(waiting))
    if detector.in_speech:
        # The detector takes no empty end; a last, incomplete frame is filled with silence.
        tail = detector.end_stream(bytes(waiting) or bytes(2))
        if tail is not None:
            yield from speech.goes_on(tail, begins=detector.speech_start)
        yield from speech.ends()
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
        # In pieces: of what is not yet known to be speech, no more than a little is kept.
        for at in range(0, len(run), _KEPT):
            piece = run[at : at + _KEPT]
            speech.hear(piece)
            yield from speech.goes_on(piece, begins=0)
    yield from speech.ends()
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
    """The speech being heard, and a little of what is around it: the detector begins late and ends early.

    All positions are samples of the audio. `_heard` is what was heard since `_from`; `_start` is where the segment
    begins, `_until` how far it is known to be speech.
    """

    def __init__(self) -> None:
        self._heard = bytearray()
        self._from = 0
        self._start = 0
        self._until: int | None = None

    def hear(self, pcm: bytes) -> None:
        """Take samples, speech or not."""
        self._heard += pcm
        if self._until is None:
            self._forget(self._from + len(self._heard) // 2 - _KEPT)

    def goes_on(self, pcm: bytes, *, begins: float) -> Iterator[Segment]:
        """Take samples that were heard before, of which the detector now says that they are speech."""
        if self._until is None:
            self._until = round(begins * RATE)
            self._start = max(self._from, self._until - _AROUND)
        self._until += len(pcm) // 2
        while self._until + _AROUND - self._start > LONGEST:
            yield self._take(self._start + _quietest(self._between(self._start, self._start + LONGEST)))

    def ends(self) -> Iterator[Segment]:
        """Give what is left of the segment."""
        if self._until is not None:
            until = min(self._until + _AROUND, self._from + len(self._heard) // 2)
            if until > self._start:
                yield self._take(until)
            self._until = None

    def _take(self, until: int) -> Segment:
        segment = Segment(start=self._start, pcm=self._between(self._start, until))
        self._forget(until)
        self._start = until
        return segment

    def _between(self, start: int, until: int) -> bytes:
        return bytes(self._heard[(start - self._from) * 2 : (until - self._from) * 2])

    def _forget(self, before: int) -> None:
        if before > self._from:
            del self._heard[: (before - self._from) * 2]
            self._from = before


def _quietest(pcm: bytes) -> int:
    """Return after how many samples to cut: the middle of the quietest tenth of a second near the end."""
    near = array("h", pcm[-_CUT_WITHIN * 2 :])
    window = RATE // 10
    sums = [0, *accumulate(map(abs, near))]
    quiet = min(range(0, len(near) - window, window // 4), key=lambda at: sums[at + window] - sums[at])
    return len(pcm) // 2 - len(near) + quiet + window // 2
