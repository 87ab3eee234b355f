"""The workers' function: hold a job, recognise its audio, end the job."""

import time
from typing import Any

import structlog
from msgspec import Struct

from retention.errors import AudioMissing, Superseded, Unsealable
from retention.holding import Held, JobHolding
from retention.job import FailureReason, JobId, TenantId
from retention.log import failure
from worker.leases import LeasedWorker, Retry
from worker.transcriber import EngineFailed, RecognitionError, Tally, Transcriber

_log = structlog.get_logger()


class Tools(Struct, frozen=True, kw_only=True):
    """What a job is worked on with."""

    holding: JobHolding
    transcriber: Transcriber


async def recognize(ctx: dict[str, Any], tenant: TenantId, id_: JobId) -> None:
    """Work on one delivery. `ctx` holds the `tools` and the `worker` that runs this."""
    tools: Tools = ctx["tools"]
    worker: LeasedWorker = ctx["worker"]
    began = time.monotonic()
    try:
        async with tools.holding.hold(tenant, id_) as held:
            if held is None:
                return
            worker.hold(held.job)
            reason = await _work(tools, held)
    except Superseded:
        # Whatever became of the job is in its record. If it is still to be worked on and its lease is ours, it comes
        # again, in its place.
        _log.info("superseded", tenant=tenant, job=id_)
        raise Retry from None
    _log.info(
        "job failed" if reason else "job completed",
        tenant=tenant,
        job=id_,
        attempt=held.job.attempts,
        duration_ms=round((time.monotonic() - began) * 1000),
        **({"reason": reason} if reason else {}),
    )


async def _work(tools: Tools, held: Held) -> FailureReason | None:
    """End the held job; return why it failed, if it did."""
    reason: FailureReason
    tally = Tally()
    try:
        results = await _transcribe(tools, held, tally)
    except RecognitionError as error:
        reason = error.reason
    except (AudioMissing, Unsealable) as error:
        _log.error("audio cannot be read", tenant=held.job.tenant, job=held.job.id, **failure(error))
        reason = "audio_missing"
    else:
        await tools.holding.finish(held, results, heard=tally.heard())
        return None
    await tools.holding.fail(held, reason, heard=tally.heard())
    return reason


async def _transcribe(tools: Tools, held: Held, tally: Tally) -> bytes:
    """Return the results; from the beginning once more if a child fails, for the audio may be innocent of it."""
    age = await tools.holding.age(held)
    try:
        return await tools.transcriber.transcribe(tools.holding.audio(held), held.submission, age=age, tally=tally)
    except EngineFailed:
        _log.warning("recognising again", tenant=held.job.tenant, job=held.job.id)
        return await tools.transcriber.transcribe(tools.holding.audio(held), held.submission, age=age, tally=tally)
