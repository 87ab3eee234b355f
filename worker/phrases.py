"""Utterances as clients see them, out of the segments that were recognised (spec 4.1, 4.7).

A segment is what the detector of speech cut, a phrase is what lies between two pauses of the length that the client
chose: several segments, or a part of one.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter

from msgspec import Struct

from retention.results import Ending
from worker.media import RATE
from worker.recognizers import Utterance, Word

LONGEST = 120.0
"""Seconds after which a phrase ends without a pause."""

_LONGEST_READING = 20_000
"""Characters: eight times what can be said in that time. There are no further readings of what is longer."""

_Reading = tuple[int, str]
"""A text and what it costs: the ranks of what it takes from each segment, summed up."""

_NOTHING: list[_Reading] = [(0, "")]

_STOP = re.compile(r"""[.?!\u2026\u3002\uff0e\uff1f\uff01\u061f\u0964]["'\u2019\u201d\u00bb\u300d\u300f)\]\uff09]*$""")
"""What ends a sentence, in the writing of any language, and the quotation marks and brackets behind it."""


class Spoken(Struct, frozen=True):
    """A word in its place: seconds from the start of the audio, within its segment and not before the word before."""

    text: str
    start: float
    end: float
    confidence: float | None


class Phrase(Struct, frozen=True, kw_only=True):
    """An utterance. `others` are further readings of the whole."""

    words: tuple[Spoken, ...]
    others: tuple[str, ...]
    ending: Ending


class Phrases:
    """Takes recognised segments in the order of time, and gives phrases as they end.

    `pause` is in seconds. With `sentences`, a full stop, question mark or exclamation mark ends a phrase, too.
    """

    def __init__(self, *, pause: float, sentences: bool, most_readings: int) -> None:
        self._pause = pause
        self._sentences = sentences
        self._most = most_readings
        self._words: list[Spoken] = []
        self._readings: list[_Reading] | None = _NOTHING  # None once a phrase has a part of a segment

    def add(self, start: int, samples: int, utterance: Utterance) -> Iterator[Phrase]:
        """Take what was recognised in so many samples from `start`."""
        parts: list[list[Spoken]] = [[]]
        ending: Ending | None = None
        endings: list[Ending] = []
        before = self._words[-1] if self._words else None
        begun = self._words[0].start if self._words else None
        for word in _placed(utterance.words, start / RATE, (start + samples) / RATE):
            ending = self._ending(before, begun, word)
            if ending:
                endings.append(ending)
                parts.append([])
                begun = None
            parts[-1].append(word)
            before, begun = word, word.start if begun is None else begun
        for number, part in enumerate(parts):
            if number:
                yield from self._end(endings[number - 1])
            if part:
                self._words += part
                whole = len(part) == len(utterance.words)
                reading = (" ".join(word.text for word in part), *utterance.others)
                self._readings = _combined(self._readings, reading, self._most) if whole and self._readings else None

    def end(self, total: int) -> Iterator[Phrase]:
        """Take the end of the audio, after so many samples in all."""
        if self._words:
            quiet = round(total / RATE - self._words[-1].end, 3) >= self._pause
            sentence = self._sentences and _ends_sentence(self._words[-1])
            yield from self._end("full_stop" if sentence else "silence" if quiet else "end_of_data")

    def _ending(self, before: Spoken | None, begun: float | None, word: Spoken) -> Ending | None:
        """Tell why the phrase ends before this word, if it does."""
        if before is None or begun is None:
            return None
        if self._sentences and _ends_sentence(before):
            return "full_stop"
        if round(word.start - before.end, 3) >= self._pause:
            return "silence"
        return "reset" if word.end - begun > LONGEST else None

    def _end(self, ending: Ending) -> Iterator[Phrase]:
        if self._words:
            others = tuple(text for _, text in self._readings[1:]) if self._readings else ()
            yield Phrase(words=tuple(self._words), others=others, ending=ending)
        self._words, self._readings = [], _NOTHING


def _placed(words: Sequence[Word], begins: float, ends: float) -> Iterator[Spoken]:
    """Yield the words of a segment with times of the audio; those without have the segment's."""
    now = begins
    for word in words:
        start = min(max(begins + (word.start or 0), now), ends)
        now = min(max(begins + word.end, start), ends) if word.end is not None else ends
        yield Spoken(word.text, start, now, word.confidence)
        if word.end is None:
            now = begins


def _ends_sentence(word: Spoken) -> bool:
    return _STOP.search(word.text) is not None


def _combined(readings: Sequence[_Reading], further: Sequence[str], most: int) -> list[_Reading] | None:
    """Return the likeliest readings of a sequence that goes on, by the sum of the ranks of what they take.

    Each text once. Only pairs are tried of which fewer than `most` others are as likely for certain, so neither many
    segments nor readings that come to the same cost more than a little.
    """
    ranked = list(dict.fromkeys(further))
    found = [
        (cost + rank, f"{before} {text}" if before else text)
        for place, (cost, before) in enumerate(readings)
        for rank, text in enumerate(ranked[: most // (place + 1)])
    ]
    cheapest: dict[str, int] = {}
    for cost, text in sorted(found, key=itemgetter(0)):
        cheapest.setdefault(text, cost)
    kept = [(cost, text) for text, cost in islice(cheapest.items(), most)]
    return kept if all(len(text) <= _LONGEST_READING for _, text in kept) else None
