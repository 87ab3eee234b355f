"""Finding keywords in what was recognised."""

import time

from worker.keywords import Keywords
from worker.phrases import Spoken


def words(*rows: tuple[str, float, float, float]) -> list[Spoken]:
    return [Spoken(*row) for row in rows]


SAID = words(("Colorado,", 0.0, 0.5, 0.9), ("New", 0.55, 0.7, 0.8), ("Mexico", 0.8, 1.2, 0.6), ("new", 2.0, 2.2, 0.3))


def test_case_and_punctuation_do_not_matter_and_the_clients_spelling_is_kept() -> None:
    """The key is the keyword as written, the text is that of the transcript."""
    found = Keywords(["COLORADO", "utah"], 0.5).find(SAID)
    assert list(found) == ["COLORADO"]
    [match] = found["COLORADO"]
    assert (match.normalized_text, match.start_time, match.end_time, match.confidence) == ("Colorado,", 0.0, 0.5, 0.9)


def test_several_words_must_be_adjacent() -> None:
    """With a gap of a tenth of a second at most; they are as sure as the least sure of them."""
    [match] = Keywords(["new mexico"], 0.5).find(SAID)["new mexico"]
    assert (match.normalized_text, match.confidence) == ("New Mexico", 0.6)
    assert Keywords(["mexico new"], 0.0).find(SAID) == {}
    apart = words(("new", 0.0, 0.5, 0.9), ("mexico", 0.65, 1.0, 0.9))
    assert Keywords(["new mexico"], 0.0).find(apart) == {}


def test_the_threshold_is_the_least_confidence() -> None:
    """What reaches it counts; every place counts."""
    assert [match.confidence for match in Keywords(["new"], 0.3).find(SAID)["new"]] == [0.8, 0.3]
    assert [match.confidence for match in Keywords(["new"], 0.31).find(SAID)["new"]] == [0.8]
    assert Keywords(["new"], 1.0).find(SAID) == {}


def test_odd_keywords_find_nothing_and_harm_nothing() -> None:
    """Blanks and marks are no words, in keywords as in transcripts."""
    marks = words(("-", 0.0, 0.1, 1.0), ("a", 0.1, 0.2, 1.0))
    assert Keywords(["", "  ", "."], 0.0).find(SAID) == {}
    assert list(Keywords(["-", "a"], 0.0).find(marks)) == ["-", "a"]


def test_what_belongs_to_letters_is_no_punctuation() -> None:
    """Vowel signs tell words apart, and an accent is the same however it is encoded."""
    said = words(("\u0939\u0948", 0.0, 0.1, 1.0), ("caf\u00e9", 0.1, 0.2, 1.0))
    found = Keywords(["\u0939\u0948", "\u0939\u094b", "\u0939", "cafe\u0301", "cafe"], 0.0).find(said)
    assert list(found) == ["\u0939\u0948", "cafe\u0301"]


def test_a_thousand_keywords_are_looked_for_at_once() -> None:
    """Only those that begin with the word at hand are compared."""
    many = words(*(("word", at, at + 1.0, 1.0) for at in range(10_000)))
    began = time.process_time()
    keywords = Keywords(["word", *(f"word {at}" for at in range(999))], 0.5)
    assert len(keywords.find(many)["word"]) == 10_000
    assert time.process_time() - began < 60
