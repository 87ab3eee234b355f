"""What is believed of a recognising child."""

from math import inf, nan

import msgspec
import pytest

from worker import decoding
from worker.answers import believed
from worker.errors import EngineFailed
from worker.media import RATE
from worker.recognizers import Utterance, Word


def encoded(*words: Word, others: tuple[str, ...] = ()) -> bytes:
    return msgspec.msgpack.encode(Utterance(words=words, others=others))


def test_what_may_be_true_is_believed() -> None:
    """A word without times, one with a time beyond the segment, and a hundred readings of twenty seconds."""
    said = encoded(Word("a"), Word("b", -1.0, 99.0, 1.5), others=tuple("\u0928" * 400 for _ in range(99)))
    assert len(believed(said, samples=20 * RATE).words) == 2
    assert believed(encoded(), samples=1) == Utterance()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        None,
        encoded(Word("a", nan)),
        encoded(Word("a", 0.0, inf)),
        encoded(Word("a", 0.0, 0.1, nan)),
        encoded(*[Word("a")] * 2000),
        encoded(others=("a" * (1 << 20),)),
        b"\x93\x90\x90" + b"\x91" * 100_000 + b"\x90",
    ],
    ids=["nothing", "no bytes", "no time", "endless", "no probability", "many words", "long", "deep"],
)
def test_what_cannot_be_true_is_the_engines_failure(answer: object) -> None:
    """Each would cost the worker its time or memory, or put numbers into results that JSON does not know."""
    with pytest.raises(EngineFailed):
        believed(answer, samples=20 * RATE)


def test_measures_that_are_none_are_the_decoders_failure() -> None:
    """However deep they are."""
    for measures in (b"{}", b"[" * 60_000, b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"):
        with pytest.raises(EngineFailed):
            decoding._decoded_metrics(measures)
