"""The caretaker's rounds, and those for keys, as plain tasks: never queued, so that no flood of jobs delays them."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from retention.caretaking import Caretaker
from retention.custody import Custody
from retention.errors import Unavailable
from retention.log import failure

_log = structlog.get_logger()


async def look_after(caretaker: Caretaker, *, token: str, every: timedelta) -> None:
    """Make a round every so often, and at once if there was no time for all that is over, while the task lives."""

    async def make_round() -> None:
        while done := await caretaker.round(token, during=every / 2):
            if done.rescued or done.expired or done.orphans:
                _log.info("round made", rescued=done.rescued, expired=done.expired, orphans=done.orphans)
            if not done.hurried:
                break

    await _repeat(make_round, every)


async def look_after_keys(custody: Custody, *, token: str, every: timedelta) -> None:
    """See to what is due of keys, and to rotations, every so often, for as long as the task lives.

    Each apart: rewrapping all that a key has wrapped, or erasing it, may take longer than the others can wait.
    """
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat(lambda: custody.tend(token), every))
        group.create_task(_repeat(lambda: custody.rotation.go_on(token), every))


async def _repeat(make_round: Callable[[], Awaitable[None]], every: timedelta) -> None:
    """Survives whatever a round raises."""
    while True:
        try:
            await make_round()
        except Unavailable as error:
            _log.warning("round put off", **failure(error))
        except Exception as error:  # noqa: BLE001  a round that fails must not end all rounds
            _log.error("round broke off", **failure(error))
        await asyncio.sleep(every.total_seconds())
