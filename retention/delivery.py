"""What a queue holds: arq's format, with ids only, in JSON on both sides.

arq's default, pickle, would let whoever can write to Redis run code in the workers. Nothing but a
function's name, a tenant and a job id is delivered; what becomes of a delivery is decided on the record.
"""

from typing import Any

import msgspec
from arq.jobs import serialize_job

from retention import keyspace
from retention.job import JobId, TenantId

RECOGNIZE = "recognize"
"""The name of the workers' function."""

NOTIFY = "notify"
"""The name of the notifier's function."""

_FUNCTIONS = {keyspace.RECOGNITION: RECOGNIZE, keyspace.NOTIFICATION: NOTIFY}


def dumps(value: dict[str, Any]) -> bytes:
    """Serialise a delivery (arq's `job_serializer`)."""
    return msgspec.json.encode(value)


def loads(body: bytes) -> dict[str, Any]:
    """Deserialise a delivery (arq's `job_deserializer`)."""
    return msgspec.json.decode(body, type=dict[str, Any])


def delivery(queue: keyspace.Queue, tenant: TenantId, job: JobId) -> bytes:
    """Return what arq delivers to the function of this queue."""
    body: bytes = serialize_job(_FUNCTIONS[queue], (tenant, job), {}, None, 0, serializer=dumps)
    return body
