"""Every key name in Redis.

All are made here, but for three: `lua/full.lua` names one that there never is, and `lua/claim.lua` and
`lua/renew.lua` learn job ids only as they run, or take many at once, and put arq's prefixes before them.
`arq:…` names belong to arq and are listed here because our code touches them. Keys that never expire are
the named list PERSISTENT; any other key without an expiry is a bug (test fixtures look).
"""

from typing import NamedTuple

from retention.job import CustomerTag, JobId, TenantId

DUE = "volant:due"
"""Sorted set of everything somebody must look at: entries of jobs.

A score is the moment at which a job is over, or fails, in unix milliseconds; or, less LOOK and thus below zero, the one
at which somebody looks whether it is still on its way. So what is over never waits behind what is only looked at.
"""

LOOK = 10**13

TENANTS = "volant:tenants"
"""Hash of tenant id to what is known of the tenant. A job is accepted only while its tenant is here."""

API_KEYS = "volant:apikeys"
"""Hash of an API key's public id to its tenant and digest."""

WRAPPED_KEYS = "volant:keys"
"""Hash of `name@version` to a key of the service itself, wrapped by the root."""

TENANT_KEYS = "volant:tenantkeys"
"""Hash of a tenant key's id to its versions, wrapped by the root, and its state."""


ERASURES = "volant:erasures"
"""Hash of what Redis's files may still show of what was erased, see `retention.erasures`."""

EXPIRING = "volant:erasures:expiring"
"""Sorted set of keys that run out by themselves and hold key material, scores the moments in unix milliseconds.

Of what is in DUE and LOG those tell.
"""

OFFER = "volant:offer"
"""What the workers' engine serves."""


class Queue(NamedTuple):
    """The keys of one of arq's queues, and what a job id has before it there: both queues share arq's names."""

    name: str
    """The queue. A waiting entry's score is a small sequence number, a running one's the end of its lease."""

    wake: str
    """List on which idle workers wait. Holds one token at most."""

    sequence: str
    """The last sequence number given to a waiting entry."""

    prefix: str

    def entry(self, id_: JobId) -> str:
        """Return the name of a job's delivery, arq's job id."""
        return self.prefix + id_

    def delivery(self, id_: JobId) -> str:
        """Return the key of what arq delivers."""
        return DELIVERY_PREFIX + self.entry(id_)

    def leftovers(self, id_: JobId) -> list[str]:
        """Return the keys that arq keeps of a job, but for the lease, which is its holder's."""
        return [prefix + self.entry(id_) for prefix in (DELIVERY_PREFIX, RETRY_PREFIX)]

    def lease(self, id_: JobId) -> str:
        """Return the key that names who works on a job."""
        return IN_PROGRESS_PREFIX + self.entry(id_)


RECOGNITION = Queue("volant:queue", "volant:queue:wake", "volant:queue:sequence", "")
NOTIFICATION = Queue("volant:notify", "volant:notify:wake", "volant:notify:sequence", "tell:")

LOG = "volant:logs"
"""Sorted set of the entries of all that is in the request log, scores the ends of its time in unix ms."""

CARETAKER = "volant:caretaker"
"""The lock of the caretaker at work."""

KEYS_TENDED = "volant:tenantkeys:tended"
"""The lock of whoever sees to the dates of tenant keys, and to what is purged."""

KEYS_REWRAPPED = "volant:tenantkeys:rewrapped"
"""The lock of whoever goes on with rotations."""

REGISTRATIONS = "volant:callbacks:*"
"""Hashes of callback URLs, one for each tenant, by `registrations_of`."""

AUDIT = "volant:audit"
"""The stream that is the audit log. A record's id is `number-0`; its fields are the record and its hash."""

AUDIT_ENDS = "volant:audit:ends"
"""Hash of the audit log's `floor` and `head`, attested. The records between the two are in the log."""

PERSISTENT = (
    DUE,
    TENANTS,
    API_KEYS,
    WRAPPED_KEYS,
    TENANT_KEYS,
    ERASURES,
    EXPIRING,
    OFFER,
    LOG,
    AUDIT,
    AUDIT_ENDS,
    *RECOGNITION[:3],
    *NOTIFICATION[:3],
    REGISTRATIONS,
)
"""The keys that may have no expiry, as patterns."""

DELIVERY_PREFIX = "arq:job:"
IN_PROGRESS_PREFIX = "arq:in-progress:"
RETRY_PREFIX = "arq:retry:"


def job(tenant: TenantId, id_: JobId) -> str:
    """Return the key of the hash that is the job."""
    return f"volant:job:{tenant}:{id_}"


def parse_job(key: bytes) -> tuple[TenantId, JobId]:
    """Return whose key `job` made, and of which job."""
    _, _, tenant, id_ = key.decode().split(":")
    return TenantId(tenant), JobId(id_)


def jobs_of(tenant: TenantId) -> str:
    """Return the key of the sorted set of the entries of a tenant's jobs by creation time."""
    return f"volant:jobs:{tenant}"


def jobs_of_customer(tenant: TenantId, customer: CustomerTag) -> str:
    """Return the key of the sorted set of the entries of a customer's jobs by creation time."""
    return f"volant:customer:{tenant}:{customer}"


def erased(tenant: TenantId, customer: CustomerTag | None) -> str:
    """Return the key of the moment at which a customer was last erased, while that can matter to an upload."""
    return f"volant:erased:{tenant}:{customer or ''}"


def logged(tenant: TenantId, id_: JobId) -> str:
    """Return the key of the hash that is a job's entry in the request log."""
    return f"volant:log:{tenant}:{id_}"


def logged_of(tenant: TenantId) -> str:
    """Return the key of the sorted set of the entries of a tenant's logged jobs by creation time."""
    return f"{LOG}:{tenant}"


def logged_of_customer(tenant: TenantId, customer: CustomerTag) -> str:
    """Return the key of the sorted set of the entries of a customer's logged jobs by creation time."""
    return f"{LOG}:{tenant}:{customer}"


def waiting_of(tenant: TenantId) -> str:
    """Return the key of the hash of what waits of a tenant: job ids to `bytes/API key`, and the sums of these.

    `jobs` and `bytes` are the tenant's, `jobs/…` and `bytes/…` those of an API key; what is 0 is not there.
    """
    return f"volant:waiting:{tenant}"


def audio_of(tenant: TenantId) -> str:
    """Return the key of the hash of the milliseconds of audio decoded today: `audio`, and `audio/…` of an API key.

    It expires at the end of the day (UTC).
    """
    return f"volant:audio:{tenant}"


def uploads_of(tenant: TenantId, key: str | None = None) -> str:
    """Return the key of the sorted set of a tenant's uploads under way, or an API key's; scores the ends of leases."""
    return f"volant:uploads:{tenant}" if key is None else f"volant:uploads:{tenant}:{key}"


def bucket_of(rate: str, tenant: TenantId, key: str | None = None) -> str:
    """Return the key of the bucket in which a tenant's requests of a kind are counted, or an API key's."""
    return f"volant:rate:{rate}:{tenant}" if key is None else f"volant:rate:{rate}:{tenant}:{key}"


def registrations_of(tenant: TenantId) -> str:
    """Return the key of the hash of a tenant's callback URLs: the tag of a URL to its sealed registration."""
    return REGISTRATIONS.replace("*", tenant)


def import_token(tenant: TenantId) -> str:
    """Return the key of what a tenant's import token needs, while it is good."""
    return f"volant:importtoken:{tenant}"


def challenges_of(tenant: TenantId) -> str:
    """Return the key of the count of challenges within an hour."""
    return f"volant:challenges:{tenant}"


def entry(tenant: TenantId, id_: JobId, customer: CustomerTag | None) -> str:
    """Return what stands for a job in every set: all that is needed to clear up after it when its record is gone."""
    return f"{tenant}/{id_}/{customer or ''}"


def parse_entry(member: bytes) -> tuple[TenantId, JobId, CustomerTag | None]:
    """Return what `entry` put together."""
    tenant, id_, customer = member.decode().split("/")
    return TenantId(tenant), JobId(id_), CustomerTag(customer) if customer else None
