"""`python -m worker.notifier`: tells clients of their jobs, from a queue of its own.

One delivery is one job: its next event is sent, noted, and the delivery comes back as long as there is more to
tell. arq delivers under a lease, so what a killed notifier had in hand comes back: at least once (spec 3.5).
"""

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog
from msgspec import Struct

from retention.bootstrap import open_own_cell
from retention.delivery import NOTIFY
from retention.egress import Egress, origin
from retention.errors import Denied, KeyDisabled, Unavailable, Unreachable
from retention.job import JobId, TenantId
from retention.log import failure
from retention.process import run
from retention.settings import Settings
from retention.telling import Notification, Telling, Unwanted
from worker.leases import LeasedWorker, func
from worker.main import on_signals
from worker.receivers import Receivers

ANSWER_WITHIN = timedelta(seconds=10)
"""How long a receiver may take with one notification, in all (spec 3.5)."""

_AFTER_TROUBLE = timedelta(seconds=5)
_WHILE_DISABLED = timedelta(seconds=30)

_log = structlog.get_logger()


class Tools(Struct, frozen=True, kw_only=True):
    """What a notification is sent with."""

    telling: Telling
    egress: Egress
    receivers: Receivers


class Notifier(LeasedWorker):
    """Runs deliveries that end together with what became of their notification."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ends: dict[JobId, Callable[[], Awaitable[None]]] = {}

    def end_with(self, id_: JobId, end: Callable[[], Awaitable[None]]) -> None:
        """Do this when a delivery is over; it has to end the lease.

        Not before: with the lease the next notification of the job may come, and this worker would take it for the
        delivery that it still has in hand.
        """
        self._ends[id_] = end

    def _be_patient(self) -> None:
        """Take at once what is due: a lease on a notification that has lapsed is never taken back by its owner."""

    async def _idle_for(self) -> float:
        return await self._leases.next_in(at_most=await super()._idle_for())

    async def finish_job(self, job_id: str, finish: bool, *_: Any) -> None:  # noqa: FBT001  arq's signature
        """End the lease: with what became of the notification, or else handing it back."""
        del finish
        id_ = JobId(job_id)
        end = self._ends.pop(id_, None)
        if end is None:
            await self._settle(id_, done=False)
            return
        self._let_come(id_)
        try:
            await end()
        except Unavailable as error:
            # What was not noted is sent again when the lease has lapsed.
            _log.warning("notification left to its lease", job=job_id, **failure(error))


async def notify(ctx: dict[str, Any], tenant: TenantId, id_: JobId) -> None:
    """Work on one delivery. `ctx` holds the `tools` and the `notifier` that runs this."""
    tools: Tools = ctx["tools"]
    notifier: Notifier = ctx["notifier"]
    entry = JobId(ctx["job_id"])
    try:
        notifier.end_with(entry, await _notify(tools, tenant, id_))
    except Unavailable as error:
        _log.warning("notification left to its lease", tenant=tenant, job=id_, **failure(error))
        notifier.end_with(entry, _leave)
    except Exception as error:  # noqa: BLE001 - one notification must not end the notifier, nor spin
        _log.error("notification broke off", tenant=tenant, job=id_, **failure(error))
        notifier.end_with(entry, functools.partial(tools.telling.put_off, tenant, id_, _AFTER_TROUBLE))


async def _notify(tools: Tools, tenant: TenantId, id_: JobId) -> Callable[[], Awaitable[None]]:
    """Send what is next, if it may be sent now; return how to end the delivery."""
    try:
        found = await tools.telling.next(tenant, id_)
    except KeyDisabled:
        return functools.partial(tools.telling.put_off, tenant, id_, _WHILE_DISABLED)
    if isinstance(found, Unwanted):
        return functools.partial(tools.telling.forget, tenant, id_, found)
    clock = asyncio.get_running_loop().time
    receiver = origin(found.url)
    if (wait := tools.receivers.enter(receiver, tenant, now=clock())) is not None:
        return functools.partial(tools.telling.put_off, tenant, id_, timedelta(seconds=wait))
    well: bool | None = None  # broken off by us: nothing was learned about the receiver
    try:
        status = await _send(tools.egress, found)
        well = status is not None and status < 500  # noqa: PLR2004 - what answers is alive, whatever it thinks of us
    finally:
        tools.receivers.leave(receiver, tenant, well=well, now=clock())
    return functools.partial(_note, tools.telling, found, status)


async def _note(telling: Telling, found: Notification, status: int | None) -> None:
    became = await telling.note(found, status)
    write = _log.warning if became == "dead" else _log.info
    write(
        "notification",
        tenant=found.tenant,
        job=found.job,
        reason=became,
        attempt=found.pending.tries + 1,
        **({} if status is None else {"status": status}),
    )


async def _leave() -> None:
    """Let the lease lapse."""


async def _send(egress: Egress, found: Notification) -> int | None:
    """Return the status of the answer, or None when there was none."""
    try:
        return (await egress.post(found.url, found.body, headers=found.headers, within=ANSWER_WITHIN)).status
    except (Denied, Unreachable):
        return None


async def tell(settings: Settings) -> None:
    """Send notifications until SIGTERM or SIGINT."""
    if starting := asyncio.current_task():
        on_signals(starting.cancel)
    at_once = settings.notifications_at_once
    async with open_own_cell(settings, role="notifier") as cell:
        notifier = Notifier(
            [func(notify, name=NOTIFY)],
            leases=cell.notification_leases,
            readiness=cell.readiness,
            redis=cell.redis,
            jobs_at_once=at_once,
            lease=settings.lease,
            drain=settings.drain,
        )
        tools = Tools(telling=cell.telling, egress=cell.egress, receivers=Receivers(at_once=at_once))
        notifier.ctx.update(tools=tools, notifier=notifier)
        on_signals(notifier.stop)
        _log.info("notifier ready", cell=cell.name, jobs_at_once=at_once)
        await notifier.main()
    _log.info("notifier stopped")


if __name__ == "__main__":
    sys.exit(run("notifier", tell))
