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
    ],
)
def test_capitals_and_marks_go(written: str, shown: str) -> None:
    """Words keep what is part of them; words of marks alone go."""
    utterance = Utterance(words=tuple(Word(word) for word in written.split()), others=(written,))
    result = plain(utterance)
    assert " ".join(word.text for word in result.words) == shown
    assert result.others == ((shown,) if shown else ())
