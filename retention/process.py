"""How a process of Volant begins and ends: settings, log, a signal, an exit code."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from retention import log
from retention.errors import RetentionError
from retention.settings import Settings, load


def run(name: str, serve: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    """Run a service until it stops; return its exit code.

    0 after an orderly stop, also one before it was ready; 2, with a sentence, when it cannot start as it
    is configured; 1 when it met an error of its own, whose text is not shown: it may quote anything.
    """
    try:
        settings = load()
        log.configure(settings.log_level)
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(serve(settings))
    except (RetentionError, OSError) as error:
        sys.stderr.write(f"volant {name}: {error}\n")
        return 2
    except Exception as error:  # noqa: BLE001 - the last resort of the process
        structlog.get_logger().error("broke off", **log.failure(error))
        return 1
    return 0
