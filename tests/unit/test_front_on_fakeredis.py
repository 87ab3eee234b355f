"""The front over the real parts that keep jobs, on a Redis in this process: quick, and without a server.

What is about Redis itself is tested on a real one: durability, expiry, outages and readiness.
"""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from api.app import create_app
from api.listener import listening
from retention import bootstrap, keyspace
from retention.errors import KeyUnavailable, SettingsError
from retention.settings import Settings
from tests.recognizers import EMBEDDED
from tests.unit.fake_retention import WAV


@dataclass(frozen=True)
class Front:
    """A listening API, and what keeps its jobs."""

    retention: bootstrap.Retention
    session: aiohttp.ClientSession

    async def new_key(self) -> str:
        """Return a key of a new tenant."""
        now = await self.retention.cells.home.jobs.now()
        tenant = await self.retention.tenants.create("test", now=now)
        return await self.retention.tenants.create_key(tenant.id, now=now)

    async def ask(self, method: str, key: str, job: str = "", *, audio: Any = None) -> tuple[int, Any]:
        """Return status and body."""
        async with self.session.request(
            method,
            f"/v1/recognitions/{job}".rstrip("/"),
            data=io.BytesIO(audio) if isinstance(audio, bytes) else audio,
            headers={
                "Authorization": aiohttp.encode_basic_auth("apikey", key),
                "X-Watson-Metadata": "customer_id=somebody",
            },
        ) as response:
            return response.status, await response.json() if response.status != 204 else None


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> FakeAsyncRedis:
    """Give a client of the empty Redis that every process of the test connects to."""
    server = FakeServer()
    monkeypatch.setattr(bootstrap, "connect", lambda *_, **__: FakeAsyncRedis(server=server))
    return FakeAsyncRedis(server=server)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Give the settings of a first start."""
    return Settings(root_key_file=tmp_path / "root.key", create_root_key=True, audio=str(tmp_path / "audio"), port=0)


@asynccontextmanager
async def fronting(settings: Settings) -> AsyncIterator[Front]:
    """Serve the application on a free port, put together as in production."""
    async with (
        bootstrap.open_retention(settings, role="api") as retention,
        listening(create_app(settings, retention), settings.listening(), grace=timedelta(seconds=5)) as [url],
        aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=60)) as session,
    ):
        await retention.cells.home.keyring.make_common()  # this, and the offer, is what a worker does
        await retention.cells.home.offers.publish(EMBEDDED)
        yield Front(retention, session)


def recordings(settings: Settings) -> list[Path]:
    return [path for path in Path(settings.audio).rglob("*") if path.is_file()]


async def test_a_job_lives_from_its_submission_to_its_deletion(redis: FakeAsyncRedis, settings: Settings) -> None:
    """It is listed and shown once it is accepted; deleted, it is gone from every answer, from Redis and from disk."""
    async with fronting(settings) as front:
        key = await front.new_key()
        status, created = await front.ask("POST", key, audio=WAV)
        assert (status, created["status"]) == (201, "waiting")
        id_ = created["id"]
        _, listed = await front.ask("GET", key)
        assert [(job["id"], job["status"]) for job in listed["recognitions"]] == [(id_, "waiting")]
        status, checked = await front.ask("GET", key, id_)
        assert (status, checked["id"], checked["created"]) == (200, id_, created["created"])
        assert [path.name for path in recordings(settings)] == [id_]
        assert await redis.zrange(keyspace.RECOGNITION.name, 0, -1) == [id_.encode()]

        assert await front.ask("DELETE", key, id_) == (204, None)
        assert [(await front.ask(method, key, id_))[0] for method in ("GET", "DELETE")] == [404, 404]
        assert await front.ask("GET", key) == (200, {"recognitions": []})
        assert recordings(settings) == []
        left = {name for name in await redis.keys() if not name.startswith(b"volant:rate:")}
        assert left <= {name.encode() for name in keyspace.PERSISTENT}
        assert (await redis.zcard(keyspace.RECOGNITION.name), await redis.zcard(keyspace.DUE)) == (0, 0)


@pytest.mark.usefixtures("redis")
async def test_a_key_opens_its_own_tenants_jobs_until_it_is_revoked(settings: Settings) -> None:
    """A wrong or revoked key is 401; another tenant's is good, and finds nothing."""
    async with fronting(settings) as front:
        key, anothers = await front.new_key(), await front.new_key()
        _, created = await front.ask("POST", key, audio=WAV)
        assert (await front.ask("GET", f"{key}x", created["id"]))[0] == 401
        assert (await front.ask("GET", anothers, created["id"]))[0] == 404
        assert (await front.ask("GET", key, created["id"]))[0] == 200
        await front.retention.tenants.revoke(key.split("_")[1])
        assert (await front.ask("GET", key, created["id"]))[0] == 401


async def test_a_key_that_is_revoked_during_an_upload_makes_no_job(redis: FakeAsyncRedis, settings: Settings) -> None:
    """An upload may take long: it is the key's state at its end that counts, and then nothing is left."""
    async with fronting(settings) as front:
        key = await front.new_key()

        async def interrupted() -> AsyncIterator[bytes]:
            yield WAV
            await front.retention.tenants.revoke(key.split("_")[1])
            yield WAV

        assert (await front.ask("POST", key, audio=interrupted()))[0] == 401
    assert recordings(settings) == []
    assert await redis.keys("volant:job:*") == []


async def test_a_later_start_finds_the_keys_of_the_first(redis: FakeAsyncRedis, settings: Settings) -> None:
    """The root key and the keys under it are made at the first start alone: a customer has the same tag ever after."""
    async with fronting(settings) as front:
        key = await front.new_key()
        _, before = await front.ask("POST", key, audio=WAV)
    root, wrapped = settings.root_key_file.read_bytes(), await redis.hgetall(keyspace.WRAPPED_KEYS)
    async with fronting(msgspec.structs.replace(settings, create_root_key=False)) as front:
        assert (await front.ask("GET", key, before["id"]))[0] == 200
        _, after = await front.ask("POST", key, audio=WAV)
    assert settings.root_key_file.read_bytes() == root
    assert await redis.hgetall(keyspace.WRAPPED_KEYS) == wrapped
    assert len({await tag(redis, job["id"]) for job in (before, after)}) == 1


async def tag(redis: FakeAsyncRedis, job: str) -> str:
    """Return the stored tag of a job's customer."""
    [name] = [name async for name in redis.scan_iter(f"volant:job:*:{job}")]
    return str(msgspec.json.decode(await redis.hget(name, "record"))["customer"])


@pytest.mark.usefixtures("redis")
async def test_a_start_with_another_root_key_or_none_is_refused(settings: Settings, tmp_path: Path) -> None:
    """A process that could open nothing does not begin to serve."""
    async with bootstrap.open_retention(settings, role="api"):
        pass
    for another, error in ((True, KeyUnavailable), (False, SettingsError)):
        wrong = msgspec.structs.replace(settings, root_key_file=tmp_path / "another.key", create_root_key=another)
        with pytest.raises(error):
            async with bootstrap.open_retention(wrong, role="api"):
                pass
        wrong.root_key_file.unlink(missing_ok=True)
