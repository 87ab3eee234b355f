"""The model check, third part: what comes after a job, its notifications and the erasure of its customer."""

from datetime import datetime
from typing import Literal

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from retention import keyspace
from retention.errors import CustomerErased
from retention.job import Failed, JobId
from retention.telling import Notification, Unwanted
from tests.integration.cell import AUDIO
from tests.integration.lifecycle import Lifecycle, there_is_room
from tests.integration.machine import URL, USER_TOKEN, WORKER
from tests.integration.model import ACCEPTED

KILLED = -1
"""What a notifier learns of a receiver when it is killed meanwhile."""


class Afterwards(Lifecycle):
    """Histories in which clients are told and customers are erased, in any order with the work on their jobs."""

    # Erasing

    @rule()
    def begin_an_upload(self) -> None:
        """Begin one for the customer, which may end much later."""
        self.uploads.append(self.after_the_erasure())

    @there_is_room
    @precondition(lambda machine: machine.uploads)
    @rule(which=st.runner().flatmap(lambda machine: st.sampled_from(machine.uploads)))
    def end_an_upload(self, which: datetime) -> None:
        """End one: it is refused if the customer was erased since it began."""
        self.uploads.remove(which)
        since = self.now()
        try:
            job = self.run(self.cell.submit(customer="c", began=which))
        except CustomerErased:
            assert self.model.erased is not None
            assert which <= self.model.erased
            return
        assert self.model.erased is None or which > self.model.erased
        self.model.asked[job.id] = (len(AUDIO), "")
        self.model.audio.add(job.id)
        self.model.put(job.id)
        self.written(job, since=since, adds=ACCEPTED)

    @rule()
    def erase_the_customer(self) -> None:
        """Erase all that is the customer's, whatever is under way."""
        theirs = {id_ for id_, job in self.everything().items() if job.customer}
        erased = self.run(self.cell.jobs.erase_customer(self.cell.tenant, "c"))
        assert erased == len(theirs & self.model.jobs.keys())
        for id_ in theirs:
            self.model.clear(id_)
        self.model.erased = self.now()

    # Telling

    @precondition(lambda machine: machine.model.telling)
    @rule(
        which=st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.model.telling))),
        teller=WORKER,
        status=st.sampled_from([200, 204, 500, None, 410, KILLED]),
    )
    def tell(self, which: JobId, teller: int, status: int | None) -> None:
        """Deliver a notification whose time has come; what the receiver answers, and whether the notifier lives."""
        telling = self.tellings[teller]
        entry = keyspace.NOTIFICATION.entry(which)
        self.run(self.cell.redis.delete(keyspace.IN_PROGRESS_PREFIX + entry))
        self.run(self.cell.redis.zadd(keyspace.NOTIFICATION.name, {entry: 10**12}))
        given = self.run(telling._leases.claim(1, lapsed=False))
        if given != [entry]:
            return  # another one is as much due
        self.model.teller[which] = telling._leases.token
        found = self.run(telling.next(self.cell.tenant, which))
        place = self._place(which)
        known = self.model.jobs.get(which)
        callback = known.job.callback if known else None
        if known is None or place is None or callback is None or callback.registration != self.registration:
            assert found == Unwanted(places=(place,) if place else ())
            self.run(telling.forget(self.cell.tenant, which, found))
            self._told(which, place, keeps=False)
            return
        assert isinstance(found, Notification)
        assert (found.place, found.url) == (place, URL)
        body = msgspec.json.decode(found.body)
        event = "started" if place == "started" else "failed" if isinstance(known.job, Failed) else "completed"
        assert body == {"id": which, "event": f"recognitions.{event}", "user_token": USER_TOKEN}
        if status == KILLED:
            self.sent.append((telling, found))
            return
        self.run(telling.note(found, status))
        self._told(which, place, keeps=status in {500, None}, dies=status == 410)

    @precondition(lambda machine: machine.sent)
    @rule(
        which=st.runner().flatmap(lambda machine: st.sampled_from(range(len(machine.sent)))),
        status=st.sampled_from([200, 500]),
    )
    def tell_late(self, which: int, status: int) -> None:
        """Note what was told long ago: it counts only while nobody else has taken the delivery over."""
        telling, found = self.sent.pop(which)
        ours = self.model.teller.get(found.job) == telling._leases.token
        self.run(telling.note(found, status))
        if ours:
            self._told(found.job, found.place, keeps=status == 500)

    def _place(self, id_: JobId) -> Literal["started", "ended"] | None:
        fields = self.model.jobs[id_].fields if id_ in self.model.jobs else frozenset()
        return "started" if "started" in fields else "ended" if "ended" in fields else None

    def _told(self, id_: JobId, place: str | None, *, keeps: bool, dies: bool = False) -> None:
        """Learn what became of a notification; the delivery goes when there is nothing more to tell."""
        self.model.teller.pop(id_, None)
        if id_ in self.model.jobs and place and not keeps:
            known = self.model.jobs[id_]
            known.fields = (known.fields - {place}) | ({f"dead.{place}"} if dies else set())
        if self._place(id_) is None:
            self.model.telling.discard(id_)

    @precondition(
        lambda machine: any(known.fields & {"dead.started", "dead.ended"} for known in machine.model.jobs.values())
    )
    @rule()
    def replay(self) -> None:
        """Have dead notifications told again."""
        for id_, known in self.model.jobs.items():
            dead = known.fields & {"dead.started", "dead.ended"}
            assert self.run(self.cell.outbox.revive(self.cell.tenant, id_)) == len(dead)
            if dead:
                known.fields = (known.fields - dead) | {field.removeprefix("dead.") for field in dead}
                self.model.telling.add(id_)

    @rule()
    def register_anew(self) -> None:
        """Take the callback URL back and register it again: what was pending is not told any more."""
        assert self.run(self.cell.registrations.remove(self.cell.tenant, URL))
        self.registration = self.run(self._register())
