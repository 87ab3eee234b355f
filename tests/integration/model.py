"""What a cell should hold, as a few dictionaries: the other half of the model check.

Says after every step what Redis and the audio store must contain, without looking at either.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from retention.job import ATTEMPTS, Completed, Failed, Job, JobId, Processing, Waiting
from tests.integration.cell import RESCUE_AFTER, WEEK, milliseconds

ACCEPTED = frozenset({"revision", "record", "key", "submission"})
"""The fields of a job that was just accepted."""


@dataclass(kw_only=True)
class Known:
    """A job as it should be stored; `look` is the least and the greatest moment for its entry in `due`."""

    job: Job
    fields: frozenset[str]
    look: tuple[int, int]

    def expires(self) -> int:
        """Return when the key expires: a final job as promised, an unfinished one a week after its deadline."""
        if isinstance(self.job, Completed | Failed):
            return milliseconds(self.job.updated + self.job.results_ttl)
        return milliseconds(self.job.created + WEEK + WEEK)


@dataclass
class Model:
    """A cell as it should be."""

    jobs: dict[JobId, Known] = field(default_factory=dict)
    expired: dict[JobId, Job] = field(default_factory=dict)
    """Over, and not yet swept: their entries in the list and in `due` may still be there."""

    audio: set[JobId] = field(default_factory=set)
    lapsed: list[JobId] = field(default_factory=list)
    waiting: list[JobId] = field(default_factory=list)
    leased: dict[JobId, str] = field(default_factory=dict)
    telling: set[JobId] = field(default_factory=set)
    """Whose notifications are queued."""

    teller: dict[JobId, str] = field(default_factory=dict)
    """Who has their leases."""

    erased: datetime | None = None
    """When the one customer was erased last."""

    deliveries: list[JobId] = field(default_factory=list)
    asked: dict[JobId, tuple[int, str]] = field(default_factory=dict)
    """The bytes of each job, and the API key that it was submitted with."""

    heard: Counter[str] = field(default_factory=Counter)
    """Milliseconds that were decoded, by `audio` and `audio/…` of a key."""

    def counted(self) -> dict[str, str]:
        """Return what must be counted as waiting: every unfinished job, and the sums of them."""
        sums: Counter[str] = Counter()
        found: dict[str, str] = {}
        for id_, known in self.jobs.items():
            if isinstance(known.job, Waiting | Processing):
                size, key = self.asked[id_]
                found[id_] = f"{size}/{key}"
                for owner in ("", f"/{key}"):
                    sums.update({f"jobs{owner}": 1, f"bytes{owner}": size})
        return found | {name: str(value) for name, value in sums.items()}

    def hear(self, id_: JobId, milliseconds: int) -> None:
        """Count what was decoded for a job that has just ended."""
        _, key = self.asked[id_]
        self.heard.update({"audio": milliseconds, f"audio/{key}": milliseconds})

    def revision(self, id_: JobId) -> int:
        return self.jobs[id_].job.revision if id_ in self.jobs else 0

    def current(self, job: Job) -> bool:
        """Whether this record is the one that is stored: only from it anything can be done."""
        return job.id in self.jobs and self.jobs[job.id].job == job

    def write(
        self,
        job: Job,
        *,
        at: tuple[datetime, datetime],
        drops: frozenset[str] = frozenset(),
        adds: frozenset[str] = frozenset(),
    ) -> None:
        """Store a record that was written between two moments, and all the fields that were there or came with it."""
        before = self.jobs[job.id].fields if job.id in self.jobs else frozenset({"revision", "record"})
        look = (_look(job, at[0]), _look(job, at[1]))
        told = _told(job)
        if told:
            self.telling.add(job.id)
        self.jobs[job.id] = Known(job=job, fields=(before - drops) | adds | told, look=look)

    def expire(self, id_: JobId) -> None:
        self.expired[id_] = self.jobs.pop(id_).job

    def remove(self, id_: JobId) -> None:
        """Forget a job and its entries in the list and in `due`."""
        self.jobs.pop(id_, None)
        self.expired.pop(id_, None)

    def clear(self, id_: JobId) -> None:
        """Forget a job with everything it has anywhere."""
        self.remove(id_)
        self.discard(id_)
        self.telling.discard(id_)
        self.audio.discard(id_)

    def put(self, id_: JobId) -> None:
        """Queue a job, unless it is queued."""
        if id_ not in self.deliveries:
            self.deliveries.append(id_)
        if id_ not in [*self.lapsed, *self.waiting, *self.leased]:
            self.waiting.append(id_)

    def discard(self, id_: JobId) -> None:
        """Take a job out of the queue, lease and all."""
        for places in (self.deliveries, self.lapsed, self.waiting):
            if id_ in places:
                places.remove(id_)
        self.leased.pop(id_, None)

    def lease(self, token: str, most: int) -> list[JobId]:
        """Return who is given out next: lapsed leases, then waiting jobs; ghosts among them go."""
        given: list[JobId] = []
        for places in (self.lapsed, self.waiting):
            while places and len(given) < most:
                id_ = places.pop(0)
                if id_ in self.deliveries:
                    given.append(id_)
                    self.leased[id_] = token
        return given

    def take(self, id_: JobId) -> str:
        """Return what a delivery of the job means."""
        match self.jobs[id_].job if id_ in self.jobs else None:
            case Waiting():
                return "claim"
            case Processing(attempts=attempts):
                return "reclaim" if attempts < ATTEMPTS else "fail"
            case _:
                return "nothing"

    def look_around(self, now: datetime) -> dict[JobId, str]:
        """Make a round of the caretaker; return what it must do with the jobs that are due."""
        due: dict[JobId, str] = {}
        for id_ in list(self.expired):
            self.clear(id_)
        for id_, known in self.jobs.items():
            if isinstance(known.job, Waiting | Processing) and known.look[0] <= milliseconds(now):
                due[id_] = "fail" if known.job.created + WEEK <= now else "rescue"
        return due

    def sweep(self) -> None:
        """Drop the audio that no unfinished job needs."""
        self.audio &= {id_ for id_, known in self.jobs.items() if isinstance(known.job, Waiting | Processing)}


def _told(job: Job) -> frozenset[str]:
    """Return the field of the event that a move to this record is."""
    wanted = job.callback.events if job.callback else ()
    match job:
        case Processing() if job.revision == 2 and "recognitions.started" in wanted:
            return frozenset({"started"})
        case Completed() if "recognitions.completed" in wanted:
            return frozenset({"ended"})
        case Failed() if "recognitions.failed" in wanted:
            return frozenset({"ended"})
        case _:
            return frozenset()


def _look(job: Job, written: datetime) -> int:
    if isinstance(job, Completed | Failed):
        return milliseconds(job.updated + job.results_ttl)
    deadline = job.created + timedelta(days=7)
    look = written + RESCUE_AFTER
    return milliseconds(min(look, deadline) if deadline > written else look)
