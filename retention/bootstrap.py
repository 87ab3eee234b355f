"""The one place that names the concrete parts and puts them together."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from redis.asyncio import Redis

from retention.audio import AudioStore, LoggedAudio
from retention.audio_directory import AudioDirectory
from retention.audit import Audit
from retention.callbacks import Callbacks
from retention.caretaking import Caretaker
from retention.connection import connect, reaching_redis
from retention.custody import Custody
from retention.denials import Denials
from retention.egress import Egress, parse_networks
from retention.erasures import ErasureHorizon
from retention.errors import SettingsError, Unavailable
from retention.holding import JobHolding
from retention.imports import KeyImports
from retention.keyring import Keyring
from retention.keyspace import NOTIFICATION
from retention.keystore import TenantKeys
from retention.leases import Leases
from retention.log import failure
from retention.logged_directory import LoggedDirectory
from retention.offers import Offers
from retention.outbox import Outbox
from retention.privileges import Privileges, Role
from retention.queue import JobQueue
from retention.quotas import Quotas
from retention.readiness import Readiness
from retention.registrations import Registrations
from retention.request_log import RequestLog
from retention.roots import open_root
from retention.service import JobService
from retention.settings import Settings
from retention.store import JobStore
from retention.telling import Telling
from retention.tenants import Tenants
from retention.tokens import Tokens
from retention.wrapped import WrappedKeys

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What a process is given."""

    jobs: JobService
    request_log: RequestLog
    audit: Audit
    denials: Denials
    tenants: Tenants
    quotas: Quotas
    registrations: Registrations
    callbacks: Callbacks
    telling: Telling
    outbox: Outbox
    egress: Egress
    tokens: Tokens
    holding: JobHolding
    leases: Leases
    notification_leases: Leases
    caretaker: Caretaker
    erasures: ErasureHorizon
    custody: Custody
    imports: KeyImports
    offers: Offers
    readiness: Readiness
    privileges: Privileges
    redis: Redis


@asynccontextmanager
async def open_retention(settings: Settings, *, role: Role) -> AsyncIterator[Retention]:
    """Open everything that keeps jobs, for as long as the block lasts.

    A service waits for Redis; an administrator's command fails at once, with Unavailable. Raises
    SettingsError and KeyUnavailable when the root key or the audio store is not as it must be.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would put keys and audio on the disk, in clear
    root = await open_root(settings)
    audio, logged_audio = open_audio(settings)
    await audio.prepare()
    if settings.request_log:
        await logged_audio.prepare()
    egress = Egress(
        networks=parse_networks(settings.callback_networks),
        loopback=settings.callback_loopback,
        at_once=settings.notifications_at_once,
    )
    patient = role in ("worker", "notifier")
    async with AsyncExitStack() as stack, egress, connect(settings, retries=0 if patient else 3) as redis:
        stack.push_async_callback(root.close)
        await _reach(redis, wait=role != "admin")
        store = JobStore(redis, rescue_after=settings.rescue_after)
        queue = JobQueue(redis, patience=settings.patience)
        quotas = Quotas(redis)
        keyring = await Keyring.open(redis, root)
        audit = await open_audit(redis, keyring, retention=settings.audit_retention)
        denials = Denials(audit)
        tenants = Tenants(redis, audit, limits=settings.limits())
        registrations = Registrations(redis, keyring, audit)
        request_log = RequestLog(
            redis,
            store=store,
            audio=logged_audio,
            keyring=keyring,
            retention=settings.request_log_retention if settings.request_log else None,
        )
        readiness = Readiness(redis)
        privileges = Privileges(redis, role=role, named=bool(settings.redis_user))
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
            patience=settings.patience,
            upload_within=settings.upload_within,
        )
        leases = Leases(redis, lease=settings.lease)
        notification_leases = Leases(redis, lease=settings.lease, queue=NOTIFICATION)
        yield Retention(
            jobs=jobs,
            request_log=request_log,
            audit=audit,
            denials=denials,
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
            tokens=Tokens(keyring=keyring, tenants=tenants, store=store, life=settings.token_life),
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
            redis=redis,
        )
        await jobs.close()
        await denials.close()


async def open_audit(redis: Redis, keyring: Keyring, *, retention: timedelta) -> Audit:
    """Return the cell's audit log, begun if its key is new. Raises Unavailable."""
    audit = Audit(redis, keyring.audit, retention=retention)
    if keyring.audit_is_new:
        await audit.begin()
    return audit


def open_audio(settings: Settings) -> tuple[AudioStore, LoggedAudio]:
    """Return where the audio of jobs is, and that of the request log. Raises SettingsError."""
    if settings.is_audio_in_directory:
        return AudioDirectory(Path(settings.audio)), LoggedDirectory(Path(settings.audio))
    try:
        from retention.audio_objects import AudioObjects, LoggedObjects  # noqa: PLC0415 - their library is an extra
        from retention.bucket import open_bucket  # noqa: PLC0415 - likewise
    except ImportError:
        raise SettingsError("audio: object stores need an extra: pip install 'volant[object-store]'") from None
    bucket = open_bucket(settings.audio, settings.audio_credentials_file)
    return AudioObjects(bucket), LoggedObjects(bucket)


async def _reach(redis: Redis, *, wait: bool) -> None:
    while True:
        try:
            with reaching_redis():
                await redis.ping()
                return
        except Unavailable as error:
            if not wait:
                raise
            _log.warning("waiting for Redis", **failure(error))
            await asyncio.sleep(1)
