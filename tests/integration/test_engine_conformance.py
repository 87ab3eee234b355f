"""What every engine must keep to, whoever wrote it: `worker.recognizers.Recognizer`, checked from outside.

Besides the engines that come with Volant, with tiny models, the one is checked that the settings name, as in

    VOLANT_RECOGNIZER=mine:Engine VOLANT_RECOGNIZER_MODEL=/models/mine make test \
        ARGS=tests/integration/test_engine_conformance.py
"""

import os
import random
import re
import wave
from array import array
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from retention.settings import load
from tests import tiny_models
from tests.speech import AUDIO
from worker import sandbox
from worker.pool import RecognizerPool
from worker.recognizers import Recognizer, Utterance, find

_MAKE: dict[str, tuple[str, Callable[[Path], Path] | None]] = {
    "pocketsphinx": ("pocketsphinx", None),
    "scripted": ("tests.recognizers:Scripted", None),
    "sherpa-onnx ctc": ("sherpa-onnx", tiny_models.ctc),
    "sherpa-onnx transducer": ("sherpa-onnx", tiny_models.transducer),
    "faster-whisper": ("faster-whisper", tiny_models.whisper),
    "faster-whisper English": ("faster-whisper", lambda directory: tiny_models.whisper(directory, ())),
}
_SET = "as set"

LONGEST = 20
"""Seconds of the longest segment that an engine is ever given."""

SPEECH = ("cards_001", "goforward", "flite_rms_0", "librivox_0870")
MOST = 5

Candidate = tuple[str, Path | None]


@pytest.fixture(scope="module", params=[*_MAKE, *([_SET] if "VOLANT_RECOGNIZER" in os.environ else [])])
def candidate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """Give the name of an engine and the directory of its model."""
    if request.param == _SET:
        settings = load()
        return settings.recognizer, settings.recognizer_model
    name, make = _MAKE[request.param]
    return name, make(tmp_path_factory.mktemp("model")) if make else None


@pytest.fixture(scope="module")
def engine(candidate: Candidate) -> Recognizer:
    """Give it loaded."""
    name, model = candidate
    return find(name)(model)


@pytest.fixture(scope="module")
def heard(engine: Recognizer) -> dict[str, tuple[bytes, Utterance]]:
    """Give speech, and what the engine makes of it."""
    return {name: (pcm, recognized(engine, pcm)) for name, pcm in segments().items()}


def segments() -> dict[str, bytes]:
    """Return segments of speech, of noise and of silence, as a child is given them, by name."""
    found = {}
    for name in SPEECH:
        with wave.open(str(AUDIO / f"{name}.wav")) as file:
            found[name] = quiet(array("h", file.readframes(16000 * LONGEST)))
    found["noise"] = quiet(array("h", random.Random(1).choices(range(-9000, 9000), k=32000)))
    found["a long silence"] = bytes(32000 * LONGEST)
    found["a blink"] = found["goforward"][32000:35200]
    return found


def quiet(samples: "array[int]") -> bytes:
    """Return samples in a volume that is no work for the scripted engine."""
    loudest = max(map(abs, samples))
    return array("h", (sample * 4900 // loudest for sample in samples)).tobytes()


def recognized(engine: Recognizer, pcm: bytes, alternatives: int = MOST) -> Utterance:
    """Return what an engine hears in its first language."""
    return engine.recognize(pcm, language=engine.offer.languages[0], alternatives=alternatives)


Heard = dict[str, tuple[bytes, Utterance]]


def test_the_offer_is_well_formed(engine: Recognizer) -> None:
    """An engine has a name, serves locales such as en-US, each once, and no feature that its class does not know."""
    offer = engine.offer
    assert re.fullmatch(r"\S+", offer.engine)
    assert offer.languages
    assert len(set(offer.languages)) == len(offer.languages)
    assert all(re.fullmatch(r"[a-z]{2,3}-[A-Z]{2}", language) for language in offer.languages)
    assert offer.features <= engine.features
    assert msgspec.json.decode(msgspec.json.encode(offer), type=type(offer)) == offer


def test_something_is_heard_in_speech(heard: Heard) -> None:
    """Otherwise the other checks would prove nothing."""
    assert any(utterance.words for _, utterance in heard.values())


def test_words_are_words(heard: Heard) -> None:
    """No word is empty or has a blank in it: transcripts are joined with blanks, and divided at them."""
    texts = [word.text for _, utterance in heard.values() for word in utterance.words]
    assert all(re.fullmatch(r"\S+", text) for text in texts)


def test_times_are_told_if_they_are_offered(engine: Recognizer, heard: Heard) -> None:
    """With the feature, words rise within their segment, none before the last has ended; without, none has a time."""
    for pcm, utterance in heard.values():
        now = 0.0
        for word in utterance.words:
            if "times" not in engine.offer.features:
                assert word.start is None
                assert word.end is None
                continue
            assert word.start is not None
            assert word.end is not None
            assert now <= word.start <= word.end <= len(pcm) / 32000
            now = word.end


def test_confidences_are_told_if_they_are_offered(engine: Recognizer, heard: Heard) -> None:
    """With the feature every word has a probability; without it none has."""
    for _, utterance in heard.values():
        for word in utterance.words:
            if "confidences" in engine.offer.features:
                assert word.confidence is not None
                assert 0 <= word.confidence <= 1
            else:
                assert word.confidence is None


def test_punctuation_is_written_only_if_it_is_offered(engine: Recognizer, heard: Heard) -> None:
    """Without the feature no word ends a sentence."""
    if "punctuation" not in engine.offer.features:
        texts = [word.text for _, utterance in heard.values() for word in utterance.words]
        assert not [text for text in texts if text.endswith((".", ",", "?", "!"))]


@pytest.mark.parametrize("wanted", [1, 2, MOST])
def test_readings_are_different_and_no_more_than_wanted(engine: Recognizer, heard: Heard, wanted: int) -> None:
    """The best and the others together are at most as many as asked for, and no two are the same."""
    for name in SPEECH[:3]:
        utterance = recognized(engine, heard[name][0], wanted)
        best = " ".join(word.text for word in utterance.words)
        assert len({best, *utterance.others}) == 1 + len(utterance.others) <= wanted
        assert all(text == " ".join(text.split()) != "" for text in utterance.others)


def test_readings_are_told_if_they_are_offered(engine: Recognizer, heard: Heard) -> None:
    """With the feature some speech has several readings; without it none has."""
    assert any(utterance.others for _, utterance in heard.values()) is ("alternatives" in engine.offer.features)


def test_the_same_segment_gives_the_same_words(engine: Recognizer, heard: Heard) -> None:
    """Whatever was recognised before, by anybody, leaves no trace."""
    for name in reversed(heard):
        pcm, utterance = heard[name]
        assert recognized(engine, pcm) == utterance, name


def test_every_language_of_the_offer_is_served(engine: Recognizer, heard: Heard) -> None:
    """What is offered can be asked for."""
    for language in engine.offer.languages:
        assert isinstance(engine.recognize(heard["cards_001"][0], language=language, alternatives=1), Utterance)


def test_silence_has_an_answer(engine: Recognizer) -> None:
    """A second of silence, with which a child begins, is no error in any language."""
    for language in engine.offer.languages:
        engine.recognize(bytes(32000), language=language, alternatives=1)


@pytest.mark.parametrize("pcm", [b"", b"\1", b"\1\2\3", b"\1\2", bytes(30)], ids=len)
def test_odd_input_does_no_harm(engine: Recognizer, heard: Heard, pcm: bytes) -> None:
    """Nothing, half a sample and hardly any sound are answered or refused, and the next segment is recognised."""
    refused = does_no_harm(lambda: recognized(engine, pcm))
    assert refused or isinstance(recognized(engine, pcm), Utterance)
    assert recognized(engine, heard["cards_001"][0]) == heard["cards_001"][1]


def test_an_unknown_language_does_no_harm(engine: Recognizer, heard: Heard) -> None:
    """A language that is not offered is never asked for; an engine that is asked all the same does not break."""
    does_no_harm(lambda: engine.recognize(heard["cards_001"][0], language="xx-XX", alternatives=1))
    assert recognized(engine, heard["cards_001"][0]) == heard["cards_001"][1]


def does_no_harm(attempt: Callable[[], Any]) -> bool:
    """Tell whether something is refused: any exception is fit for that, it never leaves the child."""
    try:
        attempt()
    except Exception:  # noqa: BLE001 - engines raise what they like
        return True
    return False


def test_utterances_travel(heard: Heard) -> None:
    """What an engine says is made of the plain types that leave a child, not of those of its library."""
    for _, utterance in heard.values():
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(utterance), type=Utterance) == utterance


def test_a_model_that_is_not_there_is_told_in_a_sentence(candidate: Candidate, tmp_path: Path) -> None:
    """An engine with a model says what is wrong with an absent or empty directory, for the operator."""
    name, model = candidate
    for directory in (tmp_path / "absent", tmp_path, None) if model else ():
        with pytest.raises(ValueError, match=r"recognizer_model") as error:
            find(name)(directory)
        assert "\n" not in str(error.value)


async def test_a_confined_child_hears_the_same(candidate: Candidate, heard: Heard) -> None:
    """Without files, network and new threads, within bounded memory: all it needs is loaded by its constructor."""
    name, model = candidate
    sandbox.start_forkserver(["worker.preload"])
    pool = RecognizerPool(
        recognizer=name, model=model, children=1, memory=load().child_memory, stall=timedelta(seconds=60)
    )
    await pool.start()
    try:
        assert "none" not in pool.isolation.values()
        for pcm, utterance in heard.values():
            told = await pool.recognize(pcm, language=pool.offer.languages[0], alternatives=MOST)
            assert told == utterance
    finally:
        await pool.close()
