"""Which words are hidden, and how much of them."""

import pytest

from worker.profanity import censored


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Shit!", "****!"),
        ("asshole's", "****"),
        ("bitch\u2019s", "****"),
        ("jerk-off", "****"),
        ("son-of-a-bitch.", "****."),
        ("cluster-fuck", "cluster-****"),
        ("fuck\u2014you", "****\u2014you"),
        ("shit...what", "****...what"),
        ("bull/shit", "bull/****"),
        ("Scunthorpe", "Scunthorpe"),
        ("assess", "assess"),
        ("it's", "it's"),
        ("\u2014", "\u2014"),
        ("", ""),
    ],
)
def test_swear_words_are_hidden_with_what_is_joined_to_them_left(said: str, shown: str) -> None:
    """In every writing of an engine that punctuates: possessives, hyphens, dashes and dots without blanks."""
    assert censored(said) == shown


def test_a_word_of_any_length_is_looked_at_once() -> None:
    """A child may say what it likes, and its words are looked at where everybody's jobs are."""
    endless = "a" + "!" * 300_000 + "a"
    assert censored(endless) == endless
