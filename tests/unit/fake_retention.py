"""What keeps jobs, in memory: the same shape as the real one, for tests of the front alone."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self, cast
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from api.app import create_app
from api.listener import listening
from retention.audit import Audit
from retention.bootstrap import Retention
from retention.denials import Denials
from retention.errors import (
    JobProcessing,
    LimitReached,
    NotFound,
    NothingOffered,
    NotRegistered,
    RetentionError,
)
from retention.job import (
    Callback,
    Event,
    Job,
    JobId,
    Processing,
    RegistrationId,
    Submission,
    TenantId,
    Waiting,
    accept,
    new_job_id,
)
from retention.limits import Count, Limits
from retention.offer import Offer
from retention.settings import Settings
from retention.tenant import Credential, Tenant
from retention.tokens import Token
from tests.recognizers import EMBEDDED

ALICE = TenantId("alice")
KEY = "volant_alice_secret"
TOKEN = "head.claims.signature"
NOW = datetime(2026, 8, 17, 19, 15, 17, 926000, tzinfo=UTC)
WAV = b"RIFF\xff\xff\xff\xffWAVE" + bytes(range(200))


@dataclass
class Accepted:
    """One call of submit."""

    submission: Submission
    audio: bytes
    results_ttl: timedelta
    customer: str | None
    callback: Callback | None
    user_token: str


@dataclass
class FakeJobs:
    """Keeps jobs in a dict. `trouble` is raised by every method, while it is set."""

    kept: dict[tuple[TenantId, JobId], tuple[Job, bytes | None]] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)
    under_way: int = 0
    uploads: list[tuple[Credential, int]] = field(default_factory=list)
    broken_off: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    tokens: dict[JobId, str] = field(default_factory=dict)
    trouble: Exception | None = None

    def keep(self, job: Job, results: bytes | None = None) -> Job:
        """Have a job."""
        self.kept[job.tenant, job.id] = (job, results)
        return job

    @contextlib.asynccontextmanager
    async def upload(self, credential: Credential, *, size: int) -> AsyncIterator[datetime]:
        """Note who began an upload, and what was announced; it began at always the same moment."""
        self.uploads.append((credential, size))
        yield await self.now()

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
        """Take the audio in; whatever it raises is noted and passed on."""
        assert began == NOW
        self.under_way += 1
        try:
            content = b"".join([piece async for piece in audio])
        except BaseException as error:
            self.broken_off.append(type(error).__name__)
            raise
        finally:
            self.under_way -= 1
        self.accepted.append(Accepted(submission, content, results_ttl, customer, callback, user_token))
        job = accept(new_job_id(), credential.tenant, now=NOW, results_ttl=results_ttl, patience=timedelta(days=7))
        self.keep(job)
        return job

    async def look_up(self, tenant: TenantId, job: JobId) -> tuple[Job, bytes | None]:
        """Return what is kept."""
        await self.check()
        if (tenant, job) not in self.kept:
            raise NotFound(job)
        return self.kept[tenant, job]

    async def latest(self, tenant: TenantId) -> list[tuple[Job, str]]:
        """Return the tenant's jobs with their user tokens, the last kept first."""
        await self.check()
        mine = [job for (owner, _), (job, _) in reversed(self.kept.items()) if owner == tenant]
        return [(job, self.tokens.get(job.id, "")) for job in mine]

    async def erase_customer(self, tenant: TenantId, customer: str) -> int:
        """Note whose data was to go."""
        await self.check()
        assert tenant == ALICE
        self.erased.append(customer)
        return 0

    async def now(self) -> datetime:
        """Return always the same moment; the store's clock cannot be read in trouble."""
        await self.check()
        return NOW

    async def delete(self, tenant: TenantId, job: JobId) -> None:
        """Forget a job that nobody works on."""
        if isinstance((await self.look_up(tenant, job))[0], Processing):
            raise JobProcessing(job)
        del self.kept[tenant, job]

    async def check(self) -> None:
        """Raise the trouble."""
        if self.trouble is not None:
            raise self.trouble


@dataclass
class FakeCallbacks:
    """Registers whatever it is asked to. `trouble` is raised while it is set."""

    known: dict[str, str | None] = field(default_factory=dict)
    customers: list[str | None] = field(default_factory=list)
    trouble: RetentionError | None = None

    async def register(
        self, tenant: TenantId, url: str, secret: str | None, *, customer: str | None, began: datetime, at: object
    ) -> bool:
        """Remember the URL; tell whether it is new."""
        del at
        assert (tenant, began) == (ALICE, NOW)
        if self.trouble is not None:
            raise self.trouble
        new = url not in self.known
        self.known[url] = secret
        self.customers.append(customer)
        return new

    async def unregister(self, tenant: TenantId, url: str) -> None:
        """Forget the URL."""
        assert tenant == ALICE
        if url not in self.known:
            raise NotRegistered(url)
        del self.known[url]

    async def subscribe(self, tenant: TenantId, url: str, events: tuple[Event, ...], *, at: object) -> Callback:
        """Return what the record of a job would hold."""
        del at
        assert tenant == ALICE
        if url not in self.known:
            raise NotRegistered(url)
        return Callback(registration=RegistrationId(url), events=events)


@dataclass
class FakeTenants:
    """Knows one key of one tenant. `trouble` is raised while it is set, `reached` when one is counted as it says."""

    tenant: Tenant = field(default_factory=lambda: Tenant(id=ALICE, name="Alice", created=NOW))
    trouble: Exception | None = None
    reached: LimitReached | None = None
    limits: Limits = Limits()  # noqa: RUF009 - it is immutable
    counted: list[Count | None] = field(default_factory=list)

    async def authenticate(self, presented: str, counts: Count | None = None) -> Credential | None:
        """Compare with the one key."""
        if self.trouble is not None:
            raise self.trouble
        return self.admit(counts) if presented == KEY else None

    def admit(self, counts: Count | None) -> Credential:
        """Count a request."""
        self.counted.append(counts)
        if self.reached is not None and counts is not None and self.reached.limit == counts.kind:
            raise self.reached
        return Credential(
            tenant=ALICE,
            key="alice",
            limits=self.limits,
            endpoints=self.tenant.endpoints,
            networks=self.tenant.networks,
        )

    def serve(self, endpoints: Literal["public", "private", "both"] = "both", *networks: str) -> None:
        """Have the tenant served there only."""
        self.tenant = msgspec.structs.replace(self.tenant, endpoints=endpoints, networks=networks)


class FakeAudit:
    """Takes whatever is denied, for `Denials`: a record, and how many it stands for. `trouble` is raised while set."""

    def __init__(self) -> None:
        self.denied: list[tuple[str, str, str, int]] = []
        self.trouble: RetentionError | None = None

    async def write(self, event: str, outcome: str, *, detail: str, source: str, target: str, count: int) -> None:
        """Remember why, where from, what for and how often."""
        assert (event, outcome) == ("volant.access.deny", "denied")
        if self.trouble is not None:
            raise self.trouble
        self.denied.append((detail, source, target, count))


@dataclass
class FakeOffers:
    """Has the offer of the embedded engine, unless another is set."""

    offer: Offer | None = EMBEDDED

    async def current(self) -> Offer:
        """Return the offer."""
        if self.offer is None:
            raise NothingOffered
        return self.offer


@dataclass
class FakePrivileges:
    least: str = "held"


@dataclass
class FakeTokens:
    """Sells one token for the one key; it counts while it is in `good`, and in `expired` for what had begun before."""

    tenants: FakeTenants
    good: set[str] = field(default_factory=lambda: {TOKEN})
    expired: set[str] = field(default_factory=set)

    async def issue(self, presented: str) -> Token | None:
        """Return the token."""
        buyer = await self.tenants.authenticate(presented, Count("tokens"))
        return Token(text=TOKEN, buyer=buyer, expires_in=3600, expiration=1787000000) if buyer else None

    def bought_with(self, presented: str) -> str | None:
        """Know the key of the good ones and the expired ones."""
        return "alice" if presented in self.good | self.expired else None

    async def authenticate(self, presented: str, counts: Count | None = None) -> Credential | None:
        """Compare with the good ones."""
        return self.tenants.admit(counts) if presented in self.good else None

    async def authenticate_again(self, presented: str) -> Credential | None:
        """Compare with the expired ones, too."""
        return self.tenants.admit(None) if presented in self.good | self.expired else None


@dataclass
class Answer:
    """What the API said."""

    status: int
    headers: dict[str, str]
    body: Any


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a bare connection, whatever state it is in."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Api:
    """A listening API over fakes, and one client of it that has the key."""

    def __init__(
        self,
        urls: list[str],
        session: aiohttp.ClientSession,
        *,
        trust: ssl.SSLContext | None,
        jobs: FakeJobs,
        tokens: FakeTokens,
        callbacks: FakeCallbacks,
        offers: FakeOffers,
        audit: FakeAudit,
    ) -> None:
        self.audit = audit
        self.offers = offers
        self.urls = urls
        self.url = urls[0]
        self.trust = trust
        self.jobs = jobs
        self.callbacks = callbacks
        self.tokens = tokens
        self.tenants = tokens.tenants
        self._session = session

    async def ask(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        auth: tuple[str, str] | None = ("apikey", KEY),
        headers: Mapping[str, str] | None = None,
        url: str = "",
    ) -> Answer:
        """Send a request and return the answer, its JSON body decoded; `url` is another than the first listener's."""
        async with self._session.request(
            method,
            URL((url or self.url) + path, encoded=True),  # as it is written, letter by letter
            data=data,
            headers={**(headers or {}), **({"Authorization": aiohttp.encode_basic_auth(*auth)} if auth else {})},
            skip_auto_headers=["Content-Type"],
        ) as response:
            text = await response.text()
            return Answer(response.status, dict(response.headers), json.loads(text) if text else None)

    async def submit(self, query: str = "", data: Any = WAV, **headers: str) -> Answer:
        """Submit audio; `Content_Type="audio/wav"` becomes a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", f"/v1/recognitions{query}", data, headers=named)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a bare connection."""
        parts = urlsplit(self.url)
        secure = self.trust if parts.scheme == "https" else None
        return await asyncio.open_connection(parts.hostname, parts.port, ssl=secure)

    async def talk(self, *pieces: bytes) -> bytes:
        """Send bytes over a bare connection and return all that comes back until it is closed."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        answer = await reader.read()
        await hang_up(writer)
        return answer


@contextlib.asynccontextmanager
async def serving(
    grace: timedelta = timedelta(seconds=5), trust: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Api]:
    """Serve the real application over fakes, on a free port unless `listeners` say more; the client has its `trust`."""
    jobs, tokens, callbacks, offers = FakeJobs(), FakeTokens(FakeTenants()), FakeCallbacks(), FakeOffers()

    @dataclass(frozen=True)
    class Fake:
        jobs: FakeJobs
        tenants: FakeTenants
        tokens: FakeTokens
        callbacks: FakeCallbacks
        offers: FakeOffers
        privileges: FakePrivileges
        denials: Denials

        async def of(self, tenant: TenantId) -> Self:
            """Be the one cell, too."""
            assert tenant == ALICE
            return self

        @property
        def acceptance(self) -> FakeJobs:
            """Take in what is then there."""
            return self.jobs

    audit = FakeAudit()
    denials = Denials(cast("Audit", audit))
    configured = Settings(**(settings if "listeners" in settings else {"port": 0, **settings}))
    fake = Fake(jobs, tokens.tenants, tokens, callbacks, offers, FakePrivileges(), denials)
    app = create_app(configured, cast("Retention", fake))
    async with (
        listening(app, configured.listening(), grace=grace) as urls,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust or True)) as session,
    ):
        yield Api(urls, session, trust=trust, jobs=jobs, tokens=tokens, callbacks=callbacks, offers=offers, audit=audit)
