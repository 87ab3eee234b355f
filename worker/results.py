"""The shape of a result (spec 4): what IBM's clients read.

Engines give words per segment; clients get transcripts that end in one space, times from the start
of the audio, and probabilities, all with two decimals.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from retention.job import Submission
from worker.media import RATE
from worker.recognizers import Utterance
from worker.segments import Segment


class Alternative(Struct, frozen=True, kw_only=True):
    """A reading of an utterance (spec 4.2 to 4.4); only the first has more than its transcript."""

    transcript: str
    confidence: float | UnsetType = UNSET
    timestamps: list[tuple[str, float, float]] | UnsetType = UNSET
    word_confidence: list[tuple[str, float]] | UnsetType = UNSET


class Result(Struct, frozen=True, kw_only=True):
    """An utterance (spec 4.1)."""

    final: bool = True
    alternatives: list[Alternative]


class Results(Struct, frozen=True, kw_only=True):
    """SpeechRecognitionResults (spec 4.1). The utterances are encoded already: an hour of them is many."""

    result_index: int = 0
    results: Sequence[Raw]
    warnings: tuple[str, ...] | UnsetType = UNSET


def result(utterance: Utterance, segment: Segment, submission: Submission) -> Raw | None:
    """Return an utterance in the contract's shape; None when nothing was said.

    Times are kept within the segment and in order, whatever the engine claims.
    """
    if not utterance.words:
        return None
    begins, ends = segment.start / RATE, (segment.start + len(segment.pcm) // 2) / RATE
    now = begins
    timestamps = []
    for word in utterance.words:
        start = min(max(begins + word.start, now), ends)
        now = min(max(begins + word.end, start), ends)
        timestamps.append((word.text, round(start, 2), round(now, 2)))
    best = Alternative(
        transcript=" ".join(word.text for word in utterance.words) + " ",
        confidence=_probability(utterance.confidence),
        timestamps=timestamps if submission.timestamps else UNSET,
        word_confidence=[(word.text, _probability(word.confidence)) for word in utterance.words]
        if submission.word_confidence
        else UNSET,
    )
    others = [
        Alternative(transcript=text + " ") for text in utterance.others[: max(0, submission.max_alternatives - 1)]
    ]
    return Raw(msgspec.json.encode(Result(alternatives=[best, *others])))


def encode(results: Sequence[Raw], warnings: Sequence[str]) -> bytes:
    """Return the whole object, as JSON in UTF-8; `warnings` only if there are any (spec 4.8)."""
    return msgspec.json.encode(Results(results=results, warnings=tuple(warnings) or UNSET))


def _probability(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 2)
