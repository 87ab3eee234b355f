"""How a job comes in: admitted, sealed, stored, recorded, queued; or taken back.

It is accepted when its audio and then its record are on stable storage; being queued comes after and is repaired by
the caretaker.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from retention.audio import AudioStore
from retention.entries import Entry
from retention.errors import (
    CustomerErased,
    KeyDisabled,
    LimitReached,
    TenantGone,
    Unavailable,
    WrapRefused,
)
from retention.job import Callback, CustomerTag, JobId, Submission, Waiting, accept, new_job_id
from retention.keyring import Keyring
from retention.log import failure
from retention.queue import JobQueue
from retention.quotas import Quotas
from retention.seal import Context, Key, Kind, seal, seal_stream
from retention.service import FENCE_SLACK, JobService
from retention.store import Field, JobStore
from retention.tenant import Credential

ACCEPT_WITHIN = 15.0
"""Seconds for writing the record of audio that is stored. Shorter than what makes audio an orphan."""

CLOSE_WITHIN = 10.0
"""Seconds that a stop waits for records that are being taken back."""

_REMOVALS = 2

_log = structlog.get_logger()


class JobAcceptance:
    """The way into one cell. Raises Unavailable when the store cannot be reached."""

    def __init__(
        self,
        *,
        store: JobStore,
        audio: AudioStore,
        keyring: Keyring,
        queue: JobQueue,
        quotas: Quotas,
        jobs: JobService,
        patience: timedelta,
        upload_within: timedelta,
    ) -> None:
        self._store = store
        self._audio = audio
        self._keyring = keyring
        self._queue = queue
        self._quotas = quotas
        self._jobs = jobs
        self._patience = patience
        self._upload_within = upload_within
        self._withdrawals: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def upload(self, credential: Credential, *, size: int) -> AsyncIterator[datetime]:
        """Admit an upload of so many bytes, 0: it is not known how many; it is under way while the block lasts.

        Gives the time by `now`. Raises KeyDisabled, LimitReached.
        """
        await self._keyring.admit_wrap(credential.tenant)
        async with self._quotas.upload(credential, size=size) as began:
            yield began

    async def submit(
        self,
        credential: Credential,
        submission: Submission,
        audio: AsyncIterable[bytes],
        *,
        began: datetime,
        results_ttl: timedelta,
        customer: str | None = None,
        callback: Callback | None = None,
        user_token: str = "",
    ) -> Waiting:
        """Accept a job. When this returns, audio and parameters are on stable storage (promise P1).

        `began` is the time by `now` before anything of the upload was read. Whatever `audio` raises is passed on,
        and then nothing is left. Raises Unavailable when the job could not be kept, TenantGone when its tenant was
        deleted meanwhile, CustomerErased when its customer was erased since it began, LimitReached when too much waits,
        KeyDisabled when its key is, or was meanwhile.
        """
        tenant, id_ = credential.tenant, new_job_id()
        key = Key.random()
        wrapped = await self._keyring.wrap(key, tenant, id_)  # before anything of the body is read
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in audio:
                size += len(piece)
                yield piece

        context = Context(kind=Kind.AUDIO, tenant=tenant, job=id_)
        await self._audio.write(tenant, id_, seal_stream(key, context, counted()))
        # Shielded: a client that hangs up now must find the job whole or not at all.
        return await asyncio.shield(
            self._record(
                credential,
                id_,
                key,
                wrapped,
                submission,
                size=size,
                began=began,
                results_ttl=results_ttl,
                customer=self._keyring.tag(tenant, customer) if customer is not None else None,
                callback=callback,
                user_token=user_token,
            )
        )

    async def close(self) -> None:
        """Wait a little for what is being taken back."""
        if self._withdrawals:
            _, late = await asyncio.wait(self._withdrawals, timeout=CLOSE_WITHIN)
            for task in late:
                task.cancel()

    async def _record(
        self,
        credential: Credential,
        id_: JobId,
        key: Key,
        wrapped: bytes,
        submission: Submission,
        *,
        size: int,
        began: datetime,
        results_ttl: timedelta,
        customer: CustomerTag | None,
        callback: Callback | None,
        user_token: str,
    ) -> Waiting:
        tenant = credential.tenant
        sealed: dict[Field, bytes] = {
            "key": wrapped,
            "submission": seal(
                key, msgspec.json.encode(submission), Context(kind=Kind.SUBMISSION, tenant=tenant, job=id_)
            ),
        }
        if callback and user_token:
            context = Context(kind=Kind.USER_TOKEN, tenant=tenant, job=id_)
            sealed["user_token"] = seal(key, user_token.encode(), context)
        try:
            async with asyncio.timeout(ACCEPT_WITHIN):
                now = await self._store.now()
                if customer and now - began > self._upload_within + FENCE_SLACK / 2:
                    raise Unavailable("this process was away: a fence may have come and gone")
                job = accept(
                    id_,
                    tenant,
                    now=now,
                    results_ttl=results_ttl,
                    patience=self._patience,
                    customer=customer,
                    callback=callback,
                )
                await self._write(job, key, sealed, now=now, began=began, credential=credential, size=size)
            if not await self._audio.holds(tenant, id_):
                # This process was away for so long between the two that the sweep took the audio for an orphan.
                raise Unavailable("the audio was swept before it had a record")
        except (TenantGone, CustomerErased, LimitReached, KeyDisabled):
            await self._audio.remove(tenant, id_)
            raise
        except (Unavailable, TimeoutError) as error:
            task = asyncio.create_task(self._withdraw(Entry(tenant=tenant, job=id_, customer=customer)))
            self._withdrawals.add(task)
            task.add_done_callback(self._withdrawals.discard)
            raise Unavailable("the record could not be written") from error
        try:
            await self._queue.put(tenant, id_)
        except Unavailable as error:
            _log.warning("accepted but not queued", tenant=tenant, job=id_, **failure(error))
        return job

    async def _write(self, job: Waiting, key: Key, sealed: dict[Field, bytes], **how: Any) -> None:
        while True:
            try:
                return await self._store.write(job, sealed=sealed, **how)
            except WrapRefused:  # the tenant's key was rotated, replaced or disabled while the upload came in
                sealed["key"] = await self._keyring.wrap(key, job.tenant, job.id)

    async def _withdraw(self, entry: Entry) -> None:
        """Take back a job whose client is told that there is none: the record may have been written.

        The audio goes after the record: without it a job that was written would fail rather than be gone.
        Twice: a Redis that was frozen may read the write after the first removal, from a connection long closed.
        """
        done = 0
        while done < _REMOVALS:
            try:
                await self._store.erase(entry)
                await self._jobs.clear(entry.tenant, entry.job)
                done += 1
            except Unavailable:
                done = 0
            except asyncio.CancelledError:
                _log.error("could not be taken back", tenant=entry.tenant, job=entry.job)
                raise
            await asyncio.sleep(random.uniform(0.2, 1.0))
