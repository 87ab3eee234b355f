"""The results object of a job: what a worker writes and a client reads (spec section 4).

Only the shape is here, for both to agree on; how it is filled is the worker's matter. Times are seconds from the start
of the audio, confidences are from 0 to 1, all with two decimals. These docstrings are in the served document, too.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

Ending = Literal["full_stop", "silence", "end_of_data", "reset"]
"""Why an utterance ended: a sentence did, a pause came, the audio was over, or it had lasted two minutes."""

Confidence = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0)]


class Match(Struct, frozen=True, kw_only=True):
    """A keyword that was found, as it was transcribed."""

    normalized_text: str
    start_time: Seconds
    end_time: Seconds
    confidence: Confidence


class Alternative(Struct, frozen=True, kw_only=True):
    """A reading of an utterance. Only the first has more than its transcript, which ends in one blank."""

    transcript: str
    confidence: Confidence | UnsetType = UNSET
    timestamps: list[tuple[str, Seconds, Seconds]] | UnsetType = UNSET
    word_confidence: list[tuple[str, Confidence]] | UnsetType = UNSET


class Result(Struct, frozen=True, kw_only=True):
    """An utterance. `keywords_result` is by keyword, as the client wrote it."""

    final: bool = True
    alternatives: list[Alternative]
    keywords_result: Mapping[str, list[Match]] | UnsetType = UNSET
    end_of_utterance: Ending | UnsetType = UNSET


class ProcessedAudio(Struct, frozen=True, kw_only=True):
    """Seconds of audio: that came, that the engine saw, and that were recognised."""

    received: Seconds
    seen_by_engine: Seconds
    transcription: Seconds


class ProcessingMetrics(Struct, frozen=True, kw_only=True):
    """How much was done, in seconds of audio and of real time."""

    processed_audio: ProcessedAudio
    wall_clock_since_first_byte_received: Seconds
    periodic: bool = False


class Bin(Struct, frozen=True):
    """One bar of a histogram: how many intervals had a value of at least `begin` and less than `end`."""

    begin: float
    end: float
    count: Annotated[int, Meta(ge=0)]


class Accumulated(Struct, frozen=True, kw_only=True):
    """The measures of the whole recording. `signal_to_noise_ratio` is in dB; there is none without pauses or speech."""

    final: bool = True
    end_time: Seconds
    signal_to_noise_ratio: float | UnsetType = UNSET
    speech_ratio: Confidence
    high_frequency_loss: Confidence
    direct_current_offset: list[Bin]
    clipping_rate: list[Bin]
    speech_level: list[Bin]
    non_speech_level: list[Bin]


class AudioMetrics(Struct, frozen=True, kw_only=True):
    """Measures of the audio. `sampling_interval` is the length of one interval, in seconds."""

    sampling_interval: Seconds
    accumulated: Accumulated


class Span(Struct, frozen=True, rename={"from_": "from"}):
    """A part of the audio."""

    from_: Seconds
    to: Seconds


class EnrichedTranscript(Struct, frozen=True):
    """The whole text, with punctuation."""

    text: str
    timestamp: Span


class EnrichedResults(Struct, frozen=True, kw_only=True):
    """What `enrichments=punctuation` adds."""

    transcript: EnrichedTranscript
    status: str = "success"


class Results(Struct, frozen=True, kw_only=True):
    """What was recognised: its utterances in the order of time, none for silence."""

    result_index: int = 0
    results: Sequence[Result]
    processing_metrics: ProcessingMetrics | UnsetType = UNSET
    audio_metrics: AudioMetrics | UnsetType = UNSET
    enriched_results: EnrichedResults | UnsetType = UNSET
    warnings: Sequence[str] | UnsetType = UNSET


EncodedResults = Annotated[Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Results"})]
"""Results as JSON, which nobody needs to look into who passes them on."""
