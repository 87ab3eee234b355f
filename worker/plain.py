"""Plain text: lower case, no punctuation, as the former generation of IBM's models writes (spec 4.2)."""

import re
import unicodedata
from collections.abc import Iterator

import msgspec

from worker.recognizers import Utterance

_BREAKS = re.compile(r"\.{2,}|[\u2010-\u2015\u2026/]+")
"""What stands between two words, without blanks when an engine writes so: a hyphen keeps them apart."""


def plain(utterance: Utterance) -> Utterance:
    """Return what was said, without capitals and without marks; words that are nothing else go."""
    words = [msgspec.structs.replace(word, text=_plain(word.text)) for word in utterance.words]
    return Utterance(
        words=tuple(word for word in words if word.text),
        others=tuple(text for text in (_plain(other) for other in utterance.others) if text),
    )


def is_of_word(char: str) -> bool:
    """Tell letters and numbers, and what belongs to them: vowel signs, accents, joiners."""
    return unicodedata.category(char)[0] in "LNM" or char in "\u200c\u200d"


def core(word: str) -> str:
    """Return the word without what is around it and not of it."""
    return word.strip("".join({char for char in word if not is_of_word(char)}))


def _plain(text: str) -> str:
    return " ".join("".join(_kept(_BREAKS.sub("-", text))).lower().split())


def _kept(text: str) -> Iterator[str]:
    """Yield what is no punctuation: a point within a number is none, nor is an apostrophe within a word."""
    for before, char, after in zip(f" {text}", text, f"{text[1:]} ", strict=False):
        if is_of_word(char) or char.isspace() or char == "%" or unicodedata.category(char) == "Sc":
            stays = True
        elif char in ".,:\u066b":
            stays = before.isdigit() and after.isdigit()
        elif char in "-'\u2019":
            stays = (is_of_word(before) and is_of_word(after)) or (char == "-" and after.isdigit())
        else:
            stays = False
        if stays:
            yield char
