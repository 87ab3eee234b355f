"""How a process ends: with which code, and with what it says."""

import asyncio
import logging

import pytest
import structlog

from retention.process import run
from retention.settings import Settings
from worker.main import work


@pytest.fixture(autouse=True)
def configured_for_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave logging as it was: a process configures it for itself."""
    monkeypatch.setattr(structlog, "configure", lambda **_: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)


async def stopped(_: Settings) -> None:
    raise asyncio.CancelledError


async def broken(_: Settings) -> None:
    raise ZeroDivisionError("the canary's own words")


async def unable(_: Settings) -> None:
    raise OSError("the port is taken")


def test_a_stop_before_it_is_ready_is_orderly() -> None:
    """A signal during the start ends a process with 0."""
    assert run("api", stopped) == 0


def test_an_error_of_its_own_shows_nothing_of_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    """What an unexpected error says may quote anything: the class is logged, and the code is 1."""
    assert run("api", broken) == 1
    shown = capsys.readouterr()
    assert "canary" not in shown.err + shown.out


def test_a_process_that_cannot_start_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, and 2."""
    assert run("api", unable) == 2
    assert capsys.readouterr().err == "volant api: the port is taken\n"


def test_a_wrong_setting_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says which setting, and what would do."""
    monkeypatch.setenv("VOLANT_LEASE", "1")
    assert run("worker", stopped) == 2
    assert capsys.readouterr().err.startswith("volant worker: lease must be at least 3 seconds")


def test_an_unknown_engine_is_a_wrong_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started, and the sentence tells how to find the right name."""
    monkeypatch.setenv("VOLANT_RECOGNIZER", "nope")
    assert run("worker", work) == 2
    assert "`volant engines` lists them" in capsys.readouterr().err
