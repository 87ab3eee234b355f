"""Keywords in what was recognised (spec 4.5). A search in the best reading, not in all that the engine considered."""

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise

from retention.results import Match
from worker.phrases import Spoken
from worker.plain import core

_WIDEST_GAP = 0.1
"""Seconds between two words of one keyword, at most."""


class Keywords:
    """The keywords of one job. `threshold` is the least confidence of a match; that of a sequence is its least."""

    def __init__(self, keywords: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._by_first: dict[str, list[tuple[str, list[str]]]] = {}
        for keyword in keywords:
            if folded := [_folded(word) for word in keyword.split()]:
                self._by_first.setdefault(folded[0], []).append((keyword, folded))

    def find(self, words: Sequence[Spoken]) -> Mapping[str, list[Match]]:
        """Return the matches in an utterance, by the keyword as the client wrote it."""
        found: dict[str, list[Match]] = {}
        spoken = [_folded(word.text) for word in words]
        for at, first in enumerate(spoken):
            for keyword, folded in self._by_first.get(first, ()):
                if spoken[at : at + len(folded)] == folded and (match := self._match(words[at : at + len(folded)])):
                    found.setdefault(keyword, []).append(match)
        return found

    def _match(self, words: Sequence[Spoken]) -> Match | None:
        confidence = round(min(1.0, *(word.confidence or 0.0 for word in words)), 2)
        gaps = (round(after.start - before.end, 3) for before, after in pairwise(words))
        if confidence < self._threshold or any(gap > _WIDEST_GAP for gap in gaps):
            return None
        return Match(
            normalized_text=" ".join(word.text for word in words),
            start_time=round(words[0].start, 2),
            end_time=round(words[-1].end, 2),
            confidence=confidence,
        )


def _folded(word: str) -> str:
    """Return the word in the form in which it is compared: without case, and without punctuation around it."""
    word = unicodedata.normalize("NFC", word).casefold()
    return core(word) or word
