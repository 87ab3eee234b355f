"""What is true once all that broke off has been seen to: nothing lost, nothing back, nothing closed, nothing left."""

import contextlib
from datetime import timedelta

from retention import keyspace
from retention.caretaking import Caretaker
from retention.errors import KeyRefused, NotFound
from retention.job import ATTEMPTS, JobId, TenantId
from retention.keys import KeyState, TenantKey
from retention.keystore import TenantKeys
from retention.leases import Leases
from tests.crashes.ledger import CUSTOMER, Ledger, Promise, audio_of, results_of, submission_of
from tests.crashes.operations import everything_is_due, told
from tests.crashes.truth import Truth
from tests.crashes.world import World
from tests.integration.cell import HOUR


class Recovery:
    """Sees to a world after everybody in it has died, and compares it with what was promised."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger

    async def check(self) -> None:
        """Recover, and check on the way. Raises AssertionError."""
        self._cell = await self._world.process(self._ledger.tenant)
        self._keys = TenantKeys(self._cell.redis)
        self._truth = Truth(self._cell, self._ledger)
        await self._let_lapse()
        await self._repeat()
        await self._tend()
        await self._truth.adopt()
        await self._truth.each_opens()
        await self._allow()
        await self._tend()
        await self._truth.adopt()
        await self._truth.each_opens(allowed=True)
        await self._truth.keys_are_settled()
        await self._truth.log_opens()
        await self._work()
        await self._truth.each_opens(allowed=True)
        await self._truth.all_has_ended()
        await self._tend()
        await self._truth.nothing_is_left()

    # What would happen by itself, or by an operator

    async def _let_lapse(self) -> None:
        """End all leases and locks, as time would."""
        redis = self._cell.redis
        async for key in redis.scan_iter(f"{keyspace.IN_PROGRESS_PREFIX}*", count=1000):
            await redis.delete(key)
        await redis.delete(keyspace.CARETAKER, keyspace.KEYS_TENDED, keyspace.KEYS_REWRAPPED)
        for queue in (keyspace.RECOGNITION, keyspace.NOTIFICATION):
            for number, entry in enumerate(await redis.zrangebyscore(queue.name, 10**12, "+inf")):
                await redis.zadd(queue.name, {entry: 10**12 + 1 + number})

    async def _repeat(self) -> None:
        """Do again what was not answered, as whoever asked does."""
        for tenant in self._ledger.deleting:
            with contextlib.suppress(NotFound):
                await self._cell.jobs.delete_tenant(tenant)
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
            audit=self._cell.audit,
            keyring=self._cell.keyring,
            queue=self._cell.queue,
            erasures=self._cell.erasures,
            orphan_after=timedelta(0),
        )
        for _ in range(2):
            await self._cell.redis.delete(keyspace.CARETAKER, keyspace.KEYS_TENDED, keyspace.KEYS_REWRAPPED)
            await everything_is_due(self._cell)
            await caretaker.round("t", during=HOUR)
            await self._cell.custody.tend("t")
            await self._cell.custody.rotation.go_on("t")

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

    def _of(self, tenant: TenantId) -> list[Promise]:
        return [promise for promise in self._ledger.promises.values() if promise.tenant == tenant]
