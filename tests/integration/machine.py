"""The model check: a cell, its model, and what must hold of the two after every step."""

import asyncio
import tempfile
from collections.abc import Coroutine
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from redis.asyncio import Redis

from retention import keyspace
from retention.caretaking import Caretaker
from retention.holding import Held
from retention.job import (
    Job,
    JobId,
    RegistrationId,
)
from retention.leases import Leases
from retention.telling import Notification, Telling
from tests.integration.cell import Cell, open_cell
from tests.integration.inspection import Contents, contents
from tests.integration.model import Model
from tests.stack import end_tasks

T = TypeVar("T")

URL = "https://receiver.example/hook?key=1"
USER_TOKEN = "job25"
WORKER = st.integers(min_value=0, max_value=1)
"""Which of the two workers, or notifiers."""


class Machine(RuleBasedStateMachine):
    """A cell on a real Redis and a real directory, beside its model. What may happen to it is said by others."""

    url: ClassVar[str]
    patience: ClassVar[float] = 10.0
    """How long any one thing may take, in seconds: what is broken may never end."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory(prefix="volant-")
        self.model = Model()
        self.records: list[Job] = []
        self.helds: list[Held] = []
        self.cell = self.run(self._open())
        self.workers = [Leases(self.cell.redis, lease=timedelta(minutes=5)) for _ in range(2)]
        self.tellings = [self._telling() for _ in range(2)]
        self.sent: list[tuple[Telling, Notification]] = []
        self.uploads: list[datetime] = []
        self.day = self.now().date()
        self.registration = self.run(self._register())
        self.caretaker = Caretaker(
            store=self.cell.store,
            audio=self.cell.audio,
            log=self.cell.log,
            audit=self.cell.audit,
            keyring=self.cell.keyring,
            queue=self.cell.queue,
            erasures=self.cell.erasures,
            orphan_after=timedelta(0),
        )

    async def _open(self) -> Cell:
        redis = Redis.from_url(self.url)
        await redis.flushall()
        await redis.config_set("appendfsync", "no")  # nothing is killed here, and it is three times faster
        return await open_cell(redis, Path(self.directory.name))

    def _telling(self) -> Telling:
        return Telling(
            store=self.cell.store,
            keyring=self.cell.keyring,
            tenants=self.cell.tenants,
            registrations=self.cell.registrations,
            leases=Leases(self.cell.redis, lease=timedelta(minutes=5), queue=keyspace.NOTIFICATION),
            hash_="sha256",
        )

    async def _register(self) -> RegistrationId:
        began = await self.cell.store.now()
        kept = await self.cell.registrations.keep(self.cell.tenant, URL, "secret", customer=None, began=began)
        return kept.id

    def teardown(self) -> None:
        self.run(self.cell.redis.config_set("appendfsync", "always"))
        self.loop.run_until_complete(end_tasks())
        self.run(self.cell.redis.aclose())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.directory.cleanup()

    def run(self, action: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(action, self.patience))

    def now(self) -> datetime:
        return self.run(self.cell.store.now())

    def after_the_erasure(self) -> datetime:
        """Return the time, once it is another millisecond than that of the last erasure."""
        while self.model.erased is not None and self.now() <= self.model.erased:
            pass
        return self.now()

    def written(
        self, job: Job, *, since: datetime, drops: frozenset[str] = frozenset(), adds: frozenset[str] = frozenset()
    ) -> None:
        self.model.write(job, at=(since, self.now()), drops=drops, adds=adds)
        self.records.append(job)

    # What must hold

    def everything(self) -> dict[JobId, Job]:
        return {id_: known.job for id_, known in self.model.jobs.items()} | self.model.expired

    async def contents(self) -> Contents:
        tag = self.cell.keyring.tag(self.cell.tenant, "c")
        return await contents(self.cell.redis, self.cell.tenant, tag)

    @invariant()
    def the_cell_is_as_it_should_be(self) -> None:
        model = self.model
        found = self.run(self.contents())
        assert set(found.jobs) == set(model.jobs)
        for id_, known in model.jobs.items():
            assert set(found.jobs[id_].fields) == known.fields, known
            assert found.jobs[id_].fields["revision"] == b"%d" % known.job.revision
            least, greatest = found.jobs[id_].expires
            assert least - 1 <= known.expires() <= greatest + 1, known
            least, greatest = known.look
            look = found.due.get(keyspace.entry(self.cell.tenant, id_, known.job.customer), 0)
            assert least <= look <= greatest, known
        everything = self.everything()
        assert set(found.listed) == set(everything)
        assert found.of_customer == {id_ for id_, job in everything.items() if job.customer}
        assert found.telling == model.telling
        assert {member.split("/")[1] for member in found.due} == set(everything)
        assert all(any(fnmatchcase(key, name) for name in keyspace.PERSISTENT) for key in found.forever)
        places = {*model.lapsed, *model.waiting, *model.leased}
        assert set(found.queue) == places
        assert {path.name for path in self.cell.recordings()} == model.audio
        assert found.waiting == model.counted()
        if self.now().date() == self.day:  # at midnight it begins anew
            assert found.audio == dict(model.heard)

    @invariant()
    def the_list_shows_the_newest_first(self) -> None:
        jobs = sorted((known.job for known in self.model.jobs.values()), key=lambda job: (job.created, job.id))
        assert self.run(self.cell.listed()) == jobs[::-1]
