"""Many jobs of one customer, in every state and with all that a job can have, written without an upload for each."""

import asyncio

import msgspec

from retention.job import Callback, Job, accept, claim, complete, fail, new_job_id
from retention.seal import Context, Key, Kind, seal
from retention.store import Field
from tests.integration.cell import HOUR, RESULTS, SUBMISSION, WEEK, Cell, spoken

CUSTOMER = "crowd"
URL = "https://crowd.example/told"

_AT_ONCE = 100


async def crowd(cell: Cell, size: int) -> list[Job]:
    """Write so many jobs of CUSTOMER: a quarter each waiting, processing, completed and failed.

    Unfinished ones have audio and are queued; every other job has a callback, and what it would tell is pending.
    """
    began = await cell.store.now()
    registration = await cell.registrations.keep(cell.tenant, URL, "secret", customer=CUSTOMER, began=began)
    callback = Callback(
        registration=registration.id, events=("recognitions.started", "recognitions.completed", "recognitions.failed")
    )
    written: list[Job] = []
    for start in range(0, size, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, size))
        written += await asyncio.gather(*(_one(cell, each, callback if each // 4 % 2 else None) for each in numbers))
    return written


async def _one(cell: Cell, number: int, callback: Callback | None) -> Job:
    now = await cell.store.now()
    tag = cell.keyring.tag(cell.tenant, CUSTOMER)
    id_, key = new_job_id(), Key.random()

    def sealed(kind: Kind, plain: bytes) -> bytes:
        return seal(key, plain, Context(kind=kind, tenant=cell.tenant, job=id_))

    waiting = accept(id_, cell.tenant, now=now, results_ttl=HOUR, patience=WEEK, customer=tag, callback=callback)
    fields: dict[Field, bytes] = {
        "key": await cell.keyring.wrap(key, cell.tenant, id_),
        "submission": sealed(Kind.SUBMISSION, msgspec.json.encode(SUBMISSION)),
        "user_token": sealed(Kind.USER_TOKEN, b"somebody") if callback else b"",
    }
    await cell.store.write(waiting, now=now, sealed=fields, began=now)
    state = number % 4
    if state < 2:
        await cell.audio.write(cell.tenant, id_, spoken(sealed(Kind.AUDIO, bytes(2000))))
        await cell.queue.put(cell.tenant, id_)
    if state == 0:
        return waiting
    processing = claim(waiting, now=now, holder="h")
    await cell.store.write(processing, now=now)
    if state == 1:
        return processing
    if state == 2:
        completed = complete(processing, now=now)
        result = sealed(Kind.RESULT, RESULTS * 50)
        await cell.store.write(completed, now=now, sealed={"result": result, "submission": b""})
        return completed
    failed = fail(processing, "engine", now=now)
    await cell.store.write(failed, now=now, sealed={"submission": b""})
    return failed
