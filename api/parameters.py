"""What a client asks for in the query of a submission, and what is answered to it, by the table in `api.catalogue`."""

from datetime import timedelta
from typing import Any, cast

from msgspec import Struct
from multidict import MultiMapping

from api.catalogue import MOST_ALTERNATIVES, PARAMETERS, Need
from api.problems import Problem, printable
from retention.job import PAUSE, Event, Media, Recognition, Submission
from retention.notification import DEFAULT_EVENTS
from retention.offer import DEFAULT_MODEL, Offer, is_english, language_of
from retention.settings import Settings

_MINUTE = timedelta(minutes=1)
_PAUSE_IN_CHINESE = 0.6
"""As `PAUSE`."""
_PRESUME_CALLBACK = frozenset({"events", "user_token"})
_NAMED = 100
_KEYWORDS = frozenset({"keywords", "keywords_threshold"})


class Told(Struct, frozen=True, kw_only=True):
    """Who wants to be told, of what, and what is told along (spec 1.3)."""

    url: str
    events: tuple[Event, ...]
    user_token: str


class Wishes(Struct, frozen=True, kw_only=True):
    """What the query asks for, as far as it can be had."""

    recognition: Recognition
    results_ttl: timedelta
    told: Told | None

    def submission(self, media: Media, **further: Any) -> Submission:
        """Return the submission of these wishes for this audio, with its `further` fields."""
        asked = {name: getattr(self.recognition, name) for name in Recognition.__struct_fields__}
        return Submission(media=media, **asked, **further)


class _Reading(Struct, kw_only=True):
    """What was read of a query so far: the values that count, and the names of those that do not."""

    values: dict[str, Any] = {}
    unexpected: list[str] = []
    unsupported: list[str] = []
    unknown: list[str] = []

    def warnings(self) -> list[str]:
        """Return one sentence for each kind (spec 4.8)."""
        return [
            *self.unexpected,
            *([f"Unsupported arguments: {', '.join(self.unsupported)}."] if self.unsupported else []),
            *([f"Unknown arguments: {', '.join(_some(self.unknown))}."] if self.unknown else []),
        ]


def _some(names: list[str]) -> list[str]:
    """Return no more names than somebody would read: warnings are kept, and told twice."""
    return names if len(names) <= _NAMED else [*names[:_NAMED], f"and {len(names) - _NAMED} more"]


def read(query: MultiMapping[str], settings: Settings, offer: Offer) -> Wishes:
    """Read the query of a submission. Of a repeated parameter the first counts; `keywords` and `events` are merged.

    Raises Problem: 404 for a model that the offer does not have; 400, naming the parameter, for a value out of range
    and for what must be refused.
    """
    model = query.get("model") or DEFAULT_MODEL
    language = language_of(model, offer)
    if language is None:
        raise Problem(404, f"Model {printable(model)} not found")
    able: set[Need] = {*offer.features}
    if is_english(language):
        able.add("english")
    reading = _read(query, model, frozenset(able))
    values = reading.values
    results_ttl, cut = _results_ttl(values.get("results_ttl"), settings)
    told = _told(values)
    values.setdefault("profanity_filter", "english" in able)
    values["max_alternatives"] = min(MOST_ALTERNATIVES, max(1, values.get("max_alternatives", 1)))
    pause = _PAUSE_IN_CHINESE if language.startswith("zh-") else PAUSE
    values["end_of_phrase_silence_time"] = values.get("end_of_phrase_silence_time") or pause
    asked = {name: value for name, value in values.items() if name in Recognition.__struct_fields__}
    recognition = Recognition(**{**asked, "model": model, "warnings": (*cut, *reading.warnings())})
    return Wishes(recognition=recognition, results_ttl=results_ttl, told=told)


def _read(query: MultiMapping[str], model: str, able: frozenset[Need]) -> _Reading:
    reading = _Reading()
    for name in dict.fromkeys(query):
        parameter = PARAMETERS.get(name)
        if parameter is None:
            reading.unknown.append(printable(name))
            continue
        value = parameter.takes.read(name, query.getall(name))
        if name in _PRESUME_CALLBACK and "callback_url" not in query:
            reading.unexpected.append(
                f"unexpected query parameter '{name}', query parameter 'callback_url' was not specified"
            )
        elif parameter.takes.changes_nothing(value) or (parameter.needs is not None and parameter.needs <= able):
            reading.values[name] = value
        elif parameter.otherwise == "refuse":
            raise Problem(400, f"{name} is not a supported feature for model {model}")
        else:
            reading.unsupported.append(name)
    _pair_keywords(reading)
    if reading.values.get("enrichments") not in (None, "", "punctuation"):
        del reading.values["enrichments"]
        reading.unsupported.append("enrichments")
    return reading


def _pair_keywords(reading: _Reading) -> None:
    """Keywords without a threshold, and a threshold without, spot nothing (spec 1.3): say so."""
    given = [name for name in sorted(_KEYWORDS) if reading.values.get(name) not in (None, ())]
    if len(given) == 1:
        (missing,) = _KEYWORDS - set(given)
        reading.unexpected.append(f"'{given[0]}' has no effect without '{missing}'.")
        del reading.values[given[0]]


def _told(values: dict[str, Any]) -> Told | None:
    if "callback_url" not in values:
        return None
    events = cast("tuple[Event, ...]", values.get("events")) or DEFAULT_EVENTS
    return Told(url=values["callback_url"], events=events, user_token=values.get("user_token", ""))


def _results_ttl(minutes: int | None, settings: Settings) -> tuple[timedelta, list[str]]:
    """Return how long the result is kept, and the warning when that is less than asked for (spec 2.3)."""
    if minutes is None:
        return settings.results_ttl, []
    if minutes * _MINUTE.total_seconds() <= settings.max_results_ttl.total_seconds():
        return timedelta(minutes=minutes), []
    most = settings.max_results_ttl / _MINUTE
    return settings.max_results_ttl, [f"'results_ttl' was cut to {most:g} minutes, the longest that results are kept."]
