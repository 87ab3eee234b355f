"""`python -m api`: the HTTP front as a process."""

import asyncio
import contextlib
import signal
import sys

import structlog

from api.app import create_app
from api.listener import listening
from retention.bootstrap import open_retention
from retention.process import run
from retention.settings import Settings

_log = structlog.get_logger()


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, also while Redis is still being waited for. A second signal hastens the end."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine, so it runs in a task
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with open_retention(settings, role="api") as retention:
            app = create_app(settings, retention)
            listeners = settings.listening()
            async with listening(app, listeners, grace=settings.drain) as urls:
                for listener, url in zip(listeners, urls, strict=True):
                    _log.info("listening", url=url, listener=listener.name, kind=listener.kind)
                await _forever()
                task.uncancel()
            _log.info("stopped")


async def _forever() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(run("api", serve))
