"""What clients, workers and operators were promised so far: what has to be true however it went on."""

from copy import copy
from dataclasses import dataclass, field

from retention.holding import Held
from retention.job import CustomerTag, JobId, Media, RegistrationId, Submission, TenantId, Waiting
from retention.seal import Key

CUSTOMER = "c"
URL = "https://receiver.example/hook"
SECRET = "a secret"


def submission_of(nonce: str) -> Submission:
    """Return what is asked for with a nonce; the log may keep it."""
    return Submission(
        media=Media(type="audio/wav", rate=16000),
        model="en-US_Multimedia",
        keywords=(nonce,),
        learning_opt_out=False,
    )


def audio_of(nonce: str) -> bytes:
    return b"RIFF of what is said in " + nonce.encode()


def results_of(nonce: str) -> bytes:
    return b'{"results":["%s"],"result_index":0}' % nonce.encode()


@dataclass(kw_only=True)
class Promise:
    """One accepted job, all of whose content follows from its nonce."""

    tenant: TenantId
    id: JobId
    nonce: str
    customer: CustomerTag | None
    era: int
    """Accepted under its tenant's so-manieth key."""
    registration: RegistrationId | None = None
    """Who is to be told of it."""
    gone: bool = False
    """A removal has returned: it must not be anywhere."""
    may_go: bool = False
    """A removal has begun."""
    completed: bool = False
    failed: bool = False
    """Whoever ended it so was told that this stands."""
    may_fail: bool = False
    attempts: int = 0
    """How often a worker has taken it, or may have."""


@dataclass(kw_only=True)
class Registered:
    """One callback URL."""

    tenant: TenantId
    id: RegistrationId
    url: str
    era: int
    gone: bool = False
    may_go: bool = False


@dataclass(kw_only=True)
class Ledger:
    """All that was promised in one history."""

    tenant: TenantId
    """Whose jobs and key things are done to."""
    promises: dict[JobId, Promise] = field(default_factory=dict)
    labels: dict[str, JobId] = field(default_factory=dict)
    helds: dict[JobId, Held] = field(default_factory=dict)
    registered: dict[tuple[TenantId, str], Registered] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    """Nonces of submissions that nobody was told of: whole, or not there."""
    eras: dict[TenantId, int] = field(default_factory=dict)
    materials: list[Key] = field(default_factory=list)
    """What owners have brought."""
    dismissed: set[TenantId] = field(default_factory=set)
    """Tenants that a deletion of has begun."""
    deleting: set[TenantId] = field(default_factory=set)
    """Those of them whose deletion has not been answered: it is to be repeated."""
    purging: set[TenantId] = field(default_factory=set)
    """Tenants whose keys' grace period has ended."""
    erasing: set[TenantId] = field(default_factory=set)
    """Tenants of which an erasure of CUSTOMER has not been answered: it is to be repeated."""
    unlogged: bool = False
    """Something was taken out of the request log."""
    nonces: int = 0
    removing: int = 0
    """How many removals are under way, or have broken off."""
    taken_away: int = 0
    """How many removals of more than one job have begun or ended."""

    def copy(self) -> "Ledger":
        """Return another, to go on from here."""
        mine = copy(self)
        mine.promises = {id_: copy(promise) for id_, promise in self.promises.items()}
        mine.registered = {name: copy(one) for name, one in self.registered.items()}
        mine.labels, mine.helds, mine.eras = dict(self.labels), dict(self.helds), dict(self.eras)
        mine.unanswered, mine.materials = set(self.unanswered), list(self.materials)
        mine.dismissed, mine.deleting = set(self.dismissed), set(self.deleting)
        mine.erasing, mine.purging = set(self.erasing), set(self.purging)
        return mine

    def nonce(self) -> str:
        self.nonces += 1
        return f"nonce-{self.nonces}."

    def era(self, tenant: TenantId) -> int:
        return self.eras.get(tenant, 0)

    def labelled(self, label: str) -> Promise:
        return self.promises[self.labels[label]]

    def accept(
        self, job: Waiting, nonce: str, *, era: int, may_go: bool, registration: RegistrationId | None
    ) -> Promise:
        promise = Promise(
            tenant=job.tenant,
            id=job.id,
            nonce=nonce,
            customer=job.customer,
            era=era,
            registration=registration,
            may_go=may_go or job.tenant in self.dismissed,
        )
        self.unanswered.discard(nonce)
        self.promises[job.id] = promise
        return promise

    def wants_to_know(self, promise: Promise) -> bool:
        """Tell whether there is somebody who has to be told of a job."""
        known = [one for one in self.registered.values() if one.id == promise.registration]
        return not promise.may_go and any(not one.may_go for one in known)

    def take_away(self, tenant: TenantId, *, era: int, customer: CustomerTag | None = None, done: bool = False) -> None:
        """Learn that a removal of a tenant's, or of a customer's, is under way, or that it is done."""
        self.taken_away += 1
        everything: list[Promise | Registered] = [*self.promises.values(), *self.registered.values()]
        for one in everything:
            if one.tenant != tenant or one.era > era:
                continue
            if customer and isinstance(one, Promise) and one.customer != customer:
                continue
            if customer and isinstance(one, Registered):
                continue
            one.gone = one.gone or (done and one.may_go)
            one.may_go = True
