"""Engines are found by name, listed, and speak plainly."""

from pathlib import Path

import pytest
from click.testing import CliRunner

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


def test_engines_are_listed_with_what_they_serve() -> None:
    """`volant engines` names each engine, its languages and its features."""
    told = CliRunner().invoke(cli.engines)
    assert told.exit_code == 0
    assert "pocketsphinx\ten-US\talternatives confidences times" in told.output.splitlines()


def test_an_engine_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence is the engine's own, and the list goes on."""
    monkeypatch.setenv("VOLANT_RECOGNIZER_MODEL", "/nowhere")
    told = CliRunner().invoke(cli.engines)
    assert told.exit_code == 0
    assert "pocketsphinx\tcannot be used: pocketsphinx brings its own model" in told.output


def test_marks_are_not_words() -> None:
    """Sentence marks, silences, noises and numbers of pronunciations do not reach a transcript."""
    said = ["<s>", "been(2)", "<sil>", "[NOISE]", "++UH++", "there", "</s>"]
    assert [_spelling(word) for word in said if _is_spoken(word)] == ["been", "there"]


def test_the_scripted_engine_is_not_at_work_while_it_warms_up() -> None:
    """Tests kill who is at work: a child that only begins, with silence, must not pass for one."""
    name = Path("/proc/thread-self/comm")
    before = name.read_text()
    Scripted().recognize(bytes(32000), language="en-US", alternatives=1)
    assert name.read_text() == before
