"""The English words that `profanity_filter` hides (spec 4.7).

The list is our own, `profanity.txt`, one word a line in every inflection: swear words and slurs that are hardly ever
anything else. Mild oaths, words of medicine, and words that are also names stay.
"""

import re
from functools import cache
from importlib.resources import files

HIDDEN = "****"
"""What stands for such a word, whatever its length."""

_EDGES = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)


def censored(word: str) -> str:
    """Return the word, or asterisks in its place, with the punctuation around it. Case does not matter."""
    before, core, after = _parts(word)
    parts = [HIDDEN if part.casefold().replace("\u2019", "'") in _words() else part for part in core.split("-")]
    return before + "-".join(parts) + after


def _parts(word: str) -> tuple[str, str, str]:
    before: str
    before, core, after = _EDGES.findall(word)[0]
    return before, core, after


@cache
def _words() -> frozenset[str]:
    return frozenset(files("worker").joinpath("profanity.txt").read_text().split())
