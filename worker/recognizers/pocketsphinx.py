"""The embedded engine: pocketsphinx with the English model of its wheel.

Modest accuracy, no weights to fetch, one core per segment. A segment is recognised whole, so that
the features are normalised over all of it and nothing of an earlier segment shows.
"""

import itertools
from pathlib import Path
from typing import ClassVar

import pocketsphinx

from retention.offer import Feature, Offer
from worker.recognizers import Utterance, Word

_READINGS_TRIED = 10
"""Readings looked at per one wanted: most of them differ in silences and pronunciations only."""


class Pocketsphinx:
    """US English, in lower case and without punctuation."""

    features: ClassVar[frozenset[Feature]] = frozenset({"times", "confidences", "alternatives"})

    def __init__(self, model: Path | None = None) -> None:
        if model is not None:
            raise ValueError("pocketsphinx brings its own model: leave recognizer_model out")
        self.offer = Offer(engine="pocketsphinx", languages=("en-US",), features=self.features)
        # maxhmmpf bounds the search: 40 % less time for the same word errors.
        self._decoder = pocketsphinx.Decoder(samprate=16000, loglevel="FATAL", maxhmmpf=3000)

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `Recognizer`."""
        del language  # there is one
        if len(pcm) < 2:  # noqa: PLR2004 - not even a sample, which the decoder would never get over
            return Utterance()
        decoder = self._decoder
        # The front end estimates the noise as it goes: without a new one, an earlier segment changes this one's words.
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(pcm, no_search=False, full_utt=True)
        decoder.end_utt()
        # Without a sound throughout there are no means to normalise by, and what is heard is left over from before.
        if decoder.hyp() is None or "nan" in decoder.get_cmn():
            return Utterance()
        words = tuple(
            Word(
                text=_spelling(part.word),
                start=part.start_frame / 100,
                end=(part.end_frame + 1) / 100,
                confidence=min(1.0, max(0.0, part.prob)),
            )
            for part in decoder.seg() or ()
            if _is_spoken(part.word)
        )
        if not words:
            return Utterance()
        others: dict[str, None] = {}
        wanted = alternatives - 1
        if wanted > 0:
            best = " ".join(word.text for word in words)
            for reading in itertools.islice(decoder.nbest() or (), wanted * _READINGS_TRIED):
                said = reading.hypstr if reading else ""  # in noise there may be readings without anything
                text = " ".join(_spelling(word) for word in said.split() if _is_spoken(word))
                if text and text != best:
                    others[text] = None
                if len(others) == wanted:
                    break
        return Utterance(words=words, others=tuple(others))


def _is_spoken(word: str) -> bool:
    """Tell words from the engine's marks: `<s>`, `<sil>`, `[NOISE]`, `++UH++`."""
    return not word.startswith(("<", "[", "++"))


def _spelling(word: str) -> str:
    """Drop the number of the pronunciation: `been(2)` is `been`."""
    return word.partition("(")[0]
