"""A worker process put together: recognising children, the leased worker, the caretaker."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

import structlog

from retention.bootstrap import open_own_cell
from retention.delivery import RECOGNIZE
from retention.ending import end
from retention.errors import SettingsError
from retention.settings import Settings
from worker import sandbox
from worker.caretaker import look_after, look_after_keys
from worker.leases import LeasedWorker, func
from worker.recognizers import installed
from worker.tasks import Tools, recognize
from worker.transcriber import EngineUnusable, Transcriber

_log = structlog.get_logger()


async def work(settings: Settings) -> None:
    """Recognise jobs until SIGTERM or SIGINT. Raises SettingsError when the engine cannot be had."""
    if ":" not in settings.recognizer and settings.recognizer not in {engine.name for engine in installed()}:
        raise SettingsError(f"recognizer: no engine is called {settings.recognizer}; `volant engines` lists them")
    sandbox.forget_environment()  # the settings are read
    children = settings.children or os.cpu_count() or 1
    jobs_at_once = settings.jobs_at_once or children + 1
    transcriber = Transcriber(
        recognizer=settings.recognizer,
        model=settings.recognizer_model,
        plain_text=settings.plain_text,
        children=children,
        child_memory=settings.child_memory,
        stall=settings.stall,
        max_audio=settings.max_audio,
    )
    if starting := asyncio.current_task():
        on_signals(starting.cancel)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(transcriber.close)
        try:
            await transcriber.start()
        except EngineUnusable as error:
            raise SettingsError(f"recognizer: {settings.recognizer} cannot be used: {error}") from error
        cell = await stack.enter_async_context(open_own_cell(settings, role="worker"))
        await cell.offers.publish(transcriber.offer)
        worker = LeasedWorker(
            [func(recognize, name=RECOGNIZE)],
            leases=cell.leases,
            readiness=cell.readiness,
            redis=cell.redis,
            jobs_at_once=jobs_at_once,
            lease=settings.lease,
            drain=settings.drain,
            denied=cell.holding.denied,
        )
        worker.ctx.update(tools=Tools(holding=cell.holding, transcriber=transcriber), worker=worker)
        on_signals(worker.stop)
        _log.info(
            "worker ready",
            cell=cell.name,
            recognizer=settings.recognizer,
            children=children,
            jobs_at_once=jobs_at_once,
            isolation=transcriber.isolation,
        )
        async with asyncio.TaskGroup() as group:
            rounds = group.create_task(look_after(cell.caretaker, token=cell.leases.token, every=settings.sweep_every))
            for_keys = group.create_task(
                look_after_keys(cell.custody, token=cell.leases.token, every=settings.sweep_every)
            )
            await worker.main()
            await end(rounds)
            await end(for_keys)
    _log.info("worker stopped")


def on_signals(react: Callable[[], object]) -> None:
    """Do this at SIGTERM and SIGINT, instead of what was done before."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, react)
