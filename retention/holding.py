"""What a worker may do with a job: hold it, read its audio, finish it, fail it.

The record decides what a delivery means, and every write lands only on the revision that was read:
a worker whose job was reclaimed, failed or erased meanwhile finds itself superseded, and what it
made is dropped. Outages of Redis are waited out here, so that none costs an attempt.
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec
import structlog

from retention.audio import AudioStore
from retention.entries import entry_of
from retention.errors import KeyDisabled, KeyUnavailable, Superseded, Unavailable, Unsealable
from retention.job import (
    ATTEMPTS,
    Completed,
    Failed,
    FailureReason,
    JobId,
    Processing,
    Submission,
    TenantId,
    Waiting,
    claim,
    complete,
    fail,
    hand_back,
    reclaim,
)
from retention.keyring import Keyring
from retention.leases import Leases
from retention.log import failure
from retention.request_log import RequestLog
from retention.seal import Context, Key, Kind, seal, unseal, unseal_stream
from retention.store import Field, JobStore, dropped_by_failure

HAND_BACK_WITHIN = 5.0
"""Seconds for giving a job back at a stop. Later, its lease lapses instead, and the attempt counts."""

DECISIONS = 5
"""How often a delivery is decided on anew before it is left to whoever has its lease."""

T = TypeVar("T")
FinalT = TypeVar("FinalT", Completed, Failed)
MovedT = TypeVar("MovedT", Processing, Completed, Failed)

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Held:
    """A job in a worker's hands, with what it needs to work on it."""

    job: Processing
    submission: Submission
    key: Key


class JobHolding:
    """The jobs of one cell, as a worker sees them."""

    def __init__(
        self, *, store: JobStore, audio: AudioStore, log: RequestLog, keyring: Keyring, leases: Leases
    ) -> None:
        self._store = store
        self._audio = audio
        self._log = log
        self._keyring = keyring
        self._leases = leases

    @contextlib.asynccontextmanager
    async def hold(self, tenant: TenantId, job: JobId) -> AsyncIterator[Held | None]:
        """Hold a delivered job; None when there is nothing to do.

        Then it is gone, final, was just failed, or its key is disabled. When the block is cancelled the job is handed
        back, uncounted. Raises Superseded when the lease went to another worker before the job was taken.
        """
        # Names this delivery: a claim whose reply was lost is recognised as our own when read again.
        holder = secrets.token_hex(8)
        # Shielded: a claim that lands in the moment of the stop is known, and so handed back, too.
        taking = asyncio.ensure_future(_outlast(lambda: self._decide(tenant, job, holder)))
        try:
            yield await asyncio.shield(taking)
        except asyncio.CancelledError:
            await asyncio.shield(self._give_up(taking))
            raise

    async def denied(self, jobs: list[Processing]) -> set[JobId]:
        """Return those of the jobs in hand whose key must not be used any more: the work on them has to stop."""
        found: set[JobId] = set()
        for job, wrapped in zip(jobs, await self._store.wrapped(list(map(entry_of, jobs))), strict=True):
            if wrapped and not await self._keyring.may_unwrap(job.tenant, wrapped, job.id):
                found.add(job.id)
        return found

    def audio(self, held: Held) -> AsyncIterator[bytes]:
        """Return the job's audio, authenticated piece by piece. Raises AudioMissing, Unsealable on the way."""
        job = held.job
        context = Context(kind=Kind.AUDIO, tenant=job.tenant, job=job.id)
        return unseal_stream(held.key, context, self._audio.read(job.tenant, job.id))

    async def age(self, held: Held) -> timedelta:
        """Return how long ago the job's upload began."""
        now = await _outlast(self._store.now)
        return max(timedelta(0), now - (held.submission.began or held.job.created))

    async def finish(self, held: Held, results: bytes, *, heard: timedelta = timedelta(0)) -> Completed:
        """Complete the job with the results object (JSON), kept from now for its `results_ttl`. Raises Superseded.

        `heard` is how much audio was decoded, which counts against its tenant's day.
        """
        job = held.job
        sealed = seal(held.key, results, Context(kind=Kind.RESULT, tenant=job.tenant, job=job.id))
        completed = await self._end(lambda now: complete(job, now=now), {"result": sealed, "submission": b""}, heard)
        await self._log.write(completed, held.submission, held.key)
        await self._drop_audio(completed)
        return completed

    async def fail(self, held: Held, reason: FailureReason, *, heard: timedelta = timedelta(0)) -> Failed:
        """End the job without a result, after so much audio was decoded. Raises Superseded."""
        return await self._fail(held.job, reason, heard)

    async def _decide(self, tenant: TenantId, job: JobId, holder: str) -> Held | None:
        for _ in range(DECISIONS):
            # Deleted, ended, handed back or taken by another since it was read: what it is now decides.
            with contextlib.suppress(Superseded):
                return await self._take(tenant, job, holder)
        raise Superseded(job)

    async def _take(self, tenant: TenantId, id_: JobId, holder: str) -> Held | None:
        stored = await self._store.read(tenant, id_)
        if stored is None:
            return None
        job = stored.job
        if isinstance(job, Completed | Failed):
            return None
        if isinstance(job, Processing) and job.holder not in {"", holder} and not await self._leases.owns(id_):
            # This worker was away for longer than its lease, and the holder is the one who has it now. Asked after
            # the record was read: whoever takes the lease from here on moves the record, and the claim fails.
            raise Superseded(id_)
        if isinstance(job, Processing) and job.attempts >= ATTEMPTS and job.holder != holder:
            await self._refuse(job, "attempts_spent")
            return None
        taken = _taken(job, holder, now=stored.now)
        try:
            key = await self._keyring.unwrap(stored.key, tenant, id_)
            context = Context(kind=Kind.SUBMISSION, tenant=tenant, job=id_)
            submission = msgspec.json.decode(unseal(key, stored.submission, context), type=Submission)
        except KeyDisabled:
            # Parked: unfinished and not in the queue, where the caretaker puts it again once the key may be used.
            _log.info("parked: its key is disabled", tenant=tenant, job=id_)
            return None
        except (KeyUnavailable, Unsealable) as error:
            _log.error("submission does not open", tenant=tenant, job=id_, **failure(error))
            await self._refuse(job, "audio_missing")
            return None
        if taken is not job:
            await self._store.write(taken, now=stored.now)
        return Held(job=taken, submission=submission, key=key)

    async def _give_up(self, taking: asyncio.Future[Held | None]) -> None:
        with contextlib.suppress(TimeoutError, Superseded):
            async with asyncio.timeout(HAND_BACK_WITHIN):
                if held := await taking:
                    await self._hand_back(held)

    async def _hand_back(self, held: Held) -> None:
        with contextlib.suppress(Superseded):
            await _outlast(lambda: self._write(lambda _: hand_back(held.job), {}, timedelta(0)))

    async def _refuse(self, job: Waiting | Processing, reason: FailureReason) -> None:
        await self._fail(job, reason, timedelta(0))
        _log.warning("job failed", tenant=job.tenant, job=job.id, reason=reason)

    async def _fail(self, job: Waiting | Processing, reason: FailureReason, heard: timedelta) -> Failed:
        failed = await self._end(lambda now: fail(job, reason, now=now), dropped_by_failure(job), heard)
        await self._drop_audio(failed)
        return failed

    async def _end(self, move: Callable[[datetime], FinalT], sealed: dict[Field, bytes], heard: timedelta) -> FinalT:
        tried: list[FinalT] = []

        def moved(now: datetime) -> FinalT:
            tried.append(move(now))
            return tried[-1]

        async def attempt() -> FinalT:
            try:
                return await self._write(moved, sealed, heard)
            except Superseded:
                return await self._landed(tried)

        return await _outlast(attempt)

    async def _drop_audio(self, ended: Completed | Failed) -> None:
        await self._audio.remove(ended.tenant, ended.id)

    async def _landed(self, tried: list[FinalT]) -> FinalT:
        """Return the one of our records that is stored: the reply to its write was lost. Raises Superseded.

        Equality proves it: only the holder of the revision before completes a job, and its moment is in the record.
        """
        stored = await self._store.read(tried[0].tenant, tried[0].id)
        for record in tried:
            if stored is not None and stored.job == record:
                return record
        raise Superseded(tried[0].id)

    async def _write(self, move: Callable[[datetime], MovedT], sealed: dict[Field, bytes], heard: timedelta) -> MovedT:
        # The moment is taken anew for every try: a result is kept from when it is readable.
        now = await self._store.now()
        moved = move(now)
        await self._store.write(moved, now=now, sealed=sealed, heard=heard)
        return moved


def _taken(job: Waiting | Processing, holder: str, *, now: datetime) -> Processing:
    match job:
        case Waiting():
            return claim(job, now=now, holder=holder)
        case Processing() if job.holder == holder:
            return job
        case Processing():
            return reclaim(job, holder=holder)


async def _outlast(attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeat until the store can be reached."""
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            _log.warning("waiting for the store", **failure(error))
            await asyncio.sleep(random.uniform(0.2, 1.0))
