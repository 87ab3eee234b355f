"""Plain text: lower case, no punctuation, as the former generation of IBM's models writes (spec 4.2)."""

import re

import msgspec

from worker.recognizers import Utterance

_MARKS = re.compile(r"[^\w\s'\u2019%-]|(?<!\w)[-'\u2019]|[-'\u2019](?!\w)")


def plain(utterance: Utterance) -> Utterance:
    """Return what was said, without capitals and without marks; words that are nothing else go."""
    words = [msgspec.structs.replace(word, text=_plain(word.text)) for word in utterance.words]
    return Utterance(
        words=tuple(word for word in words if word.text),
        others=tuple(text for text in (_plain(other) for other in utterance.others) if text),
    )


def _plain(text: str) -> str:
    return " ".join(_MARKS.sub("", text).lower().split())
