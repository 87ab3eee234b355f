"""The audio of the request log: the sealed files of jobs under a second name, `<root>/.log/<tenant>/<job>`.

Within the jobs' own tree, so that it is on the same file system and nothing is ever copied; under a name that no
tenant has, so that what looks after the audio of jobs does not see it.
"""

import os
from datetime import timedelta
from pathlib import Path

from retention.audio_directory import AudioDirectory, in_thread, sync_directory
from retention.errors import AudioMissing
from retention.job import JobId, TenantId

_NAME = ".log"


class LoggedDirectory(AudioDirectory):
    """Recordings that outlive their jobs. Raises Unavailable when the directory is full or broken."""

    def __init__(self, jobs: Path) -> None:
        super().__init__(jobs / _NAME)
        self._jobs = jobs

    async def keep(self, tenant: TenantId, job: JobId) -> int:
        """Give the recording of a job its second name, durably; return its size in bytes. Raises AudioMissing."""
        return await in_thread(self._keep, self._path(tenant, job))

    async def older_than(self, age: timedelta) -> list[tuple[TenantId, JobId]]:
        """Return the recordings that were kept longer ago: none where no log was ever switched on."""
        return await super().older_than(age) if await in_thread(self._root.is_dir) else []

    def _keep(self, path: Path) -> int:
        recording = self._jobs / path.parent.name / path.name
        self._make(path.parent)
        try:
            os.utime(recording)  # its age counts from now on, so that it is no orphan before its entry can be there
            os.link(recording, path)
        except FileNotFoundError as error:
            raise AudioMissing(path.name) from error
        sync_directory(path.parent)
        return path.stat().st_size
