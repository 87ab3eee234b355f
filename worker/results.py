"""How a results object is made (spec 4): transcripts that end in one space, and numbers with two decimals."""

from collections.abc import Callable, Sequence
from typing import cast

import msgspec
from msgspec import UNSET, Raw

from retention.job import Submission
from retention.results import (
    Alternative,
    AudioMetrics,
    EnrichedResults,
    EnrichedTranscript,
    ProcessedAudio,
    ProcessingMetrics,
    Result,
    Results,
    Span,
)
from worker.keywords import Keywords
from worker.phrases import Phrase, Spoken
from worker.profanity import censored

SHORTENED = "The result is very large: further utterances come without keywords and other readings."
"""The warning of a result that would have become too large for those who keep it, tell it and read it."""

_LARGE = 32 << 20
"""Bytes of utterances. Those of a day, with every word's time, are less than half of it; but a thousand keywords may be
found at each word, and a hundred readings are a hundred texts."""


class Presenter:
    """Makes the results object of one job, phrase by phrase."""

    def __init__(self, submission: Submission) -> None:
        self._asked = submission
        threshold = submission.keywords_threshold
        self._keywords = Keywords(submission.keywords, threshold) if threshold is not None else None
        self._shown: Callable[[str], str] = censored if submission.profanity_filter else str
        self._results: list[Raw] = []
        self._size = 0
        self._shortened = False
        self._texts: list[str] = []
        self._span: Span | None = None

    def add(self, phrase: Phrase) -> None:
        """Add an utterance."""
        asked = self._asked
        words = [Spoken(self._shown(word.text), word.start, word.end, word.confidence) for word in phrase.words]
        text = " ".join(word.text for word in words)
        large = self._size > _LARGE
        self._shortened |= large and bool(self._keywords or phrase.others)
        others = [self._reading(other) for other in phrase.others[: 0 if large else max(0, asked.max_alternatives - 1)]]
        # Keywords are found in what was said, and not in what is shown (spec 4.5).
        found = self._keywords.find(phrase.words) if self._keywords and not large else {}
        if asked.enrichments:
            self._texts.append(text)
            self._span = Span(self._span.from_ if self._span else _seconds(words[0].start), _seconds(words[-1].end))
        result = Result(
            alternatives=[_best(words, text, asked), *(Alternative(transcript=f"{other} ") for other in others)],
            keywords_result=found or UNSET,
            end_of_utterance=phrase.ending if asked.split_transcript_at_phrase_end else UNSET,
        )
        encoded = msgspec.json.encode(result)
        self._size += len(encoded)
        self._results.append(Raw(encoded))

    def encode(self, *, heard: float, took: float, metrics: AudioMetrics | None, warnings: Sequence[str] = ()) -> bytes:
        """Return the whole object, as JSON in UTF-8; `warnings` beyond those of the submission.

        `heard` are the seconds of the audio, `took` those since its first byte came.
        """
        audio = ProcessedAudio(received=_seconds(heard), seen_by_engine=_seconds(heard), transcription=_seconds(heard))
        return msgspec.json.encode(
            Results(
                results=cast("list[Result]", self._results),  # encoded already: an hour of them is many
                processing_metrics=ProcessingMetrics(
                    processed_audio=audio, wall_clock_since_first_byte_received=_seconds(took)
                )
                if self._asked.processing_metrics
                else UNSET,
                audio_metrics=UNSET if metrics is None else metrics,
                enriched_results=EnrichedResults(transcript=EnrichedTranscript(" ".join(self._texts), self._span))
                if self._span
                else UNSET,
                warnings=(*self._asked.warnings, *warnings, *([SHORTENED] if self._shortened else [])) or UNSET,
            )
        )

    def _reading(self, text: str) -> str:
        return " ".join(map(self._shown, text.split()))


def _best(words: Sequence[Spoken], text: str, asked: Submission) -> Alternative:
    sure = [word.confidence for word in words if word.confidence is not None]
    known = len(sure) == len(words)
    return Alternative(
        transcript=f"{text} ",
        confidence=_probability(sum(sure) / len(sure)) if known else UNSET,
        timestamps=[(word.text, _seconds(word.start), _seconds(word.end)) for word in words]
        if asked.timestamps
        else UNSET,
        word_confidence=[(word.text, _probability(word.confidence or 0)) for word in words]
        if asked.word_confidence and known
        else UNSET,
    )


def _probability(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 2)


def _seconds(value: float) -> float:
    return round(value, 2)
