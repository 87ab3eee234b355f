"""JSON logs, one line per request and per job, that carry allow-listed fields and nothing else.

A field that is not on the list is dropped, so that no change elsewhere can put audio, transcripts,
keys, customer ids or query strings into a log. What libraries log is reduced to the logger's name
and the class of the error: their messages may quote what they were given.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

FIELDS = frozenset(
    {
        "event", "level", "timestamp", "method", "route", "status", "duration_ms", "bytes_in", "tenant", "job",
        "transaction", "reason", "error", "where", "logger", "url", "attempt", "children", "jobs_at_once",
        "isolation", "recognizer", "cell", "rescued", "expired", "orphans", "jobs", "role", "key_id", "listener",
        "kind", "expires",
    }
)  # fmt: skip
"""Every field that a log line may have. None of them is ever given what a client sent."""

_HERE = Path(__file__).resolve().parent.parent


def configure(level: str) -> None:
    """Send structlog's and the standard library's logs to standard error as JSON lines."""
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            only_listed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Reduced()], level=logging.WARNING, force=True)


def only_listed(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every field that is not in FIELDS."""
    return {name: value for name, value in event.items() if name in FIELDS}


def failure(error: BaseException) -> dict[str, str]:
    """Return the fields that describe an unexpected error: its class, and where in our code it arose."""
    passed = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    relative = [(path.relative_to(_HERE), line) for path, line in passed if path.is_relative_to(_HERE)]
    ours = [f"{path}:{line}" for path, line in relative if "site-packages" not in path.parts]
    return {"error": type(error).__name__, "where": ours[-1] if ours else ""}


class _Reduced(logging.Handler):
    """Passes a library's record on without its message."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().log(
            record.levelno,
            "library message",
            logger=record.name,
            **(failure(error) if error else {"where": f"{record.module}:{record.lineno}"}),
        )
