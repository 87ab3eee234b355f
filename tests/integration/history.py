"""The model check, second half: ending and queueing, and what must hold after every step."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from retention import keyspace
from retention.entries import entry_of
from retention.errors import NotFound, Superseded
from retention.job import Failed, Job, JobId
from tests.integration.cell import RESCUE_AFTER, RESULTS, milliseconds
from tests.integration.lifecycle import (
    MOST_JOBS,
    RECORD,
    Lifecycle,
    anybody_has_read,
)
from tests.integration.machine import WORKER

LEASED = st.runner().flatmap(lambda machine: st.sampled_from(list(machine.model.leased)))
anything_is_leased = precondition(lambda machine: machine.model.leased)


class History(Lifecycle):
    """Random histories of a cell on a real Redis."""

    lapses = 0

    # Ending

    @anybody_has_read
    @rule(record=RECORD, decided=st.booleans())
    def remove(self, record: Job, *, decided: bool) -> None:
        """Remove the record of a job, decided on what was read once or in any state."""
        stands = self.model.revision(record.id) == record.revision
        try:
            if decided:
                self.run(self.cell.store.remove(record))
            else:
                self.run(self.cell.store.erase(entry_of(record)))
        except Superseded:
            assert decided
            assert not stands
        else:
            assert stands or not decided
            self.model.remove(record.id)

    @precondition(lambda machine: len(machine.model.jobs) == MOST_JOBS)
    @rule()
    def delete_the_tenant(self) -> None:
        """Take everything away at once, whatever is under way, and begin again with another tenant."""
        everything = {*self.model.jobs, *self.model.expired}
        erased = self.run(self.cell.jobs.delete_tenant(self.cell.tenant))
        assert erased == len(everything)
        assert self.run(self.contents()).jobs == {}
        for id_ in everything:
            self.model.clear(id_)
        self.model.audio.clear()
        tenant = self.run(self.cell.tenants.create("next", now=self.now()))
        self.cell = replace(self.cell, tenant=tenant.id)
        self.records.clear()
        self.model.erased = None
        self.model.heard.clear()
        self.uploads.clear()
        self.registration = self.run(self._register())

    @rule()
    def go_round(self) -> None:
        """Let the caretaker do what is due."""
        began = self.now()
        due = self.model.look_around(began)
        self.run(self.cell.redis.delete(keyspace.CARETAKER))
        done = self.run(self.caretaker.round("t", during=timedelta(seconds=1)))
        assert done is not None
        for id_, what in due.items():
            if what == "fail":
                self._failed(id_, "deadline", since=began)
                self.model.discard(id_)
            else:
                self.model.put(id_)
                look = tuple(milliseconds(moment + RESCUE_AFTER) for moment in (began, self.now()))
                self.model.jobs[id_].look = (look[0], look[1])
        self.model.sweep()

    # Queueing

    @rule(worker=WORKER, most=st.sampled_from([1, 100]))
    def lease(self, worker: int, most: int) -> None:
        given = self.run(self.workers[worker].claim(most, lapsed=True))
        assert given == self.model.lease(self.workers[worker].token, most)

    @anything_is_leased
    @rule(id_=LEASED)
    def let_lapse(self, id_: JobId) -> None:
        """Put the end of a lease into the past."""
        self.lapses += 1
        self.run(self.cell.redis.delete(keyspace.IN_PROGRESS_PREFIX + id_))
        self.run(self.cell.redis.zadd(keyspace.RECOGNITION.name, {id_: 10**12 + self.lapses}))
        del self.model.leased[id_]
        self.model.lapsed.append(id_)

    @anything_is_leased
    @rule(id_=LEASED, worker=WORKER)
    def settle(self, id_: JobId, worker: int) -> None:
        """End a lease, one's own or another's."""
        token = self.workers[worker].token
        self.run(self.workers[worker].settle(id_, done=True))
        if self.model.leased[id_] == token:
            self.model.discard(id_)

    @anything_is_leased
    @rule(id_=LEASED, worker=WORKER)
    def renew(self, id_: JobId, worker: int) -> None:
        """Renew a lease, one's own or another's."""
        lost = self.run(self.workers[worker].renew({id_: None}))
        assert lost == (set() if self.model.leased[id_] == self.workers[worker].token else {id_})

    @precondition(lambda machine: machine.model.deliveries)
    @rule(which=st.runner().flatmap(lambda machine: st.sampled_from(machine.model.deliveries)))
    def lose_a_delivery(self, which: JobId) -> None:
        """Make a ghost: a place in the queue without a delivery."""
        self.run(self.cell.redis.delete(keyspace.DELIVERY_PREFIX + which))
        self.model.deliveries.remove(which)

    @anybody_has_read
    @rule(record=RECORD)
    def look_up(self, record: Job) -> None:
        """Read as a client does."""
        known = self.model.jobs.get(record.id)
        try:
            job, results = self.run(self.cell.jobs.look_up(self.cell.tenant, record.id))
        except NotFound:
            assert known is None or (known.job.revision > 2 and "result" not in known.fields)
        else:
            assert known is not None
            assert job == known.job
            assert results == (RESULTS if "result" in known.fields else None)
            assert isinstance(job, Failed) or "submission" not in known.fields or results is None
