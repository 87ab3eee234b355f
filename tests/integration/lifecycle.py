"""The model check, first part: accepting and working, by anybody who ever held a record of the job."""

from datetime import datetime, timedelta
from functools import partial

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from retention.errors import JobProcessing, LimitReached, NotFound, Superseded, TenantGone
from retention.holding import Held
from retention.job import (
    Callback,
    Completed,
    Event,
    Failed,
    Job,
    JobId,
    Processing,
    TenantId,
    Waiting,
    claim,
    complete,
    fail,
    hand_back,
    reclaim,
)
from retention.limits import Limits
from retention.tenant import Credential
from tests.integration.cell import AUDIO, HOUR, RESULTS, SUBMISSION, WEEK, spoken
from tests.integration.machine import USER_TOKEN, Machine
from tests.integration.model import ACCEPTED

MOST_JOBS = 3
"""Few, so that much happens to each of them."""

STORED = st.runner().flatmap(lambda machine: st.sampled_from([known.job for known in machine.model.jobs.values()]))
RECORD = st.runner().flatmap(lambda machine: st.sampled_from(machine.records))
HELD = st.runner().flatmap(lambda machine: st.sampled_from(machine.helds[-5:]))
there_is_room = precondition(lambda machine: len(machine.model.jobs) < MOST_JOBS)
anything_is_stored = precondition(lambda machine: machine.model.jobs)
anybody_has_read = precondition(lambda machine: machine.records)
anybody_holds = precondition(lambda machine: machine.helds)


HEARD = timedelta(seconds=2.5)

EVENTS: list[tuple[Event, ...]] = [
    (),
    ("recognitions.started", "recognitions.completed", "recognitions.failed"),
    ("recognitions.failed",),
]


class Lifecycle(Machine):
    """The life of jobs, from any record that anybody ever held."""

    # Accepting

    @there_is_room
    @rule(
        results_ttl=st.sampled_from([HOUR, WEEK]),
        customer=st.sampled_from([None, "c"]),
        events=st.sampled_from(EVENTS),
        key=st.sampled_from(["k1", "k2"]),
        gone=st.booleans(),
    )
    def submit(
        self, results_ttl: timedelta, customer: str | None, events: tuple[Event, ...], key: str, *, gone: bool
    ) -> None:
        """Submit; first, now and then, for a tenant that is gone."""
        began = self.after_the_erasure()
        submit = partial(
            self.cell.acceptance.submit,
            began=began,
            results_ttl=results_ttl,
            customer=customer,
            callback=Callback(registration=self.registration, events=events) if events else None,
            user_token=USER_TOKEN,
        )
        if gone:
            try:
                self.run(submit(Credential(tenant=TenantId("gone")), SUBMISSION, spoken(AUDIO)))
            except TenantGone:
                pass
            else:
                raise AssertionError("accepted for a tenant that is gone")
        job = self.run(submit(Credential(tenant=self.cell.tenant, key=key), SUBMISSION, spoken(AUDIO)))
        self.model.asked[job.id] = (len(AUDIO), key)
        assert (job.revision, job.updated, job.deadline) == (1, job.created, job.created + WEEK)
        self.model.audio.add(job.id)
        self.model.put(job.id)
        self.written(job, since=began, adds=ACCEPTED | ({"user_token"} if events else set()))

    @rule(
        key=st.sampled_from(["k1", "k2"]),
        quota=st.sampled_from(["waiting", "bytes"]),
        whose=st.sampled_from(["limits", "limits_of_key"]),
    )
    def submit_too_much(self, key: str, quota: str, whose: str) -> None:
        """Submit when as much waits as may, in all or with this key: nothing is left of it."""
        owner = "" if whose == "limits" else f"/{key}"
        waits = int(self.model.counted().get(("jobs" if quota == "waiting" else "bytes") + owner, "0"))
        # The least limit that is none at all is 1: with nothing there, only too many bytes can be too much.
        if not waits and quota == "waiting":
            return
        limits = Limits(**{quota: waits if quota == "waiting" else waits + len(AUDIO) - 1})
        credential = msgspec.structs.replace(Credential(tenant=self.cell.tenant, key=key), **{whose: limits})
        reached = ""
        try:
            self.run(self.cell.submit(credential=credential))
        except LimitReached as error:
            reached = error.limit
        assert reached == quota

    @there_is_room
    @rule(ago=st.sampled_from([HOUR, timedelta(days=8)]))
    def find_an_old_one(self, ago: timedelta) -> None:
        """Begin with a job that was accepted long ago, and that nobody queued."""
        job = self.run(self.cell.deliverable(ago=ago))
        self.model.asked[job.id] = (0, "")
        self.model.write(job, at=(job.created, job.created), adds=ACCEPTED)
        self.records.append(job)

    # Working

    @anything_is_stored
    @rule(record=STORED)
    def deliver(self, record: Job) -> None:
        """Take a job as a delivery does: what that means depends on the stored record alone."""
        began = self.now()
        meaning = self.model.take(record.id)
        held = self.run(self._take(record.id))
        if held is None:
            assert meaning in {"fail", "nothing"}
            if meaning == "fail":
                self._failed(record.id, "attempts_spent", since=began)
            return
        before = self.model.jobs[record.id].job
        assert held.submission == SUBMISSION
        if isinstance(before, Waiting):
            assert meaning == "claim"
            assert held.job == claim(before, now=held.job.updated, holder=held.job.holder)
            assert began <= held.job.updated <= self.now()
        else:
            assert meaning == "reclaim"
            assert isinstance(before, Processing)
            assert held.job == reclaim(before, holder=held.job.holder)
        self.written(held.job, since=began)
        self.helds.append(held)

    async def _take(self, id_: JobId) -> Held | None:
        async with self.cell.holding.hold(self.cell.tenant, id_) as held:
            return held

    def _failed(self, id_: JobId, reason: str, *, since: datetime) -> None:
        """Learn that the service has failed a job by itself."""
        before = self.model.jobs[id_].job
        found = self.run(self.cell.stored(before))
        assert isinstance(found, Failed)
        assert (found.reason, found.revision) == (reason, before.revision + 1)
        self.model.audio.discard(id_)
        self.written(found, since=since, drops=_dropped_by_failure(found))

    @anybody_holds
    @rule(held=HELD, completes=st.booleans())
    def end(self, held: Held, *, completes: bool) -> None:
        """Finish or fail what was held once: it lands only if nothing has happened since."""
        began = self.now()
        current = self.model.current(held.job)
        ended: Completed | Failed
        try:
            if completes:
                ended = self.run(self.cell.holding.finish(held, RESULTS, heard=HEARD))
            else:
                ended = self.run(self.cell.holding.fail(held, "engine", heard=HEARD))
        except Superseded:
            assert not current
            return
        assert current
        self.model.hear(held.job.id, 2500)
        now = ended.updated
        assert began <= now <= self.now()
        assert ended == (complete(held.job, now=now) if completes else fail(held.job, "engine", now=now))
        self.model.audio.discard(held.job.id)
        if completes:
            self.written(ended, since=began, drops=frozenset({"submission"}), adds=frozenset({"result"}))
        else:
            self.written(ended, since=began, drops=_dropped_by_failure(ended))

    @anybody_holds
    @rule(held=HELD)
    def give_back(self, held: Held) -> None:
        """Stop in good order, perhaps too late."""
        began = self.now()
        current = self.model.current(held.job)
        self.run(self.cell.holding._hand_back(held))
        if current:
            self.written(hand_back(held.job), since=began)

    @anybody_has_read
    @rule(record=RECORD, long_ago=st.booleans(), completes=st.booleans())
    def write(self, record: Job, *, long_ago: bool, completes: bool) -> None:
        """Move any record that anybody ever held; what ended long ago is over with that."""
        ends = completes is not isinstance(record, Waiting)  # a notification that was to begin so long ago were dead
        now = self.now() - (2 * WEEK if long_ago and ends else timedelta(0))
        moved: Job
        match record:
            case Waiting():
                moved = claim(record, now=now, holder="h") if completes else fail(record, "engine", now=now)
            case Processing():
                moved = complete(record, now=now) if completes else reclaim(record, holder="h")
            case Completed() | Failed():
                return
        current = self.model.current(record)
        try:
            self.run(self.cell.store.write(moved, now=now))
        except Superseded:
            assert not current
            return
        assert current or self.model.current(moved)
        if current:
            self.model.write(moved, at=(now, now))
            self.records.append(moved)
        if isinstance(moved, Completed | Failed) and long_ago and moved.id in self.model.jobs:
            self.model.expire(moved.id)

    @anybody_has_read
    @rule(record=RECORD)
    def repeat(self, record: Job) -> None:
        """Write a record once more, because the reply was lost: it is the same write, or it is too late."""
        precise = self.model.current(record)
        if not precise and self.model.revision(record.id) == record.revision - 1:
            return  # the first revision of a removed job: ids are never reused
        try:
            self.run(self.cell.store.write(record, now=self.now(), sealed={"key": b"another"}))
        except Superseded:
            assert not precise
            return
        assert precise

    # Ending

    @anything_is_stored
    @rule(record=STORED)
    def delete(self, record: Job) -> None:
        """Delete as a client does: refused while a worker has the job in hand."""
        known = self.model.jobs.get(record.id)
        in_hand = known is not None and isinstance(known.job, Processing) and record.id in self.model.leased
        try:
            self.run(self.cell.jobs.delete(self.cell.tenant, record.id))
        except NotFound:
            assert known is None
        except JobProcessing:
            assert in_hand
        else:
            assert known is not None
            assert not in_hand
            self.model.clear(record.id)


def _dropped_by_failure(job: Job) -> frozenset[str]:
    return frozenset({"submission"} if job.callback else {"submission", "key"})
