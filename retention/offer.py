"""What the recognition engine serves, in words that every package knows: languages, features, names of models.

An engine states its offer, a worker publishes it, and the front answers by it: what is honoured, warned about or
refused follows from here.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from msgspec import Struct

Feature = Literal["times", "confidences", "alternatives", "punctuation"]
"""What an engine can say beyond words: when each was said, how sure it is of each, further readings of an
utterance, sentences with capitals and punctuation."""

_SPOTTING: frozenset[Feature] = frozenset({"times", "confidences"})
NEEDS: Mapping[str, frozenset[Feature]] = {
    "timestamps": frozenset({"times"}),
    "word_confidence": frozenset({"confidences"}),
    "max_alternatives": frozenset({"alternatives"}),
    "keywords": _SPOTTING,
    "keywords_threshold": _SPOTTING,
    "enrichments": frozenset({"punctuation"}),
}
"""What the recognition parameters that an engine may be unable to honour need of it."""

DEFAULT_MODEL = "en-US_BroadbandModel"
"""What a request without `model` means (spec 1.3)."""

RATES: Mapping[str, int] = {
    "_BroadbandModel": 16000,
    "_NarrowbandModel": 8000,
    "_Multimedia": 16000,
    "_Telephony": 8000,
    "": 16000,
}
"""The kinds of models that clients know for a locale, by the end of their names, and their rates in Hz (spec 1.8)."""


class Offer(Struct, frozen=True, kw_only=True):
    """What one engine serves with the model that it has loaded. `languages` are locales, such as en-US."""

    engine: str
    languages: tuple[str, ...]
    features: frozenset[Feature]


class Model(Struct, frozen=True, kw_only=True):
    """A name that clients may ask for. `rate` is the least sampling rate that the name stands for, in Hz."""

    name: str
    language: str
    rate: int


def models(offer: Offer) -> Iterator[Model]:
    """Yield all models of an offer. Every name of a locale means the same engine.

    The name that stands for none is served with any English, be it that of another country (spec 1.8).
    """
    for language in offer.languages:
        for kind, rate in RATES.items():
            yield Model(name=language + kind, language=language, rate=rate)
    if "en-US" not in offer.languages:
        for language in [language for language in offer.languages if is_english(language)][:1]:
            yield Model(name=DEFAULT_MODEL, language=language, rate=RATES["_BroadbandModel"])


def language_of(model: str, offer: Offer) -> str | None:
    """Return the locale for which a model stands; None when it is not served."""
    return next((known.language for known in models(offer) if known.name == model), None)


def is_english(language: str) -> bool:
    """Tell whether a locale is one of English."""
    return language.startswith("en-")
