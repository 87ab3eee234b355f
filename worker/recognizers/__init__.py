"""Engines: what one must offer, and how one is found.

An engine is a class. It is installed under the entry point group `volant.recognizers`, or named as
"module:Class". It is only ever constructed inside a sandboxed child, once, before the child is
confined: whatever it reads, it reads in its constructor.
"""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import ClassVar, Protocol

from msgspec import Struct

GROUP = "volant.recognizers"


class Word(Struct, frozen=True, array_like=True):
    """A recognised word: seconds from the start of the segment, and a probability of 0 to 1."""

    text: str
    start: float
    end: float
    confidence: float


class Utterance(Struct, frozen=True, array_like=True):
    """What was said in one segment, best first. Without words when nothing was."""

    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    others: tuple[str, ...] = ()
    """Further readings of the whole segment, different from the best and from each other."""


class Recognizer(Protocol):
    """An engine, loaded. It keeps nothing from one segment to the next."""

    models: ClassVar[tuple[str, ...]]
    """The models that it stands for, as `volant engines` lists them. Clients may ask for those of the API's list."""

    def recognize(self, pcm: bytes, *, alternatives: int) -> Utterance:
        """Recognise one segment: 16 kHz mono signed 16-bit samples in native byte order.

        At most `alternatives` readings, the best included.
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
