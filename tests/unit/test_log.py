"""The log: what may be in it."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from retention import log

SECRET = "the quick brown fox, whispered"


@pytest.fixture
def configured() -> Iterator[None]:
    """Log as a process does, and leave logging as it was."""
    handlers = logging.root.handlers[:]
    level = logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


@pytest.mark.usefixtures("configured")
def test_only_listed_fields_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """A field that nobody put on the list is dropped, whatever it holds."""
    log.configure("info")
    structlog.get_logger().info(
        "job completed", tenant="t1", job="j1", transcript=SECRET, customer_id=SECRET, query=SECRET, exc_info=True
    )
    (line,) = lines(capsys)
    assert line.pop("timestamp")
    assert line == {"event": "job completed", "level": "info", "tenant": "t1", "job": "j1"}


@pytest.mark.usefixtures("configured")
def test_lines_below_the_level_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """The least level is kept."""
    log.configure("warning")
    structlog.get_logger().info("accepted")
    structlog.get_logger().warning("refused")
    assert [line["event"] for line in lines(capsys)] == ["refused"]


@pytest.mark.usefixtures("configured")
def test_what_libraries_log_loses_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a library's message only the logger, the place and the level remain."""
    log.configure("info")
    logging.getLogger("arq.worker").warning("job %s failed", SECRET)
    (line,) = lines(capsys)
    assert line.pop("timestamp")
    assert str(line.pop("where")).startswith("test_log:")
    assert line == {"event": "library message", "level": "warning", "logger": "arq.worker"}


@pytest.mark.usefixtures("configured")
def test_what_libraries_raise_is_logged_by_its_class(capsys: pytest.CaptureFixture[str]) -> None:
    """A logged exception shows its class and where in our code it arose, not what it says."""
    log.configure("info")
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request for %s", SECRET)
    (line,) = lines(capsys)
    assert line["error"] == "ValueError"
    assert str(line["where"]).startswith("tests/unit/test_log.py:")
    assert SECRET not in json.dumps(line)


@pytest.mark.usefixtures("configured")
def test_libraries_are_heard_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    """What libraries say for information is not logged at all."""
    log.configure("debug")
    logging.getLogger("arq.worker").info("job %s", SECRET)
    assert lines(capsys) == []


def test_a_failure_is_its_class_and_its_place() -> None:
    """No message, no arguments and no locals of the failed code get into a log."""

    def whisper(words: str) -> None:
        heard = words.upper()
        raise RuntimeError(heard)

    with pytest.raises(RuntimeError) as raised:
        whisper(SECRET)
    described = log.failure(raised.value)
    assert sorted(described) == ["error", "where"]
    assert described["error"] == "RuntimeError"
    assert described["where"].startswith("tests/unit/test_log.py:")


def test_a_failure_outside_our_code_has_no_place() -> None:
    """An error that never went through our code says no more than its class."""
    assert log.failure(KeyError(SECRET)) == {"error": "KeyError", "where": ""}


def test_nothing_on_the_list_can_hold_what_a_client_sent() -> None:
    """The allow-list has grown by nothing that would name audio, text, keys or people."""
    assert not log.FIELDS & {"transcript", "text", "audio", "key", "customer", "customer_id", "user_token", "query"}
