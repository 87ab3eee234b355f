"""What is true once all that broke off has been seen to: nothing lost, nothing back, nothing closed, nothing left."""

from datetime import timedelta
from fnmatch import fnmatchcase

import msgspec

from retention import keyspace
from retention.caretaking import Caretaker
from retention.delivery import RECOGNIZE
from retention.entries import Entry
from retention.errors import AudioMissing, KeyDisabled, KeyRefused, KeyUnavailable, NotFound
from retention.job import ATTEMPTS, Completed, Failed, JobId, TenantId, Unfinished
from retention.keyring import name_of
from retention.keys import COMMON, KeyId, KeyState, TenantKey
from retention.keystore import TenantKeys
from retention.leases import Leases
from retention.registrations import key_in
from retention.seal import Context, Kind, unseal_stream
from retention.store import Stored
from tests.crashes.ledger import CUSTOMER, SECRET, Ledger, Promise, audio_of, results_of, submission_of
from tests.crashes.operations import everything_is_due, told
from tests.crashes.world import World
from tests.integration.cell import HOUR, Cell, ByHand

_NAMES = """
local forever, names = {}, {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  names[#names + 1] = key
  if redis.call('TTL', key) == -1 then
    forever[#forever + 1] = key
  end
  if redis.call('TYPE', key).ok == 'zset' then
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      names[#names + 1] = member
    end
  end
end
return {forever, names}
"""
"""The keys without an expiry, and all that anything is called by."""


class Recovery:
    """Sees to a world after everybody in it has died, and compares it with what was promised."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger

    async def check(self) -> None:
        """Recover, and check on the way. Raises AssertionError."""
        self._cell = await self._world.process(self._ledger.tenant)
        self._keys = TenantKeys(self._cell.redis)
        await self._let_lapse()
        await self._repeat()
        await self._tend()
        await self._adopt()
        await self._each_opens()
        await self._allow()
        await self._tend()
        await self._adopt()
        await self._each_opens(allowed=True)
        await self._keys_are_settled()
        await self._log_opens()
        await self._work()
        await self._each_opens(allowed=True)
        await self._all_has_ended()
        await self._nothing_is_left()

    # What would happen by itself, or by an operator

    async def _let_lapse(self) -> None:
        """End all leases and locks, as time would."""
        redis = self._cell.redis
        async for key in redis.scan_iter(f"{keyspace.IN_PROGRESS_PREFIX}*", count=1000):
            await redis.delete(key)
        await redis.delete(keyspace.CARETAKER, keyspace.KEYS_TENDED)
        for queue in (keyspace.RECOGNITION, keyspace.NOTIFICATION):
            for number, entry in enumerate(await redis.zrangebyscore(queue.name, 10**12, "+inf")):
                await redis.zadd(queue.name, {entry: 10**12 + 1 + number})

    async def _repeat(self) -> None:
        """Do again what was not answered, as whoever asked does."""
        for tenant in self._ledger.deleting:
            try:
                await self._cell.jobs.delete_tenant(tenant)
            except NotFound:
                pass
            for promise in self._of(tenant):
                promise.gone = True
        for tenant in self._ledger.erasing:
            tag = self._cell.keyring.tag(tenant, CUSTOMER)
            await self._cell.jobs.erase_customer(tenant, CUSTOMER)
            for promise in self._of(tenant):
                promise.gone |= promise.customer == tag

    async def _tend(self) -> None:
        caretaker = Caretaker(
            store=self._cell.store,
            audio=self._cell.audio,
            log=self._cell.log,
            keyring=self._cell.keyring,
            queue=self._cell.queue,
            orphan_after=timedelta(0),
        )
        for _ in range(2):
            await self._cell.redis.delete(keyspace.CARETAKER, keyspace.KEYS_TENDED)
            await everything_is_due(self._cell)
            await caretaker.round("t", during=HOUR)
            await self._cell.custody.tend("t")

    async def _allow(self) -> None:
        """Let every key that can be used again be used again."""
        now = await self._keys.now()
        for _ in range(2):
            for key in await self._keys.all():
                assert key.purge_at is None or key.purge_at > now, "a key should be gone by now"
                if key.state is KeyState.SUSPENDED:
                    await self._cell.custody.enable(key.id)
                if key.state is KeyState.DESTROYED and not key.purged:
                    await self._give_back(key)

    async def _give_back(self, key: TenantKey) -> None:
        for material in self._ledger.materials:
            if (await self._cell.custody.get(key.id)).state is KeyState.DESTROYED:
                try:
                    await self._cell.custody.import_material(TenantId(key.id), material)
                except KeyRefused:
                    continue  # it was never brought: the process died before
        if (await self._cell.custody.get(key.id)).state is KeyState.DESTROYED:
            await self._cell.custody.restore(key.id)

    async def _work(self) -> None:
        """Work on everything until nothing is left to do, and tell clients of it."""
        cell = self._cell
        while True:
            leases = Leases(cell.redis, lease=HOUR)
            waiting = await leases.claim(1000, lapsed=True)
            for id_ in waiting:
                await self._work_on(id_, leases)
            leases = Leases(cell.redis, lease=HOUR, queue=keyspace.NOTIFICATION)
            telling = await leases.claim(1000, lapsed=True)
            for entry in telling:
                id_ = JobId(entry.removeprefix(keyspace.NOTIFICATION.prefix))
                if promise := self._ledger.promises.get(id_):
                    await told(cell.of(promise.tenant), self._ledger, promise)
                else:
                    await leases.settle(entry, done=True)  # of a job that its client was not told of
            if not waiting and not telling:
                return
            await self._let_lapse()
            await everything_is_due(cell)
            await cell.caretaker.round("t", during=HOUR)

    async def _work_on(self, id_: JobId, leases: Leases) -> None:
        promise = self._ledger.promises.get(id_)
        if promise is None:
            await leases.settle(id_, done=True)
            return
        cell = self._cell.of(promise.tenant)
        async with cell.holding_of(leases).hold(cell.tenant, id_) as held:
            if held is not None:
                promise.attempts += 1
                assert held.job.attempts <= min(promise.attempts, ATTEMPTS), "an attempt was counted that was none"
                assert held.submission == submission_of(promise.nonce)
                heard = b"".join([piece async for piece in cell.holding.audio(held)])
                assert heard == audio_of(promise.nonce), "the audio is another"
                await cell.holding.finish(held, results_of(promise.nonce))
        await leases.settle(id_, done=True)

    # What must be true

    def _of(self, tenant: TenantId) -> list[Promise]:
        return [promise for promise in self._ledger.promises.values() if promise.tenant == tenant]

    async def _stored(self, tenant: TenantId, id_: JobId) -> Stored | None:
        return await self._cell.store.read(tenant, id_)

    async def _adopt(self) -> None:
        """Find the jobs whose clients were told nothing: from here on they are jobs like any other."""
        async for name in self._cell.redis.scan_iter(keyspace.job(TenantId("*"), JobId("*")), count=1000):
            tenant, id_ = keyspace.parse_job(name)
            if id_ in self._ledger.promises:
                continue
            stored = await self._stored(tenant, id_)
            assert stored is not None
            assert isinstance(stored.job, Unfinished), "a job that was not answered has ended"
            nonce = await self._nonce_in(stored)
            if nonce is None:
                continue
            assert nonce in self._ledger.unanswered, "a job is there that nobody has submitted"
            self._ledger.promises[id_] = Promise(
                tenant=tenant, id=id_, nonce=nonce, customer=stored.job.customer, era=0, may_go=True, attempts=9
            )

    async def _nonce_in(self, stored: Stored) -> str | None:
        """Return whose submission it is; None while its key does not say."""
        unsealed = self._cell.keyring.unseal
        try:
            plain = await unsealed(stored.submission, stored.key, Kind.SUBMISSION, stored.job.tenant, stored.job.id)
        except KeyDisabled:
            return None
        return str(msgspec.json.decode(plain)["keywords"][0])

    async def _each_opens(self, *, allowed: bool = False) -> None:
        """Every job is there and opens, unless it was taken away, or its key is disabled."""
        for promise in self._ledger.promises.values():
            stored = await self._stored(promise.tenant, promise.id)
            assert stored is None or not promise.gone, "a job that was taken away is there"
            assert stored is not None or promise.may_go, "a job is lost"
            if stored is not None:
                await self._opens(promise, stored, allowed=allowed)
        for one in self._ledger.registered.values():
            if one.gone:
                assert await self._cell.registrations.find(one.tenant, one.url) is None, "a registration is there"
            elif not one.may_go:
                try:
                    found = await self._cell.registrations.find(one.tenant, one.url)
                except KeyDisabled:
                    assert not allowed
                    continue
                assert found is not None, "a registration is lost"
                assert found.secret == SECRET

    async def _opens(self, promise: Promise, stored: Stored, *, allowed: bool) -> None:
        job = stored.job
        if isinstance(job, Failed):
            spent = job.reason == "attempts_spent" and promise.attempts >= ATTEMPTS
            unreadable = job.reason == "audio_missing" and promise.may_go
            assert promise.may_fail or spent or unreadable, f"a job failed: {job.reason}"
            assert not promise.completed, "a completed job has failed"
            return
        assert not promise.failed, "a failed job goes on"
        assert isinstance(job, Completed) or not promise.completed, "a completed job goes on"
        id_, number = name_of(stored.key, job.id)
        key = await self._keys.get(id_)
        assert key is not None
        own = await self._keys.get(KeyId(job.tenant))
        usable = all(
            each.state in (KeyState.ACTIVE, KeyState.DEACTIVATED) for each in (key, own) if each is not None
        )
        try:
            found, results = await self._cell.jobs.look_up(job.tenant, job.id)
            data_key = await self._cell.keyring.unwrap(stored.key, job.tenant, job.id)
        except (KeyDisabled, NotFound) as error:
            assert not usable, f"a job does not open: {type(error).__name__} under {id_}@{number}"
            assert not allowed or (own is not None and own.purged), "a job stays closed"
            return
        assert usable, f"a job opens under a key that is {key.state.name}"
        assert found == job
        if isinstance(job, Completed):
            assert results == results_of(promise.nonce)
            return
        assert await self._nonce_in(stored) == promise.nonce
        context = Context(kind=Kind.AUDIO, tenant=job.tenant, job=job.id)
        sealed = self._cell.audio.read(job.tenant, job.id)
        try:
            heard = b"".join([piece async for piece in unseal_stream(data_key, context, sealed)])
        except AudioMissing:
            raise AssertionError("the audio of an unfinished job is lost") from None
        assert heard == audio_of(promise.nonce)

    async def _keys_are_settled(self) -> None:
        """Every key has ended its rotation; nothing is under what is no more, and nothing of a purged key is left."""
        keys = {key.id: key for key in await self._keys.all()}
        tenants = {tenant.id for tenant in await self._cell.tenants.all()}
        assert {id_ for id_ in keys if id_ != COMMON} <= tenants, "a key has outlived its tenant"
        for key in keys.values():
            assert key.settled or key.state is not KeyState.ACTIVE, f"the rotation of {key.id} does not end"
            assert not key.settled or len(key.versions) == 1 or key.purged
        for tenant, name, wrapped in await self._wrapped():
            _is_where_it_belongs(name, wrapped, keys.get(KeyId(tenant)), keys[COMMON])

    async def _wrapped(self) -> list[tuple[str, str, bytes]]:
        """Return every wrapped data key with its tenant and place, found without asking who should know."""
        redis, found = self._cell.redis, []
        async for name in redis.scan_iter("volant:*", count=1000):
            kind, tenant, *_ = name.decode().split(":")[1:]+[""]
            if kind in ("job", "log") and await redis.type(name) == b"hash":
                if wrapped := await redis.hget(name, "key"):
                    found.append((tenant, kind, wrapped))
            elif kind == "callbacks":
                found += [(tenant, kind, key_in(kept)) for kept in await redis.hvals(name)]
        return found

    async def _log_opens(self) -> None:
        """What the request log has is what was said."""
        for logged in await self._cell.log.all():
            promise = self._ledger.promises[logged.job]
            own = await self._keys.get(KeyId(logged.tenant))
            assert not (promise.gone or (own and own.purged)), "what was taken away is in the log"
            opened = await self._cell.log.open(logged.tenant, logged.job)
            assert opened.results == results_of(promise.nonce)
            assert b"".join([piece async for piece in opened.audio]) == audio_of(promise.nonce)

    async def _all_has_ended(self) -> None:
        """Every job was worked on, and everybody was told."""
        for promise in self._ledger.promises.values():
            stored = await self._stored(promise.tenant, promise.id)
            if stored is not None:
                assert isinstance(stored.job, Completed | Failed), "a job is stuck"
                assert not stored.started, "a client was not told that it began"
                assert not stored.ended, "a client was not told that it ended"

    async def _nothing_is_left(self) -> None:
        """What is gone is gone from every place; what is there has an end."""
        await self._tend()
        there = {}
        for promise in self._ledger.promises.values():
            there[promise.id] = await self._stored(promise.tenant, promise.id) is not None
        forever, names = await self._cell.redis.eval(_NAMES, 0)
        for name in map(bytes.decode, forever):
            assert any(fnmatchcase(name, pattern) for pattern in keyspace.PERSISTENT), f"{name} has no end"
        names = [*map(bytes.decode, names), *map(str, self._cell.recordings())]
        for id_, is_there in there.items():
            if not is_there:
                assert not [name for name in names if id_ in name], "something is left of a job that is gone"
        final = {str(promise.id) for promise in self._ledger.promises.values()}
        known = {path.name for path in self._cell.recordings() if ".log" not in path.parts}
        assert not known, f"audio is left: of jobs: {known & final}"


def _is_where_it_belongs(place: str, wrapped: bytes, own: TenantKey | None, common: TenantKey) -> None:
    id_, number = name_of(wrapped, "")
    key = own or common
    assert not key.purged, f"a purged key has left something: a {place} under {id_}@{number}"
    if key.settled:
        assert (id_, number) == (key.id, key.newest.number), f"a {place} is under {id_}@{number}"
    else:
        assert id_ == COMMON or any(number == version.number for version in key.versions)
