"""What Redis holds of a cell, all of it, as of one moment."""

from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from retention import keyspace
from retention.job import CustomerTag, JobId, TenantId
from tests.integration.cell import moment_of

_LOOK = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local jobs = {}
local forever = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local before = now()
  local left = redis.call('PTTL', key)
  if left == -1 then
    forever[#forever + 1] = key
  end
  if string.sub(key, 1, #ARGV[1]) == ARGV[1] then
    jobs[#jobs + 1] = {key, before + left, now() + left, redis.call('HGETALL', key)}
  end
end
return {
  jobs,
  forever,
  redis.call('ZREVRANGE', KEYS[1], 0, -1),
  redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', KEYS[3], 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', KEYS[4], 0, -1),
  redis.call('ZRANGE', KEYS[5], 0, -1),
  redis.call('HGETALL', KEYS[6]),
  redis.call('HGETALL', KEYS[7]),
}
"""


class Found(Struct, kw_only=True):
    """A job's hash, and the least and the greatest moment at which it expires by what PTTL said."""

    fields: dict[str, bytes]
    expires: tuple[int, int]


class Contents(Struct, kw_only=True):
    """Everything. Times are unix milliseconds."""

    jobs: dict[JobId, Found]
    forever: set[str]
    listed: list[JobId]
    due: dict[str, int]
    queue: dict[JobId, float]
    telling: set[JobId]
    of_customer: set[JobId]
    waiting: dict[str, str]
    """What is counted as waiting: jobs, and sums."""
    audio: dict[str, int]
    """Milliseconds of audio that were decoded today."""


async def contents(redis: Redis, tenant: TenantId, customer: CustomerTag) -> Contents:
    """Look at everything at once."""
    prefix = keyspace.job(tenant, JobId(""))
    queues = (keyspace.RECOGNITION.name, keyspace.NOTIFICATION.name)
    lists = (keyspace.jobs_of(tenant), keyspace.DUE, *queues, keyspace.jobs_of_customer(tenant, customer))
    counts = (keyspace.waiting_of(tenant), keyspace.audio_of(tenant))
    looked = await redis.eval(_LOOK, 7, *lists, *counts, prefix)
    jobs, forever, listed, due, queue, telling, of_customer, waiting, audio = looked
    return Contents(
        jobs={
            JobId(key.decode().removeprefix(prefix)): Found(
                fields={name.decode(): value for name, value in _pairs(fields)}, expires=(least, greatest)
            )
            for key, least, greatest, fields in jobs
        },
        forever={key.decode() for key in forever},
        listed=[keyspace.parse_entry(member)[1] for member in listed],
        due={member.decode(): moment_of(float(score)) for member, score in _pairs(due)},
        queue={JobId(id_.decode()): float(score) for id_, score in _pairs(queue)},
        telling={JobId(entry.decode().removeprefix(keyspace.NOTIFICATION.prefix)) for entry in telling},
        of_customer={keyspace.parse_entry(member)[1] for member in of_customer},
        waiting={name.decode(): value.decode() for name, value in _pairs(waiting)},
        audio={name.decode(): int(value) for name, value in _pairs(audio)},
    )


def _pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
