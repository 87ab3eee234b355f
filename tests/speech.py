"""The recordings that come with the tests: their bytes, their media types, what is said in them."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from retention.job import Media, Submission

AUDIO = Path(__file__).parent / "audio"

_TYPES = {
    ".wav": Media(type="audio/wav"),
    ".flac": Media(type="audio/flac"),
    ".mp3": Media(type="audio/mp3"),
    ".ogg": Media(type="audio/ogg"),
    ".webm": Media(type="audio/webm"),
    ".g729": Media(type="audio/g729"),
    ".l16be": Media(type="audio/l16", rate=16000, endianness="big-endian"),
}

SENTENCE = "hello this is a test of the speech recognition service"
IN_EVERY_FORMAT = [
    "flite_rms_0.wav",
    "flite_rms_0.alaw.wav",
    "flite_rms_0.mulaw.wav",
    "flite_rms_0.flac",
    "flite_rms_0.mp3",
    "flite_rms_0.opus.ogg",
    "flite_rms_0.vorbis.ogg",
    "flite_rms_0.webm",
    "flite_rms_0.l16be",
]
"""`SENTENCE`, in formats that keep its words. Others are made by `tests.formats`."""


def media(name: str) -> Media:
    """Return the media type of a recording."""
    return _TYPES[Path(name).suffix]


def submission(name: str, **asked: object) -> Submission:
    """Return a submission of a recording; `asked` are further fields."""
    return msgspec.structs.replace(Submission(media=media(name), model="en-US_BroadbandModel"), **asked)


async def stream(content: bytes, size: int = 16384) -> AsyncIterator[bytes]:
    """Yield bytes in pieces, as an audio store does."""
    for at in range(0, len(content), size):
        yield content[at : at + size]


def transcript(results: bytes) -> str:
    """Return the whole text of a result, joined as clients join it."""
    return "".join(result["alternatives"][0]["transcript"] for result in msgspec.json.decode(results)["results"])


def word_errors(heard: Sequence[str], said: Sequence[str]) -> int:
    """Count the words to insert, delete or replace to turn one into the other."""
    row = list(range(len(said) + 1))
    for at, word in enumerate(heard, 1):
        above, row[0] = row[0], at
        for to, other in enumerate(said, 1):
            above, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, above + (word != other))
    return row[-1]
