"""A receiver of notifications in the test's own process, which takes none of them until it is told to."""

import json
import time
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from msgspec import Struct


class Told(Struct, frozen=True, kw_only=True):
    """A notification that came: where to, what it says, when by the machine's monotonic clock, and whether taken."""

    path: str
    raw: bytes
    body: Any
    at: float
    taken: bool


class Receiver:
    """Answers challenges, and notifications with `status`; a context manager that listens on loopback."""

    def __init__(self, *, status: int) -> None:
        self.status = status
        self.told: list[Told] = []
        app = web.Application()
        app.router.add_get("/{path:.*}", self._challenge)
        app.router.add_post("/{path:.*}", self._hear)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def events(self, path: str, *, taken: bool = True) -> list[tuple[str, str]]:
        """Return what was told at this path, and taken or not: the ids of jobs and events, in the order of arrival."""
        return [
            (told.body["id"], told.body["event"].removeprefix("recognitions."))
            for told in self.told
            if told.path == path and told.taken == taken
        ]

    async def _challenge(self, request: web.Request) -> web.Response:
        return web.Response(text=request.query["challenge_string"])

    async def _hear(self, request: web.Request) -> web.Response:
        raw = await request.read()
        taken = self.status < 300
        self.told.append(Told(path=request.path, raw=raw, body=json.loads(raw), at=time.monotonic(), taken=taken))
        return web.Response(status=self.status)
