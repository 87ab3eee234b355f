"""The shape of a result (spec 4): what IBM's clients read.

Clients get transcripts that end in one space, times from the start of the audio, and probabilities, all with two
decimals.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from retention.job import Submission
from worker.keywords import Keywords, Match
from worker.metrics import AudioMetrics
from worker.phrases import Ending, Phrase, Spoken
from worker.profanity import censored


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
    keywords_result: Mapping[str, list[Match]] | UnsetType = UNSET
    end_of_utterance: Ending | UnsetType = UNSET


class ProcessedAudio(Struct, frozen=True, kw_only=True):
    """Seconds of audio: that came, that the engine saw, and that were recognised."""

    received: float
    seen_by_engine: float
    transcription: float


class ProcessingMetrics(Struct, frozen=True, kw_only=True):
    """How much was done, in seconds of audio and of real time (spec 4.7)."""

    processed_audio: ProcessedAudio
    wall_clock_since_first_byte_received: float
    periodic: bool = False


class Span(Struct, frozen=True, rename={"from_": "from"}):
    """Seconds from the start of the audio."""

    from_: float
    to: float


class EnrichedTranscript(Struct, frozen=True):
    """The whole text, with punctuation."""

    text: str
    timestamp: Span


class EnrichedResults(Struct, frozen=True, kw_only=True):
    """What `enrichments=punctuation` adds (spec 4.1)."""

    transcript: EnrichedTranscript
    status: str = "success"


class Results(Struct, frozen=True, kw_only=True):
    """SpeechRecognitionResults (spec 4.1). The utterances are encoded already: an hour of them is many."""

    result_index: int = 0
    results: Sequence[Raw]
    processing_metrics: ProcessingMetrics | UnsetType = UNSET
    audio_metrics: AudioMetrics | UnsetType = UNSET
    enriched_results: EnrichedResults | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET


class Presenter:
    """Makes the results object of one job, phrase by phrase."""

    def __init__(self, submission: Submission) -> None:
        self._asked = submission
        threshold = submission.keywords_threshold
        self._keywords = Keywords(submission.keywords, threshold) if threshold is not None else None
        self._shown: Callable[[str], str] = censored if submission.profanity_filter else str
        self._results: list[Raw] = []
        self._texts: list[str] = []
        self._span: Span | None = None

    def add(self, phrase: Phrase) -> None:
        """Add an utterance."""
        asked = self._asked
        words = [Spoken(self._shown(word.text), word.start, word.end, word.confidence) for word in phrase.words]
        text = " ".join(word.text for word in words)
        others = [self._reading(other) for other in phrase.others[: max(0, asked.max_alternatives - 1)]]
        # Keywords are found in what was said, and not in what is shown (spec 4.5).
        found = self._keywords.find(phrase.words) if self._keywords else {}
        if asked.enrichments:
            self._texts.append(text)
            self._span = Span(self._span.from_ if self._span else _seconds(words[0].start), _seconds(words[-1].end))
        result = Result(
            alternatives=[_best(words, text, asked), *(Alternative(transcript=f"{other} ") for other in others)],
            keywords_result=found or UNSET,
            end_of_utterance=phrase.ending if asked.split_transcript_at_phrase_end else UNSET,
        )
        self._results.append(Raw(msgspec.json.encode(result)))

    def encode(self, *, heard: float, took: float, metrics: AudioMetrics | None, warnings: Sequence[str] = ()) -> bytes:
        """Return the whole object, as JSON in UTF-8; `warnings` beyond those of the submission.

        `heard` are the seconds of the audio, `took` those since its first byte came.
        """
        audio = ProcessedAudio(received=_seconds(heard), seen_by_engine=_seconds(heard), transcription=_seconds(heard))
        return msgspec.json.encode(
            Results(
                results=self._results,
                processing_metrics=ProcessingMetrics(
                    processed_audio=audio, wall_clock_since_first_byte_received=_seconds(took)
                )
                if self._asked.processing_metrics
                else UNSET,
                audio_metrics=UNSET if metrics is None else metrics,
                enriched_results=EnrichedResults(transcript=EnrichedTranscript(" ".join(self._texts), self._span))
                if self._span
                else UNSET,
                warnings=(*self._asked.warnings, *warnings) or UNSET,
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
