"""What must be true of a world in which all that broke off has been seen to."""

from fnmatch import fnmatchcase

import msgspec

from retention import keyspace
from retention.errors import AudioMissing, KeyDisabled, NotFound
from retention.job import ATTEMPTS, Completed, Failed, JobId, TenantId, Unfinished
from retention.keyring import name_of
from retention.keys import COMMON, KeyId, KeyState, TenantKey
from retention.keystore import TenantKeys
from retention.registrations import key_in
from retention.seal import Context, Kind, unseal_stream
from retention.store import Stored
from tests.crashes.ledger import SECRET, Ledger, Promise, audio_of, results_of
from tests.integration.cell import Cell

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


class Truth:
    """Compares a world with what was promised. Raises AssertionError."""

    def __init__(self, cell: Cell, ledger: Ledger) -> None:
        self._cell = cell
        self._ledger = ledger
        self._keys = TenantKeys(cell.redis)

    async def _stored(self, tenant: TenantId, id_: JobId) -> Stored | None:
        return await self._cell.store.read(tenant, id_)

    async def adopt(self) -> None:
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

    async def each_opens(self, *, allowed: bool = False) -> None:
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
        usable = all(each.state in (KeyState.ACTIVE, KeyState.DEACTIVATED) for each in (key, own) if each is not None)
        try:
            found, results = await self._cell.jobs.look_up(job.tenant, job.id)
            data_key = await self._cell.keyring.unwrap(stored.key, job.tenant, job.id)
        except (KeyDisabled, NotFound) as error:
            if usable:
                raise AssertionError(f"a job does not open: {type(error).__name__} under {id_}@{number}") from error
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

    async def keys_are_settled(self) -> None:
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
        redis = self._cell.redis
        found: list[tuple[str, str, bytes]] = []
        async for name in redis.scan_iter("volant:*", count=1000):
            _, kind, tenant, *_ = f"{name.decode()}::".split(":")
            if kind in ("job", "log") and await redis.type(name) == b"hash":
                if wrapped := await redis.hget(name, "key"):
                    found.append((tenant, kind, wrapped))
            elif kind == "callbacks":
                found += [(tenant, kind, key_in(kept)) for kept in await redis.hvals(name)]
        return found

    async def log_opens(self) -> None:
        """Compare what the request log has with what was said."""
        for logged in await self._cell.log.all():
            promise = self._ledger.promises[logged.job]
            assert not promise.gone, "what was taken away is in the log"
            opened = await self._cell.log.open(logged.tenant, logged.job)
            assert opened.results == results_of(promise.nonce)
            assert b"".join([piece async for piece in opened.audio]) == audio_of(promise.nonce)

    async def all_has_ended(self) -> None:
        """Every job was worked on, and everybody was told."""
        for promise in self._ledger.promises.values():
            stored = await self._stored(promise.tenant, promise.id)
            if stored is not None:
                assert isinstance(stored.job, Completed | Failed), "a job is stuck"
                assert not stored.started, "a client was not told that it began"
                assert not stored.ended, "a client was not told that it ended"

    async def nothing_is_left(self) -> None:
        """Look for what is gone in every place, and for the end of what is there."""
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
