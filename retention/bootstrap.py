"""The one place that names the concrete parts and puts them together."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import structlog
from redis.asyncio import Redis

from retention.accepting import JobAcceptance
from retention.audio_stores import open_audio
from retention.audit import Audit
from retention.callbacks import Callbacks
from retention.caretaking import Caretaker
from retention.cell_settings import HOME, CellSettings
from retention.cells import Cell, Cells
from retention.connection import connect, reaching_redis
from retention.custody import Custody
from retention.denials import Denials
from retention.egress import Egress, parse_networks
from retention.erasures import ErasureHorizon
from retention.errors import SettingsError, Unavailable
from retention.holding import JobHolding
from retention.imports import KeyImports
from retention.job import TenantId
from retention.keyring import Keyring
from retention.keyspace import NOTIFICATION
from retention.keystore import TenantKeys
from retention.leases import Leases
from retention.offers import Offers
from retention.outbox import Outbox
from retention.privileges import Privileges, Role
from retention.queue import JobQueue
from retention.quotas import Quotas
from retention.readiness import Readiness
from retention.registrations import Registrations
from retention.request_log import RequestLog
from retention.roots import RootProvider, open_root
from retention.routing import RoutedCallbacks, RoutedJobs, Routes
from retention.service import JobService
from retention.settings import Settings
from retention.store import JobStore
from retention.telling import Telling
from retention.tenancy import Tenancy
from retention.tenants import Tenants
from retention.tokens import Tokens
from retention.wrapped import WrappedKeys

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What a front and an administrator are given: all cells, and what finds its way among them by tenant."""

    cells: Cells
    tenants: Tenants
    tenancy: Tenancy
    tokens: Tokens
    denials: Denials
    privileges: Privileges
    routes: Routes
    jobs: RoutedJobs
    callbacks: RoutedCallbacks

    async def of(self, tenant: TenantId) -> Cell:
        """Return the cell to which a tenant's new jobs go. Raises TenantGone, Unavailable."""
        return await self.routes.of(tenant)


@asynccontextmanager
async def open_retention(settings: Settings, *, role: Literal["api", "admin"]) -> AsyncIterator[Retention]:
    """Open everything that keeps jobs, in all cells, for as long as the block lasts.

    A front waits for the Redis of the home cell, and for no other; an administrator's command fails at once, with
    Unavailable. Raises SettingsError and KeyUnavailable when the root key or the audio store of the home cell
    is not as it must be.
    """
    async with _egress(settings) as egress:
        cell = partial(_open_cell, settings, role=role, egress=egress)

        @asynccontextmanager
        async def another(name: str) -> AsyncIterator[Cell]:
            await _check_apart(settings, name, cells.at_hand())  # first: opening makes the keys of a new cell
            async with cell(name, wait=False) as opened:
                yield opened

        async with (
            cell(HOME, wait=role == "api") as home,
            Cells.around(home, tuple(settings.cells), another) as cells,
        ):
            # How long a job may live on in a cell that its tenant leaves now: an upload that has begun ends, nobody
            # works on it before its key expires, it completes in that moment, and its result is kept.
            life = settings.upload_within + 2 * settings.patience + settings.max_results_ttl
            routes = Routes(cells, life=life)
            if role == "api":
                cells.watch()
            denials = Denials(home.audit)
            try:
                yield Retention(
                    cells=cells,
                    tenants=home.tenants,
                    tenancy=Tenancy(cells),
                    tokens=Tokens(
                        keyring=home.keyring, tenants=home.tenants, store=home.store, life=settings.token_life
                    ),
                    denials=denials,
                    privileges=home.privileges,
                    routes=routes,
                    jobs=RoutedJobs(routes),
                    callbacks=RoutedCallbacks(routes),
                )
            finally:
                await denials.close()


@asynccontextmanager
async def open_own_cell(settings: Settings, *, role: Literal["worker", "notifier"]) -> AsyncIterator[Cell]:
    """Open the one cell that a worker or a notifier serves, when its Redis can be reached. Raises as above."""
    async with (
        _egress(settings) as egress,
        _open_cell(settings, settings.cell, role=role, egress=egress, wait=True) as cell,
    ):
        yield cell


def _egress(settings: Settings) -> Egress:
    return Egress(
        networks=parse_networks(settings.callback_networks),
        loopback=settings.callback_loopback,
        at_once=settings.notifications_at_once,
    )


@asynccontextmanager
async def _open_cell(settings: Settings, name: str, *, role: Role, egress: Egress, wait: bool) -> AsyncIterator[Cell]:
    """Open a cell. With `wait`, its Redis is waited for; else Unavailable is raised."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would put keys and audio on the disk, in clear
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # what was inherited may be more than the kernel lets be set
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual 1024 is for what calls select()
    own = settings.of_cell(name)
    patient = role in ("worker", "notifier")
    async with _root(own) as root, connect(own, retries=0 if patient else 3) as redis:
        audio, logged_audio = open_audio(own)
        await audio.prepare()
        if settings.request_log:
            await logged_audio.prepare()
        await _reach(redis, name, wait=wait)
        store = JobStore(redis, cell=name, rescue_after=settings.rescue_after)
        queue = JobQueue(redis, patience=settings.patience)
        quotas = Quotas(redis)
        keyring = await Keyring.open(redis, root)
        if role in ("admin", "worker"):
            await keyring.make_common()
        audit = Audit(redis, keyring.audit, retention=settings.audit_retention)
        tenants = Tenants(redis, audit, limits=settings.limits())
        registrations = Registrations(redis, keyring, audit, cell=name)
        request_log = RequestLog(
            redis,
            store=store,
            audio=logged_audio,
            keyring=keyring,
            retention=settings.request_log_retention if settings.request_log else None,
        )
        readiness = Readiness(redis, root)
        privileges = Privileges(redis, role=role, named=bool(own.redis_user))
        if role != "admin":
            await privileges.check()
        erasures = ErasureHorizon(redis, rewrite_every=settings.rewrite_every)
        jobs = JobService(
            store=store,
            audio=audio,
            log=request_log,
            audit=audit,
            keyring=keyring,
            queue=queue,
            tenants=tenants,
            registrations=registrations,
            quotas=quotas,
            readiness=readiness,
            upload_within=settings.upload_within,
        )
        acceptance = JobAcceptance(
            store=store,
            audio=audio,
            keyring=keyring,
            queue=queue,
            quotas=quotas,
            jobs=jobs,
            patience=settings.patience,
            upload_within=settings.upload_within,
        )
        leases = Leases(redis, lease=settings.lease)
        notification_leases = Leases(redis, lease=settings.lease, queue=NOTIFICATION)
        try:
            yield Cell(
                name=name,
                acceptance=acceptance,
                jobs=jobs,
                request_log=request_log,
                audit=audit,
                tenants=tenants,
                quotas=quotas,
                registrations=registrations,
                callbacks=Callbacks(
                    registrations=registrations,
                    tenants=tenants,
                    egress=egress,
                    hash_=settings.callback_signature,
                    challenges_per_hour=settings.challenges_per_hour,
                ),
                telling=Telling(
                    store=store,
                    keyring=keyring,
                    tenants=tenants,
                    registrations=registrations,
                    leases=notification_leases,
                    hash_=settings.callback_signature,
                ),
                outbox=Outbox(redis),
                egress=egress,
                holding=JobHolding(store=store, audio=audio, log=request_log, keyring=keyring, leases=leases),
                leases=leases,
                notification_leases=notification_leases,
                caretaker=Caretaker(
                    store=store,
                    audio=audio,
                    log=request_log,
                    audit=audit,
                    keyring=keyring,
                    queue=queue,
                    erasures=erasures,
                    orphan_after=settings.orphan_after,
                ),
                erasures=erasures,
                custody=Custody(
                    keys=TenantKeys(redis),
                    keyring=keyring,
                    wrapped=WrappedKeys(redis),
                    tenants=tenants,
                    store=store,
                    audio=audio,
                    log=request_log,
                    queue=queue,
                    audit=audit,
                ),
                imports=KeyImports(redis, root=root, keys=TenantKeys(redis), tenants=tenants, audit=audit),
                offers=Offers(redis),
                readiness=readiness,
                privileges=privileges,
                keyring=keyring,
                store=store,
                redis=redis,
            )
        finally:
            await acceptance.close()
            await audit.close()


@asynccontextmanager
async def _root(own: CellSettings) -> AsyncIterator[RootProvider]:
    root = await open_root(own)
    try:
        yield root
    finally:
        await root.close()


async def _check_apart(settings: Settings, name: str, others: list[Cell]) -> None:
    """Refuse a cell whose root key opens what another's wraps, or whose Redis is another's, by whatever name."""
    own = settings.of_cell(name)
    async with _root(own) as root, connect(own, retries=3) as redis:
        run_id = await Readiness(redis, root).run_id()
        for other in others:
            with contextlib.suppress(Unavailable):
                if run_id and run_id == await other.readiness.run_id():
                    raise SettingsError(f"redis_url: the cells {other.name} and {name} must not share a Redis")
            with contextlib.suppress(Unavailable):  # a provider that is away keeps nothing else from being found
                if await other.keyring.is_under(root):
                    raise SettingsError(f"root: the cells {other.name} and {name} must not share a root key")


async def _reach(redis: Redis, name: str, *, wait: bool) -> None:
    while True:
        try:
            with reaching_redis():
                await redis.ping()
                return
        except Unavailable as error:
            if not wait:
                raise
            _log.warning("waiting for Redis", cell=name, reason=str(error))
            await asyncio.sleep(1)
