"""Utterances between pauses, out of segments."""

import pytest

from worker.media import RATE
from worker.phrases import Phrase, Phrases
from worker.recognizers import Utterance, Word


def spoken(*words: tuple[str, float, float], others: tuple[str, ...] = ()) -> Utterance:
    """Return an utterance of words with their times in the segment."""
    return Utterance(words=tuple(Word(text, start, end, 0.5) for text, start, end in words), others=others)


def phrases(
    *segments: tuple[float, float, Utterance],
    pause: float = 0.8,
    sentences: bool = False,
    most: int = 1,
    total: float | None = None,
) -> list[Phrase]:
    """Return the phrases of segments: first second, length, what was said."""
    taking = Phrases(pause=pause, sentences=sentences, most_readings=most)
    found: list[Phrase] = []
    for start, length, utterance in segments:
        found += taking.add(round(start * RATE), round(length * RATE), utterance)
    last = segments[-1]
    return [*found, *taking.end(round((last[0] + last[1] if total is None else total) * RATE))]


def texts(found: list[Phrase]) -> list[str]:
    return [" ".join(word.text for word in phrase.words) for phrase in found]


ONE = (0.0, 1.0, spoken(("a", 0.1, 0.5), ("b", 0.5, 0.9)))
TWO = (1.2, 1.0, spoken(("c", 0.1, 0.5), ("d", 0.8, 1.0)))
"""0.4 s after `ONE`, with a pause of 0.3 s within."""


@pytest.mark.parametrize(
    ("pause", "said"),
    [
        (0.8, ["a b c d"]),
        (120, ["a b c d"]),
        (0.4, ["a b", "c d"]),
        (0.3, ["a b", "c", "d"]),
        (0.01, ["a b", "c", "d"]),
    ],
)
def test_a_pause_that_is_long_enough_ends_an_utterance(pause: float, said: list[str]) -> None:
    """Between segments and within one."""
    assert texts(phrases(ONE, TWO, pause=pause)) == said


def test_an_utterance_says_why_it_ended() -> None:
    """A pause, the end of the audio, a pause before that (spec 4.7)."""
    assert [phrase.ending for phrase in phrases(ONE, TWO, pause=0.35)] == ["silence", "end_of_data"]
    assert [phrase.ending for phrase in phrases(ONE, TWO, total=9)] == ["silence"]


def test_sentences_end_utterances_when_they_are_asked_to() -> None:
    """A full stop inside a segment splits it; a comma does not."""
    said = (0.0, 2.0, spoken(("Go,", 0.0, 0.2), ("now.", 0.2, 0.5), ("Or", 0.5, 0.7), ("not?", 0.7, 1.0)))
    found = phrases(said, sentences=True)
    assert texts(found) == ["Go, now.", "Or not?"]
    assert [phrase.ending for phrase in found] == ["full_stop", "full_stop"]
    assert texts(phrases(said)) == ["Go, now. Or not?"]


@pytest.mark.parametrize("stop", ['now."', "now?\u201d", "now.)", "\u3002", "\u4eca\uff1f\u300d", "\u0939\u0948\u0964"])
def test_sentences_end_in_every_writing(stop: str) -> None:
    """With quotation marks behind the stop, too."""
    found = phrases((0.0, 2.0, spoken((stop, 0.0, 0.2), ("on", 0.2, 0.5))), sentences=True)
    assert texts(found) == [stop, "on"]


def test_nobody_speaks_longer_than_two_minutes_in_one_utterance() -> None:
    """Without any pause it is cut there, and says so."""
    segments = [(start * 20.0, 20.0, spoken(("la", 0.0, 20.0))) for start in range(7)]
    found = phrases(*segments, pause=120)
    assert [(len(phrase.words), phrase.ending) for phrase in found] == [(6, "reset"), (1, "end_of_data")]


def test_times_are_those_of_the_audio_and_within_the_segment() -> None:
    """Whatever an engine claims."""
    [phrase] = phrases((10.0, 2.0, spoken(("a", -5.0, 0.5), ("b", 0.2, 0.1), ("c", 0.6, 99.0))))
    assert [(word.start, word.end) for word in phrase.words] == [(10.0, 10.5), (10.5, 10.5), (10.6, 12.0)]


def test_words_without_times_have_those_of_their_segment() -> None:
    """So pauses between segments still count."""
    untimed = Utterance(words=(Word("a"), Word("b")))
    found = phrases((0.0, 1.0, untimed), (2.0, 1.0, untimed))
    assert [[(word.start, word.end) for word in phrase.words] for phrase in found] == [
        [(0.0, 1.0)] * 2,
        [(2.0, 3.0)] * 2,
    ]


def test_readings_of_an_utterance_combine_those_of_its_segments_the_likeliest_first() -> None:
    """A second choice here or there comes before two second choices."""
    first = (0.0, 1.0, spoken(("a", 0.1, 0.9), others=("A",)))
    second = (1.0, 1.0, spoken(("b", 0.1, 0.9), others=("B", "BB")))
    [phrase] = phrases(first, second, most=6)
    assert phrase.others == ("a B", "A b", "a BB", "A B", "A BB")
    [phrase] = phrases(first, second, most=2)
    assert phrase.others == ("a B",)


def test_readings_that_come_to_the_same_are_given_once_and_cost_nothing() -> None:
    """Of fifty segments there are 2 to the power of 50 combinations, and here only a few texts."""
    same = [(float(at), 1.0, spoken(("a", 0.1, 0.9), others=("a", "a"))) for at in range(50)]
    [phrase] = phrases(*same, most=100)
    assert phrase.others == ()
    alike = [(float(at), 1.0, spoken(("no", 0.1, 0.9), others=("no no",))) for at in range(50)]
    [phrase] = phrases(*alike, most=100)
    assert phrase.others == tuple(" ".join(["no"] * count) for count in range(51, 101))


def test_readings_are_not_of_any_length() -> None:
    """What a child says of a few segments, a hundred readings would multiply."""
    endless = [(float(at), 1.0, spoken(("a", 0.1, 0.9), others=("b" * 9000,))) for at in range(3)]
    [phrase] = phrases(*endless, most=100)
    assert phrase.others == ()


def test_a_part_of_a_segment_has_no_other_readings() -> None:
    """Those of the whole would tell more than was said in it."""
    parted = (0.0, 3.0, spoken(("a", 0.0, 0.5), ("b", 2.0, 2.5), others=("a c", "d")))
    assert [phrase.others for phrase in phrases(parted, most=3)] == [(), ()]
