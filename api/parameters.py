"""What a client asks for in the query of a submission (spec 1.3), and what is answered to what we do not do (spec 7).

A wish that would mislead or harm if it were dropped is refused; one without which the result is
merely poorer is warned about; one that equals what we do anyway needs no word. `profanity_filter` is on
by default in the contract and not honoured here: asking for it is warned about, leaving it out or turning
it off is not.
"""

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple, cast, get_args

from msgspec import Struct
from multidict import MultiMapping

from api.models import DEFAULT_MODEL, SERVED_MODELS
from api.problems import Problem, printable
from retention.job import Event, Media, Submission
from retention.notification import DEFAULT_EVENTS
from retention.settings import Settings

MOST_ALTERNATIVES = 100
"""More are not asked of any engine: each takes time. Fewer than asked for are always legal (spec 4.4)."""

_MINUTE = timedelta(minutes=1)


class _Range(NamedTuple):
    low: float
    high: float
    whole: bool = False
    quiet: tuple[float, ...] = ()  # values that equal what happens anyway


_UNSUPPORTED_NUMBERS: Mapping[str, _Range] = {
    "background_audio_suppression": _Range(0, 1, quiet=(0,)),
    "character_insertion_bias": _Range(-1, 1, quiet=(0,)),
    "customization_weight": _Range(0, 1),
    "end_of_phrase_silence_time": _Range(0, 120, quiet=(0, 0.8)),
    "keywords_threshold": _Range(0, 1),
    "processing_metrics_interval": _Range(0.1, math.inf, quiet=(1,)),
    "sad_module": _Range(1, 2, whole=True, quiet=(1,)),
    "smart_formatting_version": _Range(0, math.inf, quiet=(1,)),
    "speech_detector_sensitivity": _Range(0, 1, quiet=(0.5,)),
    "speech_event_sensitivity": _Range(0, 1, quiet=(0.5,)),
    "word_alternatives_threshold": _Range(0, 1),
}
_UNSUPPORTED_SWITCHES = frozenset(
    {
        "audio_metrics",
        "low_latency",
        "processing_metrics",
        "profanity_filter",
        "smart_formatting",
        "speech_begin_event",
        "split_transcript_at_phrase_end",
    }
)
_UNSUPPORTED_TEXTS = frozenset({"base_model_version", "enrichments", "hints", "keywords"})
_REFUSED_SWITCHES = frozenset({"redaction", "speaker_labels"})
_REFUSED_TEXTS = frozenset(
    {"acoustic_customization_id", "customization_id", "grammar_name", "language_customization_id"}
)
_PRESUME_CALLBACK = frozenset({"events", "user_token"})
_EVENTS: frozenset[str] = frozenset(get_args(Event))
_LONGEST_TOKEN = 4096
_HONOURED = frozenset(
    {
        "callback_url",
        "inactivity_timeout",  # concerns live streams only: it has no effect on a job, and needs no word
        "max_alternatives",
        "model",
        "results_ttl",
        "timestamps",
        "word_confidence",
    }
)
_KEYWORDS, _KEYWORD_LENGTH = 1000, 1024


class Told(Struct, frozen=True, kw_only=True):
    """Who wants to be told, of what, and what is told along (spec 1.3)."""

    url: str
    events: tuple[Event, ...]
    user_token: str


class Wishes(Struct, frozen=True, kw_only=True):
    """What the query asks for, as far as it can be had."""

    model: str
    timestamps: bool
    word_confidence: bool
    max_alternatives: int
    results_ttl: timedelta
    told: Told | None
    warnings: tuple[str, ...]

    def submission(self, media: Media, *, learning_opt_out: bool) -> Submission:
        """Return the submission of these wishes for this audio."""
        return Submission(
            media=media,
            model=self.model,
            timestamps=self.timestamps,
            word_confidence=self.word_confidence,
            max_alternatives=self.max_alternatives,
            warnings=self.warnings,
            learning_opt_out=learning_opt_out,
        )


def read(query: MultiMapping[str], settings: Settings) -> Wishes:
    """Read the query of a submission. Of a repeated parameter the first counts; `keywords` and `events` are merged.

    Raises Problem: 404 for an unknown model; 400, naming the parameter, for a value out of range and for
    what must be refused.
    """
    model = query.get("model", DEFAULT_MODEL)
    if model not in SERVED_MODELS:
        raise Problem(404, f"Model {printable(model)} not found")
    _whole(query, "inactivity_timeout", default=-1, low=-1)
    results_ttl, cut = _results_ttl(query, settings)
    return Wishes(
        model=model,
        timestamps=_switch(query, "timestamps"),
        word_confidence=_switch(query, "word_confidence"),
        max_alternatives=min(MOST_ALTERNATIVES, max(1, _whole(query, "max_alternatives", default=1, low=0))),
        results_ttl=results_ttl,
        told=_told(query),
        warnings=tuple(cut + _warnings(query, model)),
    )


def _told(query: MultiMapping[str]) -> Told | None:
    if "callback_url" not in query:
        return None
    named = [name for name in ",".join(query.getall("events", [])).split(",") if name]
    for name in named:
        if name not in _EVENTS:
            raise Problem(400, f"'events' does not know '{printable(name)}'")
    events = cast("tuple[Event, ...]", tuple(dict.fromkeys(named))) or DEFAULT_EVENTS
    if {"recognitions.completed", "recognitions.completed_with_results"} <= set(events):
        raise Problem(400, "'events' takes recognitions.completed or recognitions.completed_with_results, not both")
    token = query.get("user_token", "")
    if len(token) > _LONGEST_TOKEN:
        raise Problem(400, f"'user_token' must not be longer than {_LONGEST_TOKEN} characters")
    return Told(url=query["callback_url"], events=events, user_token=token.encode(errors="replace").decode())


def _warnings(query: MultiMapping[str], model: str) -> list[str]:
    unexpected, unsupported, unknown = [], [], []
    for name in dict.fromkeys(query):
        if name in _PRESUME_CALLBACK:
            if "callback_url" not in query:
                unexpected.append(
                    f"unexpected query parameter '{name}', query parameter 'callback_url' was not specified"
                )
        elif _refused(query, name):
            raise Problem(400, f"{name} is not a supported feature for model {model}")
        elif _unsupported(query, name):
            unsupported.append(name)
        elif not _known(name):
            unknown.append(printable(name))
    if unsupported:
        unexpected.append(f"Unsupported arguments: {', '.join(unsupported)}.")
    if unknown:
        unexpected.append(f"Unknown arguments: {', '.join(unknown)}.")
    return unexpected


def _refused(query: MultiMapping[str], name: str) -> bool:
    return (name in _REFUSED_SWITCHES and _switch(query, name)) or (name in _REFUSED_TEXTS and query[name] != "")


def _unsupported(query: MultiMapping[str], name: str) -> bool:
    """Tell whether the parameter asks for something that we do not do. Raises Problem when it is out of range."""
    if name in _UNSUPPORTED_SWITCHES:
        return _switch(query, name)
    if limits := _UNSUPPORTED_NUMBERS.get(name):
        return _number(query, name, limits) not in limits.quiet
    if name == "keywords":
        words = ",".join(query.getall(name)).split(",")
        if len(words) > _KEYWORDS or any(len(word) > _KEYWORD_LENGTH for word in words):
            raise Problem(400, f"'keywords' takes at most {_KEYWORDS} keywords of at most {_KEYWORD_LENGTH} characters")
    return name in _UNSUPPORTED_TEXTS and query[name] != ""


def _known(name: str) -> bool:
    return any(
        name in names
        for names in (
            _HONOURED,
            _REFUSED_SWITCHES,
            _REFUSED_TEXTS,
            _UNSUPPORTED_SWITCHES,
            _UNSUPPORTED_NUMBERS,
            _UNSUPPORTED_TEXTS,
        )
    )


def _results_ttl(query: MultiMapping[str], settings: Settings) -> tuple[timedelta, list[str]]:
    """Return how long the result is kept, and the warning when that is less than asked for (spec 2.3)."""
    if "results_ttl" not in query:
        return settings.results_ttl, []
    minutes = _whole(query, "results_ttl", default=1, low=1)
    if minutes * _MINUTE.total_seconds() <= settings.max_results_ttl.total_seconds():
        return timedelta(minutes=minutes), []
    most = settings.max_results_ttl / _MINUTE
    return settings.max_results_ttl, [f"'results_ttl' was cut to {most:g} minutes, the longest that results are kept."]


def _switch(query: MultiMapping[str], name: str) -> bool:
    match query.get(name, "false").lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
        case _:
            raise Problem(400, f"'{name}' must be true or false")


def _whole(query: MultiMapping[str], name: str, *, default: int, low: int) -> int:
    text = query.get(name, str(default))
    if re.fullmatch(r"-?[0-9]{1,300}", text) and int(text) >= low:
        return int(text)
    raise Problem(400, f"'{name}' must be a whole number of at least {low}")


def _number(query: MultiMapping[str], name: str, limits: _Range) -> float:
    text = query[name]
    if re.fullmatch(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE]-?[0-9]{1,3})?", text):
        number = float(text)
        if limits.low <= number <= limits.high and math.isfinite(number) and not (limits.whole and number % 1):
            return number
    kind = "whole number" if limits.whole else "number"
    bounds = f"of at least {limits.low}" if math.isinf(limits.high) else f"from {limits.low} to {limits.high}"
    raise Problem(400, f"'{name}' must be a {kind} {bounds}")
