"""Speech is found, and cut short enough."""

import random
import struct
import wave
from itertools import pairwise

import pytest

from tests.speech import AUDIO
from worker.media import RATE
from worker.segments import LONGEST, Segment, segments


def found(pcm: bytes, run: int = 5000, sensitivity: float = 0.5) -> tuple[list[Segment], list[int]]:
    """Return the segments in samples that come in runs, and the reports of progress."""
    runs = (pcm[at : at + run] for at in range(0, len(pcm), run))
    things = list(segments(runs, sensitivity=sensitivity))
    return [t for t in things if isinstance(t, Segment)], [t for t in things if isinstance(t, int)]


def samples(name: str) -> bytes:
    """Return the samples of a WAV file."""
    with wave.open(str(AUDIO / name)) as file:
        content: bytes = file.readframes(file.getnframes())
    return content


def noise(seconds: float) -> bytes:
    """Return what passes for speech without a pause."""
    count = round(seconds * RATE)
    return struct.pack(f"<{count}h", *random.Random(1).choices((5000, -5000), k=count))


def test_speech_is_told_from_silence() -> None:
    """Two cards with silence around them are two segments, each where it was said."""
    card = samples("cards_003.wav")
    heard, _ = found(bytes(3 * RATE * 2) + card + bytes(2 * RATE * 2) + card + bytes(RATE * 2))
    first, second = heard
    seconds = len(card) / 2 / RATE
    assert 2.5 < first.start / RATE < 3.5
    assert 4.5 + seconds < second.start / RATE < 5.5 + seconds


def test_how_the_samples_arrive_makes_no_difference() -> None:
    """Runs of any size give the same segments."""
    pcm = samples("librivox_0870.wav")
    assert found(pcm, 2) == found(pcm, 100_000)


@pytest.mark.parametrize("run", [1000, 200_000])
def test_all_is_speech_when_all_is_asked_for(run: int) -> None:
    """However much comes at once: a frame of FLAC may last four seconds."""
    pcm = samples("flite_rms_0.wav") * 8
    heard, _ = found(pcm, run, sensitivity=1)
    assert b"".join(segment.pcm for segment in heard) == pcm


def test_endless_speech_is_cut() -> None:
    """No segment is longer than 20 seconds, none overlaps, and nothing between them is lost."""
    heard, _ = found(noise(65))
    assert len(heard) == 4
    for one, following in pairwise(heard):
        assert one.start + len(one.pcm) // 2 == following.start
    assert all(0 < len(segment.pcm) <= LONGEST * 2 for segment in heard)
    assert b"".join(segment.pcm for segment in heard)[:1000] in noise(65)


def test_the_cut_is_where_it_is_quiet() -> None:
    """A short breath near the end of the 20 seconds is where speech is cut."""
    heard, _ = found(noise(19) + bytes(RATE // 10 * 2) + noise(5))
    assert 19.0 <= (heard[0].start + len(heard[0].pcm) // 2) / RATE <= 19.1


def test_a_segment_has_a_little_of_what_is_around_its_speech() -> None:
    """The detector begins late and ends early: first and last sounds would be lost."""
    [segment], _ = found(bytes(2 * RATE * 2) + noise(1) + bytes(2 * RATE * 2))
    assert segment.start / RATE < 1.8
    assert (segment.start + len(segment.pcm) // 2) / RATE > 3.2


def test_a_short_sound_is_speech_to_a_sensitive_detector_only() -> None:
    """Below the setting at which another mode of the detector begins, it is the share of speech that counts."""
    short = bytes(2 * RATE * 2) + noise(0.21) + bytes(2 * RATE * 2)
    assert found(short)[0]
    assert [part for part in segments([short], sensitivity=0.3) if isinstance(part, Segment)] == []


def test_silence_reports_its_progress() -> None:
    """While nobody speaks, every ten seconds tell how far it is, and the end tells how much it was."""
    heard, reports = found(bytes(35 * RATE * 2), 3200)
    assert heard == []
    assert [report // RATE for report in reports] == [10, 20, 30, 35]
