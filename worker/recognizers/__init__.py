"""Engines: what one must offer, and how one is found.

An engine is a class. It is installed under the entry point group `volant.recognizers`, or named as
"module:Class". It is constructed once in a child that can read installed libraries and the directory of its model
and nothing else; afterwards the child can start no thread any more. So whatever it reads, it reads there, and one
second of silence is recognised there, too, before there is any audio. With ValueError or ImportError and a sentence
for the operator it says that it cannot be had.
"""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import ClassVar, Protocol

from msgspec import Struct

from retention.offer import Feature, Offer

GROUP = "volant.recognizers"


class Word(Struct, frozen=True, array_like=True):
    """A recognised word: seconds from the start of the segment, and a probability of 0 to 1.

    None is what an engine without the feature `times`, or `confidences`, says.
    """

    text: str
    start: float | None = None
    end: float | None = None
    confidence: float | None = None


class Utterance(Struct, frozen=True, array_like=True):
    """What was said in one segment, best first. Without words when nothing was."""

    words: tuple[Word, ...] = ()
    others: tuple[str, ...] = ()
    """Further readings of the whole segment, different from the best and from each other."""


class Recognizer(Protocol):
    """An engine, loaded. It keeps nothing from one segment to the next."""

    features: ClassVar[frozenset[Feature]]
    """What it can do with a fitting model, for the documentation."""

    offer: Offer
    """What it does with the model that it has loaded: what clients are told follows from this."""

    def __init__(self, model: Path | None) -> None:
        """Load the model in this directory; None for an engine that brings its own."""
        ...

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """Recognise one segment: 16 kHz mono signed 16-bit samples in native byte order.

        `language` is one of the offer's, `alternatives` how many readings are wanted, the best included.
        """
        ...


def installed() -> Iterator[EntryPoint]:
    """Yield the installed engines, by name."""
    yield from sorted(entry_points(group=GROUP), key=lambda point: point.name)


def find(name: str) -> type[Recognizer]:
    """Return the engine of an entry point's name, or of "module:Class".

    Raises LookupError when nothing of that name is installed, and whatever importing it raises.
    """
    if ":" in name:
        point = EntryPoint(name=name, value=name, group=GROUP)
    else:
        point = next((point for point in installed() if point.name == name), None)  # type: ignore[assignment]
        if point is None:
            raise LookupError(f"no recognizer is called {name}")
    engine: type[Recognizer] = point.load()
    return engine
