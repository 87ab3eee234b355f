"""What each recognition parameter does to the result of real speech (spec 1.3, 4)."""

import io
import math
import struct
import wave
from array import array
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from retention.job import Media, Submission
from retention.offer import Feature, Offer
from tests.speech import AUDIO, SENTENCE, media, stream
from tests.transcribing import transcribing
from worker import profanity
from worker.errors import NotServed
from worker.media import RATE
from worker.recognizers import Utterance, Word
from worker.transcriber import Transcriber

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transcriber() -> AsyncIterator[Transcriber]:
    async with transcribing(max_audio=timedelta(minutes=5)) as transcriber:
        yield transcriber


def samples(name: str) -> bytes:
    """Return the samples of a WAV file of 16 kHz."""
    with wave.open(str(AUDIO / name)) as file:
        content: bytes = file.readframes(file.getnframes())
    return content


def silence(seconds: float) -> bytes:
    return bytes(round(seconds * RATE) * 2)


def tone(seconds: float, amplitude: int = 9000) -> bytes:
    """Return a tone such as a telephone makes."""
    count = round(seconds * RATE)
    return struct.pack(f"<{count}h", *(round(amplitude * math.sin(0.17 * at)) for at in range(count)))


def louder(pcm: bytes, factor: float) -> bytes:
    """Return samples amplified, and clipped where that is too much."""
    return array("h", (max(-32768, min(32767, round(value * factor))) for value in array("h", pcm))).tobytes()


async def heard(transcriber: Transcriber, pcm: bytes, **asked: Any) -> dict[str, Any]:
    """Return the result of samples."""
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setparams((1, 2, RATE, 0, "NONE", ""))
        audio.writeframes(pcm)
    submission = Submission(media=Media(type="audio/wav"), **{"model": "en-US_BroadbandModel", **asked})
    results: dict[str, Any] = msgspec.json.decode(await transcriber.transcribe(stream(file.getvalue()), submission))
    return results


CARD = "cards_003.wav"  # "seven of clubs"


def pair(pause: float) -> bytes:
    """Return two cards; the recordings themselves begin and end with some tenths of a second of silence."""
    return silence(0.5) + samples(CARD) + silence(pause) + samples(CARD) + silence(0.5)


@pytest.mark.parametrize(("time", "utterances"), [(0.2, 2), (0.8, 1), (120, 1)])
async def test_end_of_phrase_silence_time(transcriber: Transcriber, time: float, utterances: int) -> None:
    """A pause of about half a second parts utterances when half as much is asked for, and not otherwise."""
    results = (await heard(transcriber, pair(0.1), end_of_phrase_silence_time=time))["results"]
    assert len(results) == utterances
    assert "".join(result["alternatives"][0]["transcript"] for result in results) == "seven of clubs " * 2


async def test_split_transcript_at_phrase_end(transcriber: Transcriber) -> None:
    """Each utterance says why it ended."""
    results = await heard(transcriber, pair(1.5), split_transcript_at_phrase_end=True)
    assert [result["end_of_utterance"] for result in results["results"]] == ["silence", "end_of_data"]
    without = await heard(transcriber, pair(1.5))
    assert all("end_of_utterance" not in result for result in without["results"])


async def test_keywords(transcriber: Transcriber) -> None:
    """Words and sequences are found in what was said, with their times, whatever their case."""
    asked = ("Seven", "of CLUBS", "queen", "seven clubs")
    results = await heard(transcriber, pair(1.5), keywords=asked, keywords_threshold=0.0, timestamps=True)
    for result in results["results"]:
        words = {word: (start, end) for word, start, end in result["alternatives"][0]["timestamps"]}
        found = result["keywords_result"]
        assert set(found) == {"Seven", "of CLUBS"}
        [match] = found["of CLUBS"]
        assert match["normalized_text"] == "of clubs"
        assert (match["start_time"], match["end_time"]) == (words["of"][0], words["clubs"][1])
        [match] = found["Seven"]
        assert (match["start_time"], match["end_time"]) == words["seven"]
        assert 0 <= match["confidence"] <= 1


async def test_keywords_threshold(transcriber: Transcriber) -> None:
    """What is less sure than asked for is not reported; the field is then absent."""
    every = ("seven", "of", "clubs")
    asked = {"keywords": every, "word_confidence": True}
    result = (await heard(transcriber, samples(CARD), keywords_threshold=0.0, **asked))["results"][0]
    sure = dict(result["alternatives"][0]["word_confidence"])
    assert set(result["keywords_result"]) == set(every) == set(sure)
    for threshold in {*sure.values(), 1.0}:
        result = (await heard(transcriber, samples(CARD), keywords_threshold=threshold, **asked))["results"][0]
        found = {word for word in every if sure[word] >= threshold}
        assert set(result.get("keywords_result", ())) == found
        assert ("keywords_result" in result) == bool(found)


async def test_profanity_filter(transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of the list is hidden wherever it is shown, and found as a keyword. No recording swears: the list does."""
    monkeypatch.setattr(profanity, "_words", lambda: frozenset({"clubs"}))
    asked = {
        "timestamps": True,
        "word_confidence": True,
        "max_alternatives": 3,
        "keywords": ("clubs",),
        "keywords_threshold": 0.0,
    }
    clean = (await heard(transcriber, samples(CARD), profanity_filter=True, **asked))["results"][0]
    best = clean["alternatives"][0]
    assert best["transcript"] == "seven of **** "
    assert best["timestamps"][2][0] == best["word_confidence"][2][0] == "****"
    assert len(clean["alternatives"]) > 1
    assert all("clubs" not in other["transcript"] for other in clean["alternatives"])
    assert clean["keywords_result"]["clubs"][0]["normalized_text"] == "clubs"
    plain = await heard(transcriber, samples(CARD), **asked)
    assert plain["results"][0]["alternatives"][0]["transcript"] == "seven of clubs "


async def test_speech_detector_sensitivity(transcriber: Transcriber) -> None:
    """0 drops everything; 1 leaves everything to the engine, silence too; between, ever more passes for speech."""
    lengths = []
    for sensitivity in (0.0, 0.1, 0.5, 0.9, 1.0):
        results = await heard(
            transcriber,
            silence(1) + tone(2) + silence(1) + samples(CARD),
            speech_detector_sensitivity=sensitivity,
            audio_metrics=True,
        )
        lengths.append(results["audio_metrics"]["accumulated"]["speech_ratio"])
        said = "".join(result["alternatives"][0]["transcript"] for result in results["results"])
        assert ("clubs" in said) == (0 < sensitivity < 1) or sensitivity == 1  # all at once is too much for the engine
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert lengths[-1] == 1
    assert lengths[2] < lengths[3], "a tone is speech to a sensitive detector only"


def accumulated(results: dict[str, Any]) -> Any:
    return results["audio_metrics"]["accumulated"]


def peak(histogram: list[dict[str, float]]) -> float:
    """Return the middle of the fullest bar."""
    fullest = max(histogram, key=lambda bin_: bin_["count"])
    return (fullest["begin"] + fullest["end"]) / 2


async def test_audio_metrics_tell_noise_levels_clipping_and_offset(transcriber: Transcriber) -> None:
    """Each change of the audio shows in the measure that is about it."""
    said = silence(0.5) + samples("goforward.wav") + silence(0.5)
    plain = accumulated(await heard(transcriber, said, audio_metrics=True))
    assert plain["final"] is True
    assert plain["end_time"] == pytest.approx(len(said) / 2 / RATE, abs=0.01)
    assert 0.4 < plain["speech_ratio"] < 0.9
    assert sum(bin_["count"] for bin_ in plain["clipping_rate"]) == int(plain["end_time"] * 10)
    assert peak(plain["clipping_rate"]) == 0.05

    hiss = array("h", said)
    for at in range(len(hiss)):
        hiss[at] = max(-32768, min(32767, hiss[at] + (at * 7919 % 801 - 400)))
    noisy = accumulated(await heard(transcriber, hiss.tobytes(), audio_metrics=True))
    assert noisy["signal_to_noise_ratio"] < plain["signal_to_noise_ratio"] - 10

    quiet = accumulated(await heard(transcriber, louder(said, 0.1), audio_metrics=True))
    assert peak(quiet["speech_level"]) < peak(plain["speech_level"])

    clipped = accumulated(await heard(transcriber, louder(said, 60), audio_metrics=True))
    assert sum(bin_["count"] for bin_ in clipped["clipping_rate"] if bin_["begin"] >= 0.1) > 5

    shifted = array("h", (max(-32768, min(32767, value + 9830)) for value in array("h", said)))
    offset = accumulated(await heard(transcriber, shifted.tobytes(), audio_metrics=True))
    assert peak(plain["direct_current_offset"]) in (-0.05, 0.05)
    assert peak(offset["direct_current_offset"]) in (0.25, 0.35)


async def test_audio_metrics_tell_a_telephone_from_a_studio(transcriber: Transcriber) -> None:
    """The upper half of the frequencies is missing in 8 kHz that became 16 kHz."""
    for name, loss in (("flite_rms_0.wav", 0.0), ("flite_rms_0.alaw.wav", 1.0)):
        asked = Submission(media=media(name), model="en-US", audio_metrics=True)
        told = await transcriber.transcribe(stream((AUDIO / name).read_bytes()), asked)
        assert accumulated(msgspec.json.decode(told))["high_frequency_loss"] == loss
    assert "audio_metrics" not in await heard(transcriber, samples(CARD))


async def test_processing_metrics(transcriber: Transcriber) -> None:
    """How much audio there was, and how long it took since its first byte came."""
    name = "goforward.wav"
    asked = Submission(media=media(name), model="en-US", processing_metrics=True)
    audio = stream((AUDIO / name).read_bytes())
    told = msgspec.json.decode(await transcriber.transcribe(audio, asked, age=timedelta(seconds=40)))
    metrics = told["processing_metrics"]
    length = round(len(samples(name)) / 2 / RATE, 2)
    assert metrics["processed_audio"] == {"received": length, "seen_by_engine": length, "transcription": length}
    assert 40 < metrics["wall_clock_since_first_byte_received"] < 100
    assert metrics["periodic"] is False


async def test_max_alternatives_are_readings_of_the_whole_utterance(transcriber: Transcriber) -> None:
    """Two segments are one utterance: its readings combine those of both, each once, the best first."""
    results = await heard(transcriber, pair(0.1), max_alternatives=5)
    [result] = results["results"]
    readings = [alternative["transcript"] for alternative in result["alternatives"]]
    assert readings[0] == "seven of clubs seven of clubs "
    assert len(set(readings)) == len(readings) == 5
    assert all(len(reading.split()) > 3 for reading in readings)


@pytest.mark.parametrize("kind", ["_BroadbandModel", "_NarrowbandModel", "_Multimedia", "_Telephony", ""])
async def test_model(transcriber: Transcriber, kind: str) -> None:
    """Every name of the language gives the same."""
    results = await heard(transcriber, samples(CARD), model=f"en-US{kind}")
    assert results["results"][0]["alternatives"][0]["transcript"] == "seven of clubs "


async def test_a_model_that_is_served_no_more_fails_the_job(transcriber: Transcriber) -> None:
    """An operator may have changed the engine since the job was accepted: no other language is made of it."""
    with pytest.raises(NotServed):
        await heard(transcriber, samples(CARD), model="de-DE_Telephony")


async def test_an_utterance_of_many_segments_loses_nothing_at_their_seams(transcriber: Transcriber) -> None:
    """Two sentences with a second between are one utterance when that is asked for, their times rising."""
    said = samples("flite_rms_0.wav") + silence(1) + samples("flite_rms_0.wav")
    [result] = (await heard(transcriber, said, end_of_phrase_silence_time=10, timestamps=True))["results"]
    [best] = result["alternatives"]
    assert best["transcript"] == f"{SENTENCE} {SENTENCE} "
    times = [time for _, *both in best["timestamps"] for time in both]
    assert times == sorted(times)


class Writer:
    """An engine that writes capitals and punctuation, the same in whatever it hears."""

    features: ClassVar[frozenset[Feature]] = frozenset({"times", "confidences", "punctuation"})

    def __init__(self, model: Path | None) -> None:
        del model
        self.offer = Offer(engine="writer", languages=("en-US",), features=self.features)

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `worker.recognizers.Recognizer`."""
        del pcm, language, alternatives
        words = ("Hello,", "Miss", "Fay.", "Who's", "there?")
        return Utterance(words=tuple(Word(word, at / 10, (at + 1) / 10, 0.5) for at, word in enumerate(words)))


class Abbreviator(Writer):
    """An engine that writes full stops, but not at the ends of sentences: "mr." and "p.m."."""

    features: ClassVar[frozenset[Feature]] = frozenset({"times", "confidences"})


WRITER = f"{__name__}:Writer"


async def test_an_engine_that_punctuates_is_left_to_it() -> None:
    """Sentences end utterances when that is asked for, and the whole text comes once more (spec 4.7)."""
    async with transcribing(WRITER) as transcriber:
        assert "punctuation" in transcriber.offer.features
        results = await heard(
            transcriber, samples(CARD), split_transcript_at_phrase_end=True, enrichments="punctuation", timestamps=True
        )
    shown = [(result["alternatives"][0]["transcript"], result["end_of_utterance"]) for result in results["results"]]
    assert shown == [("Hello, Miss Fay. ", "full_stop"), ("Who's there? ", "full_stop")]
    assert results["enriched_results"]["transcript"]["text"] == "Hello, Miss Fay. Who's there?"
    assert results["enriched_results"]["status"] == "success"


async def test_sentences_end_nothing_with_an_engine_that_does_not_punctuate() -> None:
    """A full stop is then part of a word."""
    async with transcribing(f"{__name__}:Abbreviator") as transcriber:
        [result] = (await heard(transcriber, samples(CARD), split_transcript_at_phrase_end=True))["results"]
    assert result["end_of_utterance"] != "full_stop"


class Wordy(Writer):
    """An engine that says words and no more."""

    features: ClassVar[frozenset[Feature]] = frozenset()

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `worker.recognizers.Recognizer`."""
        words = super().recognize(pcm, language=language, alternatives=alternatives).words
        return Utterance(words=tuple(Word(word.text) for word in words))


async def test_what_the_engine_cannot_do_any_more_is_warned_about() -> None:
    """A job may have been accepted for another one: no times are made up, and nothing is left out in silence."""
    asked: dict[str, Any] = {
        "timestamps": True,
        "word_confidence": True,
        "max_alternatives": 3,
        "keywords": ("there",),
        "keywords_threshold": 0.0,
        "enrichments": "punctuation",
    }
    async with transcribing(f"{__name__}:Wordy") as transcriber:
        results = await heard(transcriber, samples(CARD), **asked)
    assert results["results"] == [{"final": True, "alternatives": [{"transcript": "Hello, Miss Fay. Who's there? "}]}]
    assert results["warnings"] == [f"Unsupported arguments: {', '.join(asked)}."]
    assert "enriched_results" not in results


async def test_plain_text_has_no_capitals_and_no_marks() -> None:
    """The operator's wish, for clients of the former models: and then the offer says that nothing punctuates."""
    async with transcribing(WRITER, plain_text=True) as transcriber:
        assert "punctuation" not in transcriber.offer.features
        [result] = (await heard(transcriber, samples(CARD)))["results"]
    assert result["alternatives"][0]["transcript"] == "hello miss fay who's there "
