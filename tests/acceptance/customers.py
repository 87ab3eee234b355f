"""A customer of a tenant: everything that the tenant does in their name, and what is still to be found of it."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from itertools import chain
from typing import Any

from redis.asyncio import Redis

from deploy.stack import Stack
from retention import keyspace
from retention.job import CustomerTag, TenantId
from retention.keyring import Keyring
from retention.roots.file import FileRoot, read_root_key
from tests.acceptance.canary import files, hits, in_redis
from tests.acceptance.client import Client
from tests.acceptance.receivers import Receiver, Told
from tests.recognizers import recording
from tests.stack import wait_until


class Customer:
    """Labels all that it does with its id, and has its jobs told at a URL of its own."""

    def __init__(self, client: Client, receiver: Receiver, tenant: str, id_: str) -> None:
        self.client = client
        self.tenant = TenantId(tenant)
        self.id = id_
        self.path, self.query = f"/{secrets.token_hex(9)}", secrets.token_hex(9)
        self.target = f"{self.path}?{self.query}"
        self.url = receiver.url + self.target
        self.token = secrets.token_hex(9)
        self.jobs: dict[str, str] = {}
        self.metadata = f"customer_id={id_}"
        self._more = asyncio.Event()

    async def register(self) -> None:
        """Register the URL, labelled."""
        code, body = await self.client.register(self.url, metadata=self.metadata, secret=secrets.token_hex(9))
        assert (code, body["status"]) == (201, "created")

    async def submit(self, name: str, audio: bytes | AsyncIterator[bytes]) -> None:
        """Create a job; it is known by this name."""
        self.jobs[name] = await self.client.submit(
            audio, metadata=self.metadata, callback_url=self.url, user_token=self.token
        )

    async def end_two(self) -> None:
        """Have a job that is completed, and one that failed."""
        await self.submit("completed", recording(0))
        await self.submit("failed", b"RIFF\x00\x10\x00\x00WAVE\x00" + os.urandom(5000))
        for name in ("completed", "failed"):
            await wait_until(lambda name=name: self.client.ended(self.jobs[name]))  # type: ignore[misc]
            assert await self.client.status(self.jobs[name]) == name

    def upload(self) -> "asyncio.Task[tuple[int, Any]]":
        """Begin an upload that stops in its middle until it is told to `go_on`."""

        async def halting() -> AsyncIterator[bytes]:
            audio = recording(0, lasts=30)
            yield audio[:500_000]
            await self._more.wait()
            yield audio[500_000:]

        return asyncio.create_task(
            self.client.try_to_submit(halting(), metadata=self.metadata, callback_url=self.url, user_token=self.token)
        )

    def go_on(self) -> None:
        """Let the upload end."""
        self._more.set()

    def heard(self, told: Sequence[Told]) -> list[tuple[str, str]]:
        """Return what of this was told at the customer's URL: the ids of jobs and events, in the order of arrival."""
        return [(each.id, each.event.removeprefix("recognitions.")) for each in told if each.target == self.target]

    async def traces(self, stack: Stack) -> list[str]:
        """Return what of the customer's is found in Redis or in the audio store, and where.

        But for the tag in the name of the fence, which is needed, and expires. What Redis remembers of slow commands
        is no data, and not looked at.
        """
        markers = await self.markers(stack)
        fence = keyspace.erased(self.tenant, CustomerTag(markers["tag"].decode())).encode()
        places = chain(files([stack.data / "audio"]), in_redis(stack.redis_url))
        return hits([place for place in places if place[0] != "the slow log" and place[1] != fence], markers)

    async def markers(self, stack: Stack) -> dict[str, bytes]:
        """Return what identifies the customer and their data, by what it is."""
        async with Redis.from_url(stack.redis_url) as redis:
            keyring = await Keyring.open(redis, FileRoot(read_root_key(stack.data / "root.key", create=False)))
        known = {f"id of the {name} job": job for name, job in self.jobs.items()} | {
            "customer id": self.id,
            "tag": keyring.tag(self.tenant, self.id),
            "user token": self.token,
            "path": self.path,
            "query": self.query,
            "tag of the URL": keyring.url_tag(self.tenant, self.url),
        }
        return {name: value.encode() for name, value in known.items()}
