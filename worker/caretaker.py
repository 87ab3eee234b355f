"""The caretaker's rounds, as a plain task: never queued, so that no flood of jobs delays them."""

import asyncio
from datetime import timedelta

import structlog

from retention.caretaking import Caretaker
from retention.errors import Unavailable
from retention.log import failure

_log = structlog.get_logger()


async def look_after(caretaker: Caretaker, *, token: str, every: timedelta) -> None:
    """Make a round every so often, for as long as the task lives. Survives whatever a round raises."""
    while True:
        try:
            done = await caretaker.round(token, during=every / 2)
        except Unavailable as error:
            _log.warning("round put off", **failure(error))
        except Exception as error:  # noqa: BLE001  a round that fails must not end all rounds
            _log.error("round broke off", **failure(error))
        else:
            if done and (done.rescued or done.expired or done.orphans):
                _log.info("round made", rescued=done.rescued, expired=done.expired, orphans=done.orphans)
        await asyncio.sleep(every.total_seconds())
