"""Recordings become results: what is heard, in what shape, and always the same."""

import asyncio
import random
import struct
import warnings
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import psutil
import pytest
import pytest_asyncio

from retention.job import Media, Submission
from tests.speech import AUDIO, IN_EVERY_FORMAT, SENTENCE, stream, submission, transcript, word_errors
from tests.transcribing import transcribing
from worker.transcriber import DAMAGED, EngineUnusable, TooLong, Transcriber

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it has invalid escapes in its docstrings
    from ibm_watson.speech_to_text_v1 import SpeechRecognitionResults

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transcriber() -> AsyncIterator[Transcriber]:
    async with transcribing(children=2) as transcriber:
        yield transcriber


async def heard(transcriber: Transcriber, name: str, **asked: object) -> bytes:
    """Return the result of one of the recordings."""
    return await transcriber.transcribe(stream((AUDIO / name).read_bytes()), submission(name, **asked))


@pytest.mark.parametrize(
    ("name", "said", "most_errors"),
    [
        ("cards_001.wav", "ten of clubs", 0),
        ("cards_003.wav", "seven of clubs", 0),
        ("goforward.wav", "go forward ten meters", 0),
        ("cards_002.wav", "four queen of clubs", 1),
        *((name, SENTENCE, 1) for name in IN_EVERY_FORMAT),
    ],
)
async def test_speech_is_recognised(transcriber: Transcriber, name: str, said: str, most_errors: int) -> None:
    """Clear speech gives its words, in every format, with at most this many wrong."""
    text = transcript(await heard(transcriber, name))
    assert text.endswith(" ")
    assert word_errors(text.split(), said.split()) <= most_errors


async def test_long_sentences_are_mostly_right(transcriber: Transcriber) -> None:
    """Read literature is hard for the embedded engine: at most four words in ten are wrong."""
    errors = words = 0
    for name in ("librivox_0870", "librivox_0880", "librivox_0890"):
        said = (AUDIO / f"{name}.txt").read_text().split()
        errors += word_errors(transcript(await heard(transcriber, f"{name}.wav")).split(), said)
        words += len(said)
    assert errors <= 0.4 * words


async def test_nothing_more_is_told_than_asked(transcriber: Transcriber) -> None:
    """Without wishes there is one reading with its confidence, and nothing else."""
    results = msgspec.json.decode(await heard(transcriber, "goforward.wav"))
    assert set(results) == {"result_index", "results"}
    assert results["result_index"] == 0
    (result,) = results["results"]
    assert set(result) == {"final", "alternatives"}
    assert result["final"] is True
    (best,) = result["alternatives"]
    assert set(best) == {"transcript", "confidence"}
    assert 0 < best["confidence"] <= 1


async def test_wishes_are_honoured_as_ibms_classes_read_them(transcriber: Transcriber) -> None:
    """Word times, word confidences and alternatives are in the contract's shape (spec 4.2 to 4.4)."""
    told = await heard(
        transcriber,
        "goforward.wav",
        timestamps=True,
        word_confidence=True,
        max_alternatives=3,
        warnings=("Unknown arguments: foo.",),
    )
    results = SpeechRecognitionResults.from_dict(msgspec.json.decode(told))
    assert results.warnings == ["Unknown arguments: foo."]
    best, *others = results.results[0].alternatives
    assert [row[0] for row in best.timestamps] == best.transcript.split()
    assert [row[0] for row in best.word_confidence] == best.transcript.split()
    assert all(0 <= row[1] <= 1 for row in best.word_confidence)
    # The words are spoken between 0.45 and 2.3 s of this recording.
    times = [time for row in best.timestamps for time in row[1:]]
    assert times == sorted(times)
    assert 0.4 < times[0] < times[-1] < 2.4
    assert times == [round(time, 2) for time in times]
    assert len(others) == 2
    assert len({best.transcript, *(other.transcript for other in others)}) == 3
    assert all(other.transcript.endswith(" ") and not other.transcript.startswith(" ") for other in others)
    assert all(other.confidence is None and other.timestamps is None for other in others)


async def test_utterances_come_in_the_order_of_time(transcriber: Transcriber) -> None:
    """Many sentences recognised side by side come out as they were said, their times rising."""
    said = b"".join((AUDIO / f"cards_00{at}.wav").read_bytes()[44:] + bytes(32000) for at in (1, 3, 1, 3, 3, 1))
    told = await transcriber.transcribe(
        stream(said), Submission(media=raw(), model="en-US", timestamps=True, max_alternatives=0)
    )
    assert transcript(told) == "ten of clubs seven of clubs " * 2 + "seven of clubs ten of clubs "
    results = msgspec.json.decode(told)["results"]
    times = [time for result in results for row in result["alternatives"][0]["timestamps"] for time in row[1:]]
    assert times == sorted(times)
    assert times[-1] > 10


def raw() -> Media:
    """Return the type of bare samples as the tests make them."""
    return Media(type="audio/l16", rate=16000, endianness="little-endian")


@pytest.mark.parametrize("content", [bytes(320000), random.Random(7).randbytes(2000) + bytes(64000)])
async def test_silence_has_no_results(transcriber: Transcriber, content: bytes) -> None:
    """Audio without speech is a result without utterances."""
    told = await transcriber.transcribe(stream(content), Submission(media=raw(), model="en-US"))
    assert told == b'{"result_index":0,"results":[]}'


async def test_the_same_audio_gives_the_same_result_whatever_ran_before(transcriber: Transcriber) -> None:
    """Noise, silence and other speech leave nothing behind in a child that changes a later result."""
    asked = {"timestamps": True, "word_confidence": True, "max_alternatives": 5}
    names = ["librivox_0890.wav", "flite_rms_0.alaw.wav", "cards_003.wav"]
    first = [await heard(transcriber, name, **asked) for name in names]
    noise = Submission(media=raw(), model="en-US")
    for seed in range(4):
        await transcriber.transcribe(stream(random.Random(seed).randbytes(64000)), noise)
        assert await asyncio.gather(*(heard(transcriber, name, **asked) for name in reversed(names))) == first[::-1]
    async with transcribing() as fresh:
        assert [await heard(fresh, name, **asked) for name in names] == first


async def test_damaged_audio_is_recognised_as_far_as_it_goes(transcriber: Transcriber) -> None:
    """A recording cut short gives the words before the cut, and a warning where the format shows the damage."""
    for name, warned in (("flite_rms_0.flac", True), ("flite_rms_0.mp3", False), ("flite_rms_0.webm", False)):
        content = (AUDIO / name).read_bytes()
        told = await transcriber.transcribe(stream(content[: len(content) // 2]), submission(name))
        assert transcript(told).startswith("hello this is")
        assert (msgspec.json.decode(told).get("warnings") == [DAMAGED]) is warned


async def test_more_audio_than_allowed_is_refused() -> None:
    """The bound counts decoded audio, to the sample's second; just within it is no error."""
    silence = Submission(media=raw(), model="en-US")
    async with transcribing("tests.recognizers:Scripted", max_audio=timedelta(minutes=1)) as transcriber:
        await transcriber.transcribe(stream(bytes(60 * 32000)), silence)
        with pytest.raises(TooLong) as error:
            await transcriber.transcribe(stream(bytes(60 * 32000 + 2)), silence)
    assert error.value.reason == "too_long"


async def test_an_hour_of_speech_passes_in_flat_memory() -> None:
    """The worker's memory stays within 64 MiB of idle while an hour without a pause goes through."""
    process = psutil.Process()
    most = 0
    # Sound that passes for speech all along, and takes the scripted engine no time.
    second = struct.pack("<16000h", *random.Random(3).choices((5000, -5000), k=16000))

    async def hour() -> AsyncIterator[bytes]:
        nonlocal most
        for _ in range(3600):
            most = max(most, process.memory_info().rss)
            yield second

    scripted = transcribing("tests.recognizers:Scripted", children=2, max_audio=timedelta(hours=2))
    async with scripted as transcriber:
        idle = most = process.memory_info().rss
        told = await transcriber.transcribe(hour(), Submission(media=raw(), model="en-US", timestamps=True))
    results = msgspec.json.decode(told)["results"]
    assert len(results) >= 180
    assert results[-1]["alternatives"][0]["timestamps"][0][1] > 3500
    assert most - idle < 64 << 20


async def test_errors_of_the_source_reach_the_caller(transcriber: Transcriber) -> None:
    """When the audio cannot be read to its end there is no result of its beginning, but that error."""

    class Damaged(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield (AUDIO / "goforward.wav").read_bytes()
        raise Damaged

    with pytest.raises(Damaged):
        await transcriber.transcribe(broken(), submission("goforward.wav"))


async def test_an_engine_that_does_not_exist_is_told_at_the_start() -> None:
    """A wrong name ends the start with an error, not with a worker that fails every job."""
    with pytest.raises(EngineUnusable, match="no recognizer is called no-such-engine"):
        async with transcribing("no-such-engine"):
            pass
