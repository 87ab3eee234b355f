"""The model check can fail: whoever breaks a rule on purpose is found out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention import connection, holding, leases, outbox, queue, service, store
from retention.audio_directory import AudioDirectory
from retention.errors import RetentionError
from retention.holding import Held, JobHolding
from retention.job import Completed, Processing, complete
from retention.registrations import Registrations
from retention.store import JobStore
from tests.integration.afterwards import Afterwards
from tests.integration.history import History
from tests.integration.lifecycle import Lifecycle
from tests.integration.machine import Machine
from tests.integration.written import run_written


@dataclass(frozen=True, kw_only=True)
class Lua:
    """A change to the text of a script."""

    script: str
    says: str
    instead: str = ""


SCRIPTS = {
    "a write asks for no revision": Lua(script="write", says="if stored ~= n - 1 then", instead="if false then"),
    "a lost reply is any write of the same revision": Lua(
        script="write", says=" and redis.call('HGET', KEYS[1], 'record') == ARGV[2]"
    ),
    "a lost reply is not recognised": Lua(script="write", says="if stored == n and", instead="if false and"),
    "a job is accepted for nobody": Lua(script="write", says="if n == 1 and", instead="if false and"),
    "a job has no expiry": Lua(script="write", says="redis.call('PEXPIREAT', KEYS[1], ARGV[6])"),
    "a job lives a second longer": Lua(
        script="write",
        says="redis.call('PEXPIREAT', KEYS[1], ARGV[6])",
        instead="redis.call('PEXPIREAT', KEYS[1], ARGV[6] + 1000)",
    ),
    "a list has no expiry": Lua(script="write", says="redis.call('PEXPIREAT', KEYS[i], ARGV[6])"),
    "a job is not looked at again": Lua(script="write", says="redis.call('ZADD', KEYS[2], ARGV[7], ARGV[3])"),
    "a dropped field stays": Lua(script="write", says="redis.call('HDEL', KEYS[1], ARGV[i])"),
    "a removal forgets the job": Lua(script="remove", says="redis.call('DEL', KEYS[i])"),
    "a removal forgets the lists": Lua(
        script="remove", says="for i = hashes + 1, #KEYS - 2 do", instead="for i = hashes + 1, hashes + 1 do"
    ),
    "a removal forgets the customer": Lua(
        script="remove", says="for i = hashes + 1, #KEYS - 2 do", instead="for i = hashes + 1, hashes + 2 do"
    ),
    "a removal forgets what is due": Lua(
        script="remove", says="for i = hashes + 1, #KEYS - 2 do", instead="for i = hashes + 2, #KEYS - 2 do"
    ),
    "an event is not queued": Lua(script="write", says="if ARGV[10] ~= '' then", instead="if false then"),
    "a removal asks for no revision": Lua(script="remove", says="if ARGV[1] ~= '' and", instead="if false and"),
    "a claim gives out ghosts": Lua(
        script="claim", says="if redis.call('EXISTS', 'arq:job:' .. id) == 0 then", instead="if false then"
    ),
    "a claim forgets lapsed leases": Lua(script="claim", says="take('1000000000000', now)"),
    "a lease does not move the job": Lua(
        script="claim",
        says="redis.call('ZADD', KEYS[1], now + ARGV[2], id)",
        instead="redis.call('ZADD', KEYS[1], 5, id)",
    ),
    "anybody ends a lease": Lua(script="settle", says="if owner and owner ~= ARGV[1] then", instead="if false then"),
    "anybody renews a lease": Lua(script="renew", says="local ours = owner == ARGV[1]", instead="local ours = owner"),
}

COUNTING = {
    "waiting jobs have no limit": Lua(script="write", says="return -3", instead="break"),
    "waiting bytes have no limit": Lua(script="write", says="return -4", instead="break"),
    "a key has no limits": Lua(
        script="write", says="for i, owner in ipairs({'', '/' .. ARGV[13]}", instead="for i, owner in ipairs({''}"
    ),
    "a tenant has no limits": Lua(
        script="write",
        says="    if tonumber(redis.call('HGET', KEYS[9]",
        instead="    if owner ~= '' and tonumber(redis.call('HGET', KEYS[9]",
    ),
    "a key is not counted": Lua(
        script="write", says="for _, owner in ipairs({'', '/' .. ARGV[13]}", instead="for _, owner in ipairs({''}"
    ),
    "an ended job waits on": Lua(script="write", says="redis.call('HDEL', KEYS[9], id)"),
    "the bytes of an ended job wait on": Lua(script="write", says="0 - bytes", instead="0"),
    "what waits lives for ever": Lua(script="write", says="redis.call('PEXPIREAT', KEYS[9], ARGV[6])"),
    "a removed job waits on": Lua(script="remove", says="ipairs(bytes and {'', owner} or {})", instead="ipairs({})"),
    "a removed job is not forgotten": Lua(script="remove", says="redis.call('HDEL', waiting, id)"),
    "the bytes of a removed job wait on": Lua(script="remove", says="0 - bytes", instead="0"),
    "nothing is heard": Lua(script="write", says="if ARGV[18] ~= '0' then", instead="if false then"),
    "what is heard lives for ever": Lua(script="write", says="redis.call('PEXPIREAT', KEYS[10],", instead="tostring("),
}

AFTERWARDS_SCRIPTS = {
    "an erased customer is no matter": Lua(script="write", says=">= tonumber(ARGV[8])", instead="< 0"),
    "a told event stays": Lua(script="told", says="redis.call('HDEL', KEYS[6], ARGV[i])"),
    "a told event brings a job back": Lua(
        script="told", says="if redis.call('EXISTS', KEYS[6]) == 1 then", instead="if true then"
    ),
    "the second event is forgotten": Lua(script="told", says=" + redis.call('HEXISTS', KEYS[6], 'ended')"),
    "anybody notes what was told": Lua(
        script="told", says="if redis.call('GET', KEYS[3]) ~= ARGV[1] then", instead="if false then"
    ),
    "dead events are not revived": Lua(script="revive", says="if revived > 0 then", instead="if false then"),
}


def a_held_job_is_deleted(patch: pytest.MonkeyPatch) -> None:
    class Never:
        pass

    patch.setattr(service, "Processing", Never)


def a_finished_job_keeps_its_submission(patch: pytest.MonkeyPatch) -> None:
    write = JobStore.write

    async def forgetful(
        self: JobStore, job: Any, *, now: datetime, sealed: dict[Any, bytes] | None = None, **options: Any
    ) -> None:
        kept = {field: value for field, value in (sealed or {}).items() if value}
        await write(self, job, now=now, sealed=kept, **options)

    patch.setattr(JobStore, "write", forgetful)


def a_late_worker_finishes_all_the_same(patch: pytest.MonkeyPatch) -> None:
    finish = JobHolding.finish

    async def unfenced(self: JobHolding, held: Held, results: bytes, **options: Any) -> Completed:
        stored = await self._store.read(held.job.tenant, held.job.id)
        revision = stored.job.revision if stored else 0
        late = msgspec.structs.replace(held.job, revision=revision)
        return await finish(self, Held(job=late, submission=held.submission, key=held.key), results, **options)

    patch.setattr(JobHolding, "finish", unfenced)


def attempts_have_no_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(holding, "ATTEMPTS", 1000)


def a_stop_counts_as_an_attempt(patch: pytest.MonkeyPatch) -> None:
    def counted(job: Processing) -> Processing:
        return msgspec.structs.replace(job, revision=job.revision + 1, holder="")

    patch.setattr(holding, "hand_back", counted)


def a_result_is_kept_from_the_claim_on(patch: pytest.MonkeyPatch) -> None:
    def early(job: Processing, *, now: datetime) -> Completed:
        return msgspec.structs.replace(complete(job, now=now), expires=job.updated + job.results_ttl)

    patch.setattr(holding, "complete", early)


def a_final_job_keeps_its_audio(patch: pytest.MonkeyPatch) -> None:
    async def kept(*_: object) -> None:
        pass

    patch.setattr(JobHolding, "_drop_audio", kept)


def a_deleted_job_stays_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> None:
        pass

    patch.setattr(queue.JobQueue, "discard", nothing)


def an_old_job_never_fails(patch: pytest.MonkeyPatch) -> None:
    async def not_due(_self: JobStore, _limit: int) -> list[Any]:
        return []

    patch.setattr(JobStore, "due", not_due)


def an_event_comes_with_the_next_write(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store, "event_of", lambda _: None)


def an_erasure_sets_no_fence(patch: pytest.MonkeyPatch) -> None:
    async def nothing(self: JobStore, *_: object, **__: object) -> datetime:
        return await self.now()

    patch.setattr(JobStore, "fence", nothing)


def an_erasure_leaves_the_audio(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        pass

    patch.setattr(AudioDirectory, "remove", nothing)


def an_unregistered_url_is_told_all_the_same(patch: pytest.MonkeyPatch) -> None:
    async def found(self: Registrations, tenant: Any, id_: Any) -> Any:
        return await self._read(tenant, id_.partition("/")[0])

    patch.setattr(Registrations, "get", found)


def the_list_is_oldest_first(patch: pytest.MonkeyPatch) -> None:
    latest = JobStore.latest

    async def reversed_(self: JobStore, tenant: Any) -> list[Any]:
        return (await latest(self, tenant))[::-1]

    patch.setattr(JobStore, "latest", reversed_)


FUNCTIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    a_held_job_is_deleted,
    a_finished_job_keeps_its_submission,
    a_late_worker_finishes_all_the_same,
    attempts_have_no_end,
    a_stop_counts_as_an_attempt,
    a_result_is_kept_from_the_claim_on,
    a_final_job_keeps_its_audio,
    a_deleted_job_stays_in_the_queue,
    an_old_job_never_fails,
    an_event_comes_with_the_next_write,
    the_list_is_oldest_first,
]
AFTERWARDS_FUNCTIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    an_erasure_sets_no_fence,
    an_erasure_leaves_the_audio,
    an_unregistered_url_is_told_all_the_same,
]


def the_model_check_fails(server: RedisServer, histories: type[Lifecycle], patch: pytest.MonkeyPatch) -> None:
    histories.url = server.url
    patch.setattr(Machine, "patience", 3.0)
    with pytest.raises((AssertionError, RetentionError, TimeoutError)):
        check(histories)


def check(histories: type[Lifecycle]) -> None:
    run_written(histories)
    run_state_machine_as_test(
        histories,
        settings=settings(
            max_examples=1000,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


HISTORIES = [
    *((History, name, change) for name, change in {**SCRIPTS, **COUNTING}.items()),
    *((Afterwards, name, change) for name, change in AFTERWARDS_SCRIPTS.items()),
]
RULES = [*((History, rule) for rule in FUNCTIONS), *((Afterwards, rule) for rule in AFTERWARDS_FUNCTIONS)]


@pytest.mark.parametrize(("histories", "breakage", "change"), HISTORIES, ids=[name for _, name, _ in HISTORIES])
def test_a_broken_script_is_found_out(
    histories: type[Lifecycle], breakage: str, change: Lua, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of one script is wrong, and some history shows it."""
    assert change.says in files("retention").joinpath("lua", f"{change.script}.lua").read_text(), breakage

    def broken(redis: Redis, *names: str) -> Any:
        script = connection.script(redis, *names)
        if names[-1] != change.script:
            return script
        return redis.register_script(script.script.replace(change.says, change.instead))

    for module in (store, queue, leases, outbox):
        monkeypatch.setattr(module, "script", broken)
    the_model_check_fails(redis_server, histories, monkeypatch)


@pytest.mark.parametrize(("histories", "breakage"), RULES, ids=[rule.__name__ for _, rule in RULES])
def test_a_broken_rule_is_found_out(
    histories: type[Lifecycle],
    breakage: Callable[[pytest.MonkeyPatch], None],
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One rule in the service is wrong, and some history shows it."""
    breakage(monkeypatch)
    the_model_check_fails(redis_server, histories, monkeypatch)
