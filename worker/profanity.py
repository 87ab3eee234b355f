"""The English words that `profanity_filter` hides (spec 4.7).

The list is our own, `profanity.txt`, one word a line in every inflection: swear words and slurs that are hardly ever
anything else. Mild oaths, words of medicine, and words that are also names stay.
"""

import re
from functools import cache
from importlib.resources import files

from worker.plain import core

HIDDEN = "****"
"""What stands for such a word, whatever its length."""

_PARTS = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def censored(word: str) -> str:
    """Return the word, or asterisks in its place, with the punctuation around it. Case does not matter.

    Of words that are joined by hyphens, dashes or the like, each is judged.
    """
    if _is_listed(whole := core(word)):
        return word.replace(whole, HIDDEN)
    return _PARTS.sub(lambda part: HIDDEN if _is_listed(part[0]) else part[0], word)


def _is_listed(word: str) -> bool:
    folded = word.casefold().replace("\u2019", "'")
    return folded in _words() or folded.removesuffix("'s") in _words()


@cache
def _words() -> frozenset[str]:
    return frozenset(files("worker").joinpath("profanity.txt").read_text().split())
