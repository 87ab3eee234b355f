"""How the tokens of models become words, and which locales are served."""

import math
import warnings

import pytest

from worker.recognizers import Word
from worker.recognizers.sherpa import _words
from worker.recognizers.whisper import _LOCALES

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it has invalid escapes in its docstrings
    from ibm_watson.speech_to_text_v1 import CreateJobEnums


def joined(tokens: list[str]) -> list[str]:
    """Return the words of tokens that come a tenth of a second after each other."""
    return [word.text for word in _words(tokens, [at / 10 for at in range(len(tokens))], [], None, 20)]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([], []),
        (["\u2581go", "\u2581for", "ward"], ["go", "forward"]),
        ([" go", " for", "ward"], ["go", "forward"]),
        ([" God", ",", " as", " a"], ["God,", "as", "a"]),
        (["g", "o", " ", "o", "n"], ["go", "on"]),
        (["▁", "go"], ["go"]),
        (["你", "好", "。", " HE", "LLO", "世"], ["你", "好。", "HELLO", "世"]),
        (["カ", "タ"], ["カ", "タ"]),
        (["안녕", "하세요", " 여러분"], ["안녕하세요", "여러분"]),
        ([" na", "<0xC3>", "<0xAF>", "ve"], ["naïve"]),
        ([" a", "<0xC3>", " b"], ["a\ufffd", "b"]),
    ],
)
def test_tokens_are_joined_to_words(tokens: list[str], words: list[str]) -> None:
    """At marks and blanks words begin; ideographs and kana are words; bytes make characters."""
    assert joined(tokens) == words


def test_words_end_with_their_last_token() -> None:
    """Where the model does not say how long a token was it is a fifth of a second, or up to the next word."""
    words = list(_words([" for", "ward", " ten", " me", "ters"], [0.1, 0.3, 0.4, 1.0, 1.1], [], None, 1.2))
    assert words == [Word("forward", 0.1, 0.4), Word("ten", 0.4, 0.6), Word("meters", 1.0, 1.2)]


def test_words_end_where_the_model_says() -> None:
    """And never behind the end of the segment."""
    words = list(_words([" ten", " me", "ters"], [0.4, 1.0, 1.1], [0.4, 0.1, 0.5], None, 1.2))
    assert words == [Word("ten", 0.4, 0.8), Word("meters", 1.0, 1.2)]


def test_a_word_is_as_probable_as_its_tokens() -> None:
    """The mean of their logarithms counts, and rounding never makes more than certainty."""
    words = list(_words([" for", "ward", " ten"], [0, 1, 2], [], [math.log(0.25), math.log(1.0), 1e-9], 3))
    assert [word.confidence for word in words] == [pytest.approx(0.5), 1.0]


def test_the_locales_are_those_that_clients_know() -> None:
    """IBM's SDK names the same, no more and no fewer."""
    assert set(_LOCALES) == {model.value.partition("_")[0] for model in CreateJobEnums.Model}
