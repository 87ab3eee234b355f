"""Every key name in Redis.

All are made here, but for two: `lua/claim.lua` and `lua/renew.lua` learn job ids only as they run, or
take many at once, and put arq's prefixes before them. `arq:…` names belong to arq and are listed here
because our code touches them. Keys that never expire are the named list PERSISTENT; any other key
without an expiry is a bug (test fixtures look).
"""

from retention.job import CustomerTag, JobId, TenantId

DUE = "volant:due"
"""Sorted set of everything somebody must look at: entries of jobs, scores in unix milliseconds."""

TENANTS = "volant:tenants"
"""Hash of tenant id to what is known of the tenant. A job is accepted only while its tenant is here."""

API_KEYS = "volant:apikeys"
"""Hash of an API key's public id to its tenant and digest."""

WRAPPED_KEYS = "volant:keys"
"""Hash of `name@version` to a key sealed by the root key."""

QUEUE = "volant:queue"
"""arq's queue. A waiting job's score is a small sequence number, a running one's the end of its lease."""

WAKE = "volant:queue:wake"
"""List on which idle workers wait. Holds one token at most."""

SEQUENCE = "volant:queue:sequence"
"""The last sequence number given to a waiting job."""

CARETAKER = "volant:caretaker"
"""The lock of the caretaker at work."""

PERSISTENT = (DUE, TENANTS, API_KEYS, WRAPPED_KEYS, QUEUE, WAKE, SEQUENCE)
"""The keys that may have no expiry."""

DELIVERY_PREFIX = "arq:job:"
IN_PROGRESS_PREFIX = "arq:in-progress:"
RETRY_PREFIX = "arq:retry:"


def job(tenant: TenantId, id_: JobId) -> str:
    """Return the key of the hash that is the job."""
    return f"volant:job:{tenant}:{id_}"


def jobs_of(tenant: TenantId) -> str:
    """Return the key of the sorted set of the entries of a tenant's jobs by creation time."""
    return f"volant:jobs:{tenant}"


def entry(tenant: TenantId, id_: JobId, customer: CustomerTag | None) -> str:
    """Return what stands for a job in every set: all that is needed to clear up after it when its record is gone."""
    return f"{tenant}/{id_}/{customer or ''}"


def parse_entry(member: bytes) -> tuple[TenantId, JobId, CustomerTag | None]:
    """Return what `entry` put together."""
    tenant, id_, customer = member.decode().split("/")
    return TenantId(tenant), JobId(id_), CustomerTag(customer) if customer else None
