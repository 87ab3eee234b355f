"""The engines that load a model: from audio to results in confined children, and what they say when they cannot."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from tests import tiny_models
from tests.speech import AUDIO, stream, submission
from tests.transcribing import transcribing
from worker import cli
from worker.transcriber import EngineUnusable

FASTER_WHISPER = ("times", "confidences", "punctuation")


@pytest.mark.parametrize(
    ("recognizer", "make", "model", "words", "offered"),
    [
        ("sherpa-onnx", tiny_models.ctc, "en-GB_Telephony", {"low", "high"}, {"times"}),
        ("sherpa-onnx", tiny_models.transducer, "de-DE", {"low", "high"}, {"times", "confidences"}),
        ("faster-whisper", tiny_models.whisper, "de-DE", {"Hello,", "world."}, {*FASTER_WHISPER}),
        # In Japanese, words are not divided by blanks, and the library takes every token for one.
        ("faster-whisper", tiny_models.whisper, "ja-JP", {"Hello,", "wor", "ld."}, {*FASTER_WHISPER}),
    ],
)
async def test_recordings_become_results(
    tmp_path: Path, *, recognizer: str, make: Callable[[Path], Path], model: str, words: set[str], offered: set[str]
) -> None:
    """A recording goes through decoder, segments and confined children; what is offered, and no more, is told."""
    async with transcribing(recognizer, model=make(tmp_path), children=2) as transcriber:
        offer = transcriber.offer
        isolation = transcriber.isolation
        told = await transcriber.transcribe(
            stream((AUDIO / "goforward.wav").read_bytes()),
            submission("goforward.wav", model=model, timestamps=True, word_confidence=True),
        )
    assert offer.features == offered
    assert "none" not in isolation.values()
    results = msgspec.json.decode(told)["results"]
    assert {word for result in results for word in result["alternatives"][0]["transcript"].split()} == words
    # The words are spoken between 0.45 and 2.3 s of this recording, and a segment has some silence around it.
    rows = [row for result in results for row in result["alternatives"][0]["timestamps"]]
    assert rows
    assert all(0.1 <= start <= end <= 2.9 for _, start, end in rows)


ONE_FILE = "files = {encoder = 'model.onnx', decoder = 'model.onnx', tokens = 'tokens.txt'}"

BROKEN_DESCRIPTIONS = {
    "no TOML": ("type = ", "model.toml: Invalid value"),
    "no type": ("languages = ['en-US']\n[files]", "model.toml: Object missing required field `type`"),
    "unknown type": ("type = 'kaldi'\nlanguages = ['en-US']\n[files]", "model.toml: type must be one of "),
    "no locale": ("type = 'nemo_ctc'\nlanguages = ['English']\n[files]", "model.toml: Expected `str` matching"),
    "no language": ("type = 'nemo_ctc'\nlanguages = []\n[files]", "model.toml: Expected `array` of length >= 1"),
    "no file": (
        "type = 'nemo_ctc'\nlanguages = ['en-US']\n[files]\nmodel = 'model.onnx'",
        "model.toml: nemo_ctc: missing a required argument: 'tokens'",
    ),
    "unknown file": (
        "type = 'nemo_ctc'\nlanguages = ['en-US']\n[files]\nmodel = 'model.onnx'\ntokens = 'tokens.txt'\nword = 'a'",
        "recognizer_model: there is no file a in ",
    ),
    "unknown option": (
        f"type = 'nemo_canary'\nlanguages = ['en-US']\n{ONE_FILE}\noptions = {{speed = 3}}",
        "model.toml: nemo_canary: got an unexpected keyword argument 'speed'",
    ),
    "file outside": (
        "type = 'nemo_ctc'\nlanguages = ['en-US']\n[files]\nmodel = '../model.onnx'\ntokens = 'tokens.txt'",
        "recognizer_model: ../model.onnx leads out of ",
    ),
    "link outside": (
        "type = 'nemo_ctc'\nlanguages = ['en-US']\n[files]\nmodel = 'link.onnx'\ntokens = 'tokens.txt'",
        "recognizer_model: link.onnx leads out of ",
    ),
    "two languages where one is spoken": (
        f"type = 'nemo_canary'\nlanguages = ['en-US', 'de-DE']\n{ONE_FILE}",
        "model.toml: languages: a model of type nemo_canary serves one language at a time",
    ),
    "no model": (
        "type = 'nemo_ctc'\nlanguages = ['en-US']\n[files]\nmodel = 'tokens.txt'\ntokens = 'tokens.txt'",
        "the model cannot be loaded: Load model from ",
    ),
    "a model of another type, which ends the process": (
        f"type = 'whisper'\nlanguages = ['en-US']\n{ONE_FILE}",
        "its process ended while it was loaded",
    ),
}


@pytest.mark.parametrize("wrong", BROKEN_DESCRIPTIONS)
async def test_a_wrong_description_is_told_in_a_sentence(tmp_path: Path, wrong: str) -> None:
    """Whatever is wrong with the directory of sherpa-onnx, the start ends with what the operator needs to know."""
    model = tmp_path / "model"
    model.mkdir()
    tiny_models.ctc(model)
    (tmp_path / "model.onnx").write_bytes((model / "model.onnx").read_bytes())
    (model / "link.onnx").symlink_to("../model.onnx")
    description, sentence = BROKEN_DESCRIPTIONS[wrong]
    (model / "model.toml").write_text(description)
    assert (await reason("sherpa-onnx", model)).startswith(sentence)


@pytest.mark.parametrize("name", ["model.bin", "config.json", "tokenizer.json", "vocabulary.json"])
async def test_a_missing_file_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    """Without one of its files faster-whisper says which, and looks for it nowhere else."""
    (tiny_models.whisper(tmp_path) / name).unlink()
    told = await reason("faster-whisper", tmp_path)
    assert name.partition(".")[0] in told
    assert "\n" not in told


async def test_a_model_of_another_shape_is_told(tmp_path: Path) -> None:
    """Features that do not fit the model would fail every recording, so they are an error of the start."""
    (tiny_models.whisper(tmp_path) / "preprocessor_config.json").write_text('{"feature_size": 128}')
    assert "preprocessor_config.json" in await reason("faster-whisper", tmp_path)


class Large:
    """An engine whose model takes a GiB."""

    def __init__(self, model: Path | None) -> None:
        del model
        self._weights = bytearray(1 << 30)


async def test_too_little_memory_is_told(tmp_path: Path) -> None:
    """What does not fit into `child_memory` is known before there is any audio, and never taken for something else."""
    assert await reason(f"{__name__}:Large", None, memory=1 << 29) == (
        "its model needs more memory than child_memory allows"
    )
    assert "failed to map segment" in await reason("faster-whisper", tiny_models.whisper(tmp_path), memory=256 << 20)


async def reason(recognizer: str, model: Path | None, *, memory: int = 2 << 30) -> str:
    """Return why an engine cannot be used."""
    with pytest.raises(EngineUnusable) as error:
        async with transcribing(recognizer, model=model, memory=memory):
            pass
    return str(error.value)


def test_a_worker_whose_engine_cannot_be_used_says_why() -> None:
    """It ends with 2 and one sentence: no traceback, and no audio is ever taken."""
    settings = {"VOLANT_RECOGNIZER": "faster-whisper", "VOLANT_RECOGNIZER_MODEL": "/nowhere/at/all"}
    ended = subprocess.run(
        [sys.executable, "-m", "worker"], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "volant worker: recognizer: faster-whisper cannot be used: "
        "recognizer_model: /nowhere/at/all is not a directory\n"
    )


def test_engines_are_listed_with_what_they_offer(tmp_path: Path) -> None:
    """`volant engines` tells of each engine its languages and features, or why it cannot be used as it is set."""
    model = tiny_models.ctc(tmp_path)
    told = CliRunner().invoke(
        cli.engines, env={"VOLANT_RECOGNIZER": "sherpa-onnx", "VOLANT_RECOGNIZER_MODEL": str(model)}
    )
    assert told.exit_code == 0
    assert told.output.splitlines() == [
        "faster-whisper\tcannot be used: it needs a model: set recognizer_model to the model's directory",
        "pocketsphinx\ten-US\talternatives confidences times",
        "sherpa-onnx\ten-US en-GB\ttimes",
    ]


def test_an_engine_named_by_its_place_is_listed_too() -> None:
    """The one that is set is in the list, also when no entry point names it."""
    told = CliRunner().invoke(cli.engines, env={"VOLANT_RECOGNIZER": "tests.recognizers:Scripted"})
    assert "tests.recognizers:Scripted\ten-US\tconfidences times" in told.output.splitlines()


def test_an_engine_that_nothing_is_called_is_listed_as_such() -> None:
    """Whoever has mistyped the setting reads so, and not only what else there is."""
    told = CliRunner().invoke(cli.engines, env={"VOLANT_RECOGNIZER": "pocketsphynx"})
    assert told.exit_code == 0
    assert told.output.splitlines()[-1] == "pocketsphynx\tcannot be used: no recognizer is called pocketsphynx"


@pytest.mark.parametrize(
    ("recognizer", "library"), [("sherpa-onnx", "sherpa_onnx"), ("faster-whisper", "faster_whisper")]
)
def test_a_missing_library_is_told_with_how_to_install_it(recognizer: str, library: str) -> None:
    """Volant without its extras runs; the engine that is set says what to install."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from worker.recognizers import find\n"
        f"try: find({recognizer!r})(None)\n"
        f"except ImportError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == f"its library is not installed: pip install 'volant[{recognizer}]'\n"
