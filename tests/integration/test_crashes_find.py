"""The histories of crashes can fail: whoever takes away one guard of the keys on purpose is found out."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from deploy.processes import RedisServer
from retention import connection, holding, keys, keyspace, keystore, registrations, store, wrapped
from retention.custody import Custody
from retention.errors import KeyDisabled, KeyUnavailable
from retention.holding import JobHolding
from retention.job import Processing, TenantId, Unfinished
from retention.keyring import Keyring
from retention.keys import COMMON, KeyId, TenantKey, Version
from retention.keystore import TenantKeys
from retention.request_log import RequestLog
from retention.rotation import Rotation
from retention.shredding import Shredding
from retention.store import JobStore
from retention.wrapped import Wrapped, WrappedKeys
from tests.crashes import campaign as campaigns
from tests.crashes.campaign import OPERATIONS, Campaign
from tests.crashes.world import world
from tests.integration.test_breakages import Lua

Between = tuple[str, str, str]
"""A scene, an operation, and what is done in the middle of it; nothing: it is killed."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script with a guard less, and the histories in which that shows."""

    lua: Lua
    shows: Between


SCRIPTS = {
    "a job is accepted under any key": Script(
        lua=Lua(script="write", says="if n == 1 and ARGV[19] ~= '' and", instead="if false and"),
        shows=("own", "submit", "rotate_and_rewrap"),
    ),
    "a registration is kept under any key": Script(
        lua=Lua(script="register", says="if not may_wrap", instead="if false and not may_wrap"),
        shows=("own", "register", "rotate_and_rewrap"),
    ),
    "a version below the least may wrap": Script(
        lua=Lua(script="wrap", says="tonumber(version) >= key.minimum", instead="true"),
        shows=("own", "submit", "rotate_and_rewrap"),
    ),
    "a key in any state may wrap": Script(
        lua=Lua(script="wrap", says="key.state == 1 and", instead=""), shows=("own", "submit", "destroy_now")
    ),
    "the common key may wrap for everybody": Script(
        lua=Lua(script="wrap", says="id ~= (own and tenant or 'common')", instead="(id ~= tenant and id ~= 'common')"),
        shows=("common", "submit", "create_and_rewrap"),
    ),
    "a rewrapped value takes the place of any": Script(
        lua=Lua(
            script="rewrap", says="if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then", instead="if false then"
        ),
        shows=("own", "rewrap", "delete"),
    ),
    "a key is written onto any revision": Script(
        lua=Lua(script="key", says="if before.revision ~= tonumber(ARGV[2]) - 1 then", instead="if false then"),
        shows=("own", "rewrap", "rotate"),
    ),
    "a key is made for nobody": Script(
        lua=Lua(script="key", says="if ARGV[1] ~= 'common' and", instead="if false and"),
        shows=("common", "create", "delete_tenant"),
    ),
}

Patch = pytest.MonkeyPatch
BREAKAGES: list[tuple[Callable[[Patch], None], Between]] = []


def shows(scene: str, operation: str, meanwhile: str = "") -> Callable[[Callable[[Patch], None]], None]:
    def enter(breakage: Callable[[Patch], None]) -> None:
        BREAKAGES.append((breakage, (scene, operation, meanwhile)))

    return enter


async def _nothing(*_: object, **__: object) -> None:
    pass


@shows("own", "submit", "rotate_and_rewrap")
def a_rotation_does_not_raise_the_minimum(patch: Patch) -> None:
    rotated = keys.rotated

    def low(key: TenantKey, version: Version) -> TenantKey:
        return replace(rotated(key, version), minimum=key.minimum)

    patch.setattr(keys, "rotated", low)


@shows("common", "rotate_common", "create_and_disable")
def it_is_settled_though_something_was_not_brought(patch: Patch) -> None:
    bring = Rotation._bring_all

    async def content(self: Rotation, tenant: TenantId, key: TenantKey, seen: Any) -> bool:
        await bring(self, tenant, key, seen)
        return True

    patch.setattr(Rotation, "_bring_all", content)


def _without(patch: Patch, *places: str) -> None:
    of = WrappedKeys.of

    async def partly(self: WrappedKeys, tenant: Any) -> AsyncIterator[list[Wrapped]]:
        async for page in of(self, tenant):
            yield [each for each in page if each.place not in places]

    patch.setattr(WrappedKeys, "of", partly)


@shows("own", "rewrap")
def versions_go_before_the_log_was_looked_at(patch: Patch) -> None:
    _without(patch, "log")


@shows("own", "rewrap")
def versions_go_before_registrations_were_looked_at(patch: Patch) -> None:
    _without(patch, "registration")


@shows("own", "rewrap", "finish")
def the_log_is_looked_at_before_the_jobs(patch: Patch) -> None:
    of = WrappedKeys.of

    async def reversed_(self: WrappedKeys, tenant: Any) -> AsyncIterator[list[Wrapped]]:
        async for page in self._listed(tenant, "log", keyspace.logged_of(tenant)):
            yield page
        async for page in of(self, tenant):
            yield [each for each in page if each.place != "log"]

    patch.setattr(WrappedKeys, "of", reversed_)


@shows("common", "rewrap", "create")
def the_common_key_forgets_tenants_that_have_their_own(patch: Patch) -> None:
    owners = Rotation.owners

    async def few(self: Rotation, id_: KeyId) -> list[Any]:
        return [each for each in await owners(self, id_) if id_ != COMMON or not await self._keys.get(KeyId(each))]

    patch.setattr(Rotation, "owners", few)


@shows("own", "destroy_now")
def a_purge_forgets_registrations(patch: Patch) -> None:
    patch.setattr(WrappedKeys, "drop", _nothing)


@shows("own", "purge")
def a_purge_forgets_everything(patch: Patch) -> None:
    patch.setattr(Shredding, "shred", _nothing)


@shows("own", "destroy_now", "erase_from_log")
def a_purge_forgets_the_log(patch: Patch) -> None:
    erase = JobStore.erase

    async def partly(self: Any, *entries: Any, **options: Any) -> int:
        logged = [await self._redis.hgetall(keyspace.logged(each.tenant, each.job)) for each in entries]
        listed = [await self._redis.zrange(keyspace.logged_of(each.tenant), 0, -1, withscores=True) for each in entries]
        erased = await erase(self, *entries, **options)
        for each, hash_, members in zip(entries, logged, listed, strict=True):
            if hash_:
                name = keyspace.logged(each.tenant, each.job)
                await self._redis.hset(name, mapping=hash_)
                await self._redis.expire(name, 3600)
                await self._redis.zadd(keyspace.logged_of(each.tenant), dict(members))
                await self._redis.expire(keyspace.logged_of(each.tenant), 3600)
        return erased

    patch.setattr(JobStore, "erase", partly)
    patch.setattr(RequestLog, "erase", _nothing)


@shows("own", "purge", "begin_anew")
def a_late_purge_takes_what_is_newer(patch: Patch) -> None:
    async def late(self: Shredding, key: TenantKey) -> None:
        until = await self._keys.now()
        while entries := await self._store.all_of(TenantId(key.id), until=until):
            await self._store.erase(*entries)

    patch.setattr(Shredding, "shred", late)


@shows("own", "purge", "begin_anew")
def a_late_purge_drops_what_was_registered_anew(patch: Patch) -> None:
    async def blindly(self: WrappedKeys, lost: Wrapped) -> None:
        await self._redis.hdel(lost.hash_, lost.field)

    patch.setattr(WrappedKeys, "drop", blindly)


@shows("own", "destroy_now", "create_again")
def a_new_key_inherits(patch: Patch) -> None:
    create = Custody.create

    async def heir(self: Custody, *args: Any, **options: Any) -> TenantKey:
        with pytest.MonkeyPatch.context() as here:
            here.setattr(Shredding, "shred", _nothing)
            return await create(self, *args, **options)

    patch.setattr(Custody, "create", heir)


@shows("common", "disable", "create")
def what_is_under_the_common_key_does_not_ask_the_own(patch: Patch) -> None:
    usable = Keyring._usable

    async def careless(self: Keyring, stored: bytes, tenant: Any, subject: str) -> Any:
        if stored.startswith(b"common@"):
            return await usable(self, stored, "nobody", subject)  # type: ignore[arg-type]
        return await usable(self, stored, tenant, subject)

    patch.setattr(Keyring, "_usable", careless)


@shows("own", "hold", "disable")
def parking_counts_an_attempt(patch: Patch) -> None:
    take = JobHolding._take

    async def counted(self: JobHolding, tenant: Any, id_: Any, holder: str) -> Any:
        held = await take(self, tenant, id_, holder)
        found = await self._store.read(tenant, id_)
        if held is None and found and isinstance(found.job, Unfinished):
            await self._store.write(holding._taken(found.job, holder, now=found.now), now=found.now)
        return held

    patch.setattr(JobHolding, "_take", counted)


@shows("own", "stop", "disable")
def handing_back_counts_an_attempt(patch: Patch) -> None:
    def counted(job: Processing) -> Processing:
        return replace(job, revision=job.revision + 1, holder="")

    patch.setattr(holding, "hand_back", counted)


@shows("own", "disable", "look_up")
def a_suspended_key_unwraps(patch: Patch) -> None:
    patch.setattr(TenantKey, "reading", lambda _: None)


@shows("own", "submit", "disable")
def a_suspended_key_wraps(patch: Patch) -> None:
    patch.setattr(TenantKey, "wrapping", lambda key, _now: key.newest)


@shows("common", "create")
def a_new_key_has_nothing_to_bring(patch: Patch) -> None:
    created = keys.created
    patch.setattr(keys, "created", lambda *args, **options: replace(created(*args, **options), settled=True))


@shows("own", "purge", "begin_anew")
def numbers_of_versions_come_again(patch: Patch) -> None:
    patch.setattr(
        keys, "next_number", lambda key: max([version.number for version in key.versions], default=0) + 1 if key else 1
    )


@shows("own", "look_up", "rotate_and_rewrap")
def what_was_rewrapped_meanwhile_is_not_looked_for(patch: Patch) -> None:
    patch.setattr(TenantKeys, "wrapping", _nothing)


@shows("own", "purge")
def nothing_is_purged_by_time(patch: Patch) -> None:
    purge = Custody._purge

    async def timeless(self: Custody, key: TenantKey) -> None:
        await purge(self, replace(key, purge_at=None) if key.purge_at else key)

    patch.setattr(Custody, "_purge", timeless)


@shows("own", "disable")
def a_job_of_a_disabled_key_fails(patch: Patch) -> None:
    unwrap = Keyring.unwrap

    async def lost(self: Keyring, *args: Any) -> Any:
        try:
            return await unwrap(self, *args)
        except KeyDisabled as error:
            raise KeyUnavailable("gone") from error

    patch.setattr(Keyring, "unwrap", lost)


@shows("own", "enable")
def a_parked_job_is_never_put_back(patch: Patch) -> None:
    async def never(*_: object) -> bool:
        return False

    patch.setattr(Keyring, "may_unwrap", never)


@shows("imported", "destroy")
def what_the_owner_brought_is_not_given_back(patch: Patch) -> None:
    patch.setattr(keys, "refilled", lambda key, **_: keys._changed(key))


async def the_histories_fail(server: RedisServer, between: Between, patch: Patch) -> None:
    patch.setattr(campaigns, "PATIENCE", 5.0)
    scene, one, other = between
    async with world(server.url) as its:
        campaign = Campaign(its)
        await campaign.set_scenes(scene)
        if other:
            runs = await campaign.interleaved(scene, OPERATIONS[one], OPERATIONS[other])
        else:
            runs = await campaign.killed(scene, OPERATIONS[one])
        for run in runs:
            await campaign.run(run)
            if campaign.failures:
                print(campaign.failures)
                return
    raise AssertionError("nothing has shown it")


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_without_a_guard_is_found_out(
    name: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of one script is wrong, and some history shows it."""
    change = SCRIPTS[name].lua
    assert change.says in files("retention").joinpath("lua", f"{change.script}.lua").read_text()

    def broken(redis: Redis, *names: str) -> Any:
        script = connection.script(redis, *names)
        if change.script not in names:
            return script
        return redis.register_script(script.script.replace(change.says, change.instead))

    for module in (store, registrations, wrapped, keystore):
        monkeypatch.setattr(module, "script", broken)
    await the_histories_fail(redis_server, SCRIPTS[name].shows, monkeypatch)


@pytest.mark.parametrize(("breakage", "between"), BREAKAGES, ids=[breakage.__name__ for breakage, _ in BREAKAGES])
async def test_a_rule_of_the_keys_that_is_broken_is_found_out(
    breakage: Callable[[Patch], None],
    between: Between,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One rule about keys is wrong, and some history shows it."""
    breakage(monkeypatch)
    await the_histories_fail(redis_server, between, monkeypatch)
