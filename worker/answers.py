"""What a recognising child answers, as far as it may be true.

The child has met hostile audio, and what it says is worked on where the jobs of everybody are: so an answer is no
longer, and has no more words, than speech of that length could have.
"""

from math import isfinite

import msgspec

from worker.errors import EngineFailed
from worker.media import RATE
from worker.recognizers import Utterance

_BYTES, _BYTES_A_SECOND = 64 << 10, 16 << 10
"""A hundred readings of quick speech, in letters of three bytes, are a third of that."""

_WORDS_A_SECOND = 50
"""As many tokens as engines find at most; and as many besides."""


def believed(answer: object, *, samples: int) -> Utterance:
    """Return what was recognised in so many samples. Raises EngineFailed when it cannot be that."""
    seconds = samples / RATE
    if not isinstance(answer, bytes) or len(answer) > _BYTES + _BYTES_A_SECOND * seconds:
        raise EngineFailed
    try:
        utterance = msgspec.msgpack.decode(answer, type=Utterance)
    except (msgspec.MsgspecError, RecursionError):
        raise EngineFailed from None
    numbers = [number for word in utterance.words for number in (word.start, word.end, word.confidence)]
    if len(utterance.words) > _WORDS_A_SECOND * (seconds + 1) or not all(
        number is None or isfinite(number) for number in numbers
    ):
        raise EngineFailed
    return utterance
