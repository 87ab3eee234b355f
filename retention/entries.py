"""What sets say of jobs, and where: all that is needed to clear up after one whose record is gone."""

from typing import NamedTuple

from msgspec import Struct

from retention import keyspace
from retention.job import CustomerTag, Job, JobId, TenantId


class Entry(Struct, frozen=True, kw_only=True):
    """What a set says of a job, whose record may be gone."""

    tenant: TenantId
    job: JobId
    customer: CustomerTag | None


class Due(NamedTuple):
    """Entries at which somebody must look now, the most overdue first."""

    over: list[Entry]
    """Those of jobs that are over, or past their deadline."""
    looks: list[Entry]
    """Those of jobs that may have been lost on their way."""


def entry_of(job: Job) -> Entry:
    """Return the entry that stands for a job."""
    return Entry(tenant=job.tenant, job=job.id, customer=job.customer)


def parse(text: bytes) -> Entry:
    """Return the entry that `member` wrote down."""
    tenant, job, customer = keyspace.parse_entry(text)
    return Entry(tenant=tenant, job=job, customer=customer)


def member(entry: Entry) -> str:
    """Return the entry as it stands in every set."""
    return keyspace.entry(entry.tenant, entry.job, entry.customer)


def lists(entry: Entry) -> list[str]:
    """Return the keys of the lists that name a job."""
    of_customer = [keyspace.jobs_of_customer(entry.tenant, entry.customer)] if entry.customer else []
    return [keyspace.jobs_of(entry.tenant), *of_customer]


def logged_lists(entry: Entry) -> list[str]:
    """Return the keys of the lists of the request log that name a job."""
    of_customer = [keyspace.logged_of_customer(entry.tenant, entry.customer)] if entry.customer else []
    return [keyspace.LOG, keyspace.logged_of(entry.tenant), *of_customer]


def places_of(entry: Entry) -> list[str]:
    """Return the key of a job, and then those of all sets that name it."""
    return [keyspace.job(entry.tenant, entry.job), keyspace.DUE, *lists(entry)]


def everywhere(entry: Entry) -> list[str]:
    """Return the places of a job and those of the request log, the two hashes first."""
    job, *places = places_of(entry)
    return [job, keyspace.logged(entry.tenant, entry.job), *places, *logged_lists(entry)]
