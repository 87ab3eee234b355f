"""Engines are found by name, listed, and speak plainly."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from api.models import DEFAULT_MODEL, SERVED_MODELS
from tests.recognizers import Scripted
from worker import cli
from worker.recognizers import find
from worker.recognizers.pocketsphinx import Pocketsphinx, _is_spoken, _spelling


def test_an_engine_is_found_by_its_entry_point_or_its_place() -> None:
    """Both ways to name an engine work; an unknown one is an error that names it."""
    assert find("pocketsphinx") is Pocketsphinx
    assert find("tests.recognizers:Scripted") is Scripted
    with pytest.raises(LookupError, match="nobody"):
        find("nobody")


def test_engines_are_listed_with_their_models() -> None:
    """`volant engines` names each engine and what it serves."""
    told = CliRunner().invoke(cli.engines)
    assert told.exit_code == 0
    assert told.output.splitlines() == [
        "pocketsphinx\ten-US_BroadbandModel en-US_NarrowbandModel en-US_Multimedia en-US_Telephony en-US"
    ]


def test_the_api_serves_the_models_of_the_embedded_engine() -> None:
    """The API has a list of its own, knowing no engine: both name the same models, the default among them."""
    assert set(Pocketsphinx.models) == SERVED_MODELS
    assert DEFAULT_MODEL in SERVED_MODELS


def test_marks_are_not_words() -> None:
    """Sentence marks, silences, noises and numbers of pronunciations do not reach a transcript."""
    said = ["<s>", "been(2)", "<sil>", "[NOISE]", "++UH++", "there", "</s>"]
    assert [_spelling(word) for word in said if _is_spoken(word)] == ["been", "there"]


def test_the_scripted_engine_is_not_at_work_while_it_warms_up() -> None:
    """Tests kill who is at work: a child that only begins, with silence, must not pass for one."""
    name = Path("/proc/thread-self/comm")
    before = name.read_text()
    Scripted().recognize(bytes(32000), alternatives=1)
    assert name.read_text() == before
