"""The query parameters of a submission (spec 1.3): the one table of what each takes, means, and needs of the engine.

Reading a query, the served document and the table in README all follow from it. What would mislead or harm if it
were dropped is refused; what only makes the result poorer is warned about; a value that equals what happens anyway
needs no word (spec 7).
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from msgspec import Struct

from api.values import NO, Listed, Number, Switch, Takes, Text, Whole
from retention.job import PAUSE, Event
from retention.notification import DEFAULT_EVENTS
from retention.offer import DEFAULT_MODEL, NEEDS, Feature

Need = Feature | Literal["english"]
"""What a parameter needs: of the engine, or that the language is English."""

MOST_ALTERNATIVES = 100
"""More are not asked of any engine: each takes time. Fewer than asked for are always legal (spec 4.4)."""


class Parameter(Struct, frozen=True, kw_only=True):
    """One parameter. `needs` is None when no engine of ours could honour it; `otherwise` is what then happens."""

    name: str
    takes: Takes
    means: str
    needs: frozenset[Need] | None = frozenset()
    otherwise: Literal["warn", "refuse"] = "warn"

    def schema(self) -> dict[str, Any]:
        """Return the form of what is taken, as JSON Schema: of what is always refused, only what asks for nothing."""
        schema = self.takes.schema()
        if self.needs is not None or self.otherwise == "warn":
            return schema
        if isinstance(self.takes, Switch):
            return {**schema, "not": {"const": True}, "pattern": f"^({NO})$"}
        return {**schema, "maxLength": 0}


_SWITCH = Switch()
_SENSITIVITY = Number(0, 1, quiet=(0.5,))
_THRESHOLD = Number(0, 1)
_TEXT = Text()

_HONOURED = [
    Parameter(
        name="callback_url",
        takes=_TEXT,
        means="The URL that is told how the job goes. It must have been registered, in exactly this form.",
    ),
    Parameter(
        name="events",
        takes=Listed(
            most=16,
            longest=64,
            known=get_args(Event),
            default=DEFAULT_EVENTS,
            apart=("recognitions.completed", "recognitions.completed_with_results"),
        ),
        means="What the callback URL is told of. Completed, with or without results, not both.",
    ),
    Parameter(
        name="user_token",
        takes=Text(longest=4096),
        means="Comes back in notifications and in the list of jobs.",
    ),
    Parameter(
        name="results_ttl",
        takes=Whole(1),
        means="Minutes for which the result is kept after completion. What is more than the service keeps is cut, "
        "with a warning.",
    ),
    Parameter(
        name="model",
        takes=Text(default=DEFAULT_MODEL),
        means="The model, as `GET /v1/models` lists them.",
    ),
    Parameter(
        name="inactivity_timeout",
        takes=Whole(-1, quiet=(30,)),
        means="Concerns live streams only, and has no effect on a job.",
    ),
    Parameter(
        name="timestamps",
        takes=_SWITCH,
        means="When each word begins and ends, in seconds from the start of the audio.",
        needs=NEEDS["timestamps"],
    ),
    Parameter(
        name="word_confidence",
        takes=_SWITCH,
        means="How sure the engine is of each word, from 0 to 1. Engines differ in what they call sure.",
        needs=NEEDS["word_confidence"],
    ),
    Parameter(
        name="max_alternatives",
        takes=Whole(0, quiet=(1, 0)),
        means=f"How many readings of an utterance are given, at most; 0 means 1, and no more than {MOST_ALTERNATIVES} "
        "are looked for.",
        needs=NEEDS["max_alternatives"],
    ),
    Parameter(
        name="keywords",
        takes=Listed(most=1000, longest=1024),
        means="Words, or sequences of words, to find in the transcript. Needs `keywords_threshold`.",
        needs=NEEDS["keywords"],
    ),
    Parameter(
        name="keywords_threshold",
        takes=_THRESHOLD,
        means="The least confidence of a keyword that is reported. Needs `keywords`.",
        needs=NEEDS["keywords_threshold"],
    ),
    Parameter(
        name="profanity_filter",
        takes=Switch(default=True),
        means="Swear words become asterisks everywhere but in keyword results. English only.",
        needs=frozenset({"english"}),
    ),
    Parameter(
        name="end_of_phrase_silence_time",
        takes=Number(0, 120, quiet=(PAUSE, 0)),
        means="Seconds of a pause that ends an utterance; 0 means the default, which is 0.6 for Chinese.",
        needs=frozenset({"times"}),
    ),
    Parameter(
        name="split_transcript_at_phrase_end",
        takes=_SWITCH,
        means="Each utterance says why it ended; with an engine that punctuates, sentences end utterances, too.",
    ),
    Parameter(
        name="speech_detector_sensitivity",
        takes=_SENSITIVITY,
        means="How readily sound is taken for speech: 0 takes none of it, 1 takes all.",
    ),
    Parameter(
        name="audio_metrics",
        takes=_SWITCH,
        means="Measures of the audio: levels, noise, clipping, offset, missing high frequencies.",
    ),
    Parameter(
        name="processing_metrics",
        takes=_SWITCH,
        means="How much audio was received and recognised, and how long that took. One object, at the end.",
    ),
    Parameter(
        name="enrichments",
        takes=_TEXT,
        means="`punctuation`: the whole text with punctuation as one more object.",
        needs=NEEDS["enrichments"],
    ),
]
_Row = tuple[str, Takes, str]
_REFUSED: list[_Row] = [
    ("redaction", _SWITCH, "Masking of numbers. A result that is not masked would betray them."),
    ("speaker_labels", _SWITCH, "Who said what. A result without would mix the speakers."),
    ("language_customization_id", _TEXT, "A custom language model."),
    ("customization_id", _TEXT, "The former name of `language_customization_id`."),
    ("acoustic_customization_id", _TEXT, "A custom acoustic model."),
    ("grammar_name", _TEXT, "A grammar of a custom language model."),
]
_WARNED: list[_Row] = [
    ("background_audio_suppression", Number(0, 1, quiet=(0,)), "Leaving out background noise and speech."),
    ("base_model_version", _TEXT, "A version of the base model of a custom model."),
    ("character_insertion_bias", Number(-1, 1, quiet=(0,)), "Preference of longer or shorter words."),
    ("customization_weight", _THRESHOLD, "The weight of a custom language model."),
    ("hints", _TEXT, "What kind of text is to be expected."),
    ("low_latency", _SWITCH, "Quicker and poorer results; a job has no use for them."),
    (
        "processing_metrics_interval",
        Number(0.1, math.inf, quiet=(1,)),
        "Seconds between processing metrics; there is one object only, at the end.",
    ),
    ("sad_module", Number(1, 2, quiet=(1,), whole=True), "Another detector of speech."),
    ("smart_formatting", _SWITCH, "Dates, numbers and the like in written form."),
    ("smart_formatting_version", Number(0, math.inf, quiet=(1,)), "The version of that."),
    ("speech_begin_event", _SWITCH, "A message at the first speech; a job has no use for it."),
    ("speech_event_sensitivity", _SENSITIVITY, "How readily that message is sent."),
    ("word_alternatives_threshold", _THRESHOLD, "The least confidence of alternatives for single words."),
]

PARAMETERS: Mapping[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        *_HONOURED,
        *(
            Parameter(name=name, takes=takes, means=means, needs=None, otherwise="refuse")
            for name, takes, means in _REFUSED
        ),
        *(Parameter(name=name, takes=takes, means=means, needs=None) for name, takes, means in _WARNED),
    )
}
"""All that are known, by name."""
