"""The contract's shape of a result, from what an engine says."""

import msgspec
import pytest

from retention.job import Media, Submission
from worker import results
from worker.media import RATE
from worker.recognizers import Utterance, Word
from worker.segments import Segment

SEGMENT = Segment(start=10 * RATE, pcm=bytes(2 * RATE * 2))
SAID = Utterance(
    words=(Word("ten", 0.1, 0.456, 0.987), Word("clubs", 0.5, 1.0, 1.0001)),
    confidence=0.99355,
    others=("ten of", "two"),
)


def told(utterance: Utterance, **asked: object) -> dict[str, list[dict[str, object]]]:
    """Return an utterance's result, decoded."""
    submission = Submission(media=Media(type="audio/wav"), model="en-US")
    raw = results.result(utterance, SEGMENT, msgspec.structs.replace(submission, **asked))
    assert raw is not None
    decoded: dict[str, list[dict[str, object]]] = msgspec.json.decode(raw)
    return decoded


def test_a_transcript_ends_in_one_space_and_has_its_confidence() -> None:
    """Clients join transcripts with nothing between (spec 4.2)."""
    assert told(SAID) == {"final": True, "alternatives": [{"transcript": "ten clubs ", "confidence": 0.99}]}


def test_times_are_those_of_the_audio() -> None:
    """Word times count from the start of the audio, with two decimals (spec 4.3)."""
    (best,) = told(SAID, timestamps=True)["alternatives"]
    assert best["timestamps"] == [["ten", 10.1, 10.46], ["clubs", 10.5, 11.0]]


def test_probabilities_stay_within_bounds() -> None:
    """What an engine computes beyond 1 is 1."""
    (best,) = told(SAID, word_confidence=True)["alternatives"]
    assert best["word_confidence"] == [["ten", 0.99], ["clubs", 1.0]]


@pytest.mark.parametrize(("wanted", "given"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_alternatives_are_as_many_as_wanted_and_there(wanted: int, given: int) -> None:
    """Zero means one; further ones have nothing but their transcript (spec 4.4)."""
    alternatives = told(SAID, max_alternatives=wanted, timestamps=True, word_confidence=True)["alternatives"]
    assert len(alternatives) == given
    assert alternatives[1:] == [{"transcript": "ten of "}, {"transcript": "two "}][: given - 1]


def test_times_out_of_order_are_put_right() -> None:
    """An engine that claims words before or after its segment, or backwards, does not break the order."""
    odd = Utterance(words=(Word("a", -5.0, 0.5, 1.0), Word("b", 0.2, 0.1, 1.0), Word("c", 1.5, 99.0, 1.0)))
    (best,) = told(odd, timestamps=True)["alternatives"]
    assert best["timestamps"] == [["a", 10.0, 10.5], ["b", 10.5, 10.5], ["c", 11.5, 12.0]]


def test_nothing_said_is_no_result() -> None:
    """A segment without words gives no element."""
    submission = Submission(media=Media(type="audio/wav"), model="en-US")
    assert results.result(Utterance(), SEGMENT, submission) is None


def test_the_whole_is_compact_and_warns_only_if_there_is_something_to_warn_of() -> None:
    """Spec 4.1 and 4.8."""
    assert results.encode([], ()) == b'{"result_index":0,"results":[]}'
    assert results.encode([msgspec.Raw(b"{}")], ["ä"]) == '{"result_index":0,"results":[{}],"warnings":["ä"]}'.encode()
