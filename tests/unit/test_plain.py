"""Plain text: no capitals, no punctuation."""

import pytest

from worker.plain import plain
from worker.recognizers import Utterance, Word


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Hello, world!", "hello world"),
        ("It's 5% of Twenty-One.", "it's 5% of twenty-one"),
        ("'Quoted' - \u201cand\u201d dashed -", "quoted and dashed"),
        ("Caf\u00e9 \u00c0 la", "caf\u00e9 \u00e0 la"),
        ("...", ""),
        ("3.5 and 10:30 of -5 for $1,000.", "3.5 and 10:30 of -5 for $1,000"),
        ("U.S.A., and/or what...now \u2014 red\u2014blue\u2026", "usa and-or what-now red-blue"),
        (
            "\u0928\u092e\u0938\u094d\u0924\u0947, \u0939\u0948\u0964 Cafe\u0301",
            "\u0928\u092e\u0938\u094d\u0924\u0947 \u0939\u0948 cafe\u0301",
        ),
    ],
)
def test_capitals_and_marks_go(written: str, shown: str) -> None:
    """Words keep what is part of them; words of marks alone go."""
    utterance = Utterance(words=tuple(Word(word) for word in written.split()), others=(written,))
    result = plain(utterance)
    assert " ".join(word.text for word in result.words) == shown
    assert result.others == ((shown,) if shown else ())
