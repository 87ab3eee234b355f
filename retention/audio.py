"""What an audio store is: sealed recordings, each under its tenant and its job, until the job is final.

A store knows nothing of keys, and two kinds of it exist: a directory (`audio_directory`) and a bucket of an object
store (`audio_objects`). Either has a second place for the recordings that the request log keeps.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta
from typing import Protocol

from retention.job import JobId, TenantId

PIECE = 256 * 1024
"""Bytes of the largest piece in which a recording is read."""

NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
"""What tenants and jobs are called, and nothing else in a store."""


class AudioStore(Protocol):
    """Sealed audio. Raises Unavailable when the store is full, broken or out of reach; ValueError for a wrong name."""

    async def prepare(self) -> None:
        """See that recordings can be stored and removed. Raises SettingsError when they cannot."""

    async def write(self, tenant: TenantId, job: JobId, sealed: AsyncIterable[bytes]) -> int:
        """Store a recording; return its size in bytes.

        On stable storage when this returns, and absent when it raises: what `sealed` raises,
        FileExistsError for a name that is taken, or CancelledError. A killed process leaves no recording.
        """

    def read(self, tenant: TenantId, job: JobId) -> AsyncIterator[bytes]:
        """Return a recording in pieces of at most 256 KiB. Raises AudioMissing, also on the way."""

    async def holds(self, tenant: TenantId, job: JobId) -> bool:
        """Tell whether a recording is there."""

    async def remove(self, tenant: TenantId, *jobs: JobId) -> None:
        """Remove recordings, durably. One that is not there is removed already."""

    async def remove_tenant(self, tenant: TenantId) -> None:
        """Remove every recording of a tenant."""

    async def older_than(self, age: timedelta) -> list[tuple[TenantId, JobId]]:
        """Return recordings that were stored longer ago; of more than 10,000 a part, others in each round.

        So each is returned sooner or later, and how soon is not promised; but none too early.
        """

    async def check(self) -> None:
        """Return when recordings can be stored. Leaves nothing."""


class LoggedAudio(AudioStore, Protocol):
    """The recordings of the request log, which outlive their jobs."""

    async def keep(self, tenant: TenantId, job: JobId) -> int:
        """Give the recording of a job its second name, durably; return its size in bytes. Raises AudioMissing."""


def checked(name: str) -> str:
    """Return the name of a tenant or a job. Raises ValueError for anything that no store makes names of."""
    if not NAME.fullmatch(name):
        raise ValueError("not a name that this store makes files of")
    return name
