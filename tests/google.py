"""A server that speaks of Google Cloud Storage's XML interface what an audio store needs.

No emulator at hand does: those known speak the JSON interface, and know neither an upload by PUT nor one in parts.
Written after Google's reference (cloud.google.com/storage/docs/xml-api): create with `x-goog-if-generation-match: 0`
(412 where the name is taken), uploads in parts, ranges, copies, listings of version 2, and 404 for a delete of nothing.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

_LEAST_PART = 5 << 20
_PAGE = 1000


class GoogleStorage:
    """One bucket in memory: `objects` by name, and `uploads` in parts that are not complete."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.port = 0
        self.page = _PAGE
        self.writes = 0
        self.stored = asyncio.Event()
        """Set when an object is there, before whoever sent it is told."""
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answers_lost = 0
        """How many of these answers are to come: the connection is closed in their place."""
        self._ids = itertools.count(1)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen on a free port of this machine."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/recordings", self._bucket)
        app.router.add_route("*", "/recordings/{name:.+}", self._object)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    async def _bucket(self, request: web.Request) -> web.Response:
        query = request.query
        names = sorted(name for name in self.objects if name.startswith(query.get("prefix", "")))
        after = query.get("continuation-token") or query.get("start-after", "")
        names = [name for name in names if name > after]
        shown = names[: self.page]
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<Size>{len(self.objects[name])}</Size><ETag>x</ETag></Contents>"
            for name in shown
        )
        more = len(shown) < len(names)
        token = f"<NextContinuationToken>{shown[-1]}</NextContinuationToken>" if more else ""
        return _xml(
            f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}</ListBucketResult>"
        )

    async def _object(self, request: web.Request) -> web.Response:
        name, query = unquote(request.match_info["name"]), request.query
        if upload := query.get("uploadId"):
            return await self._part(request, name, upload)
        if request.method == "POST" and "uploads" in query:
            upload = f"{name}-{next(self._ids)}"
            self.uploads[upload] = {}
            return _xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        if request.method == "PUT":
            return await self._put(request, name)
        if request.method == "DELETE":
            return web.Response(status=404 if self.objects.pop(name, None) is None else 204)
        return self._get(request, name)

    def _get(self, request: web.Request, name: str) -> web.Response:
        if name not in self.objects:
            return web.Response(status=404)
        content = self.objects[name]
        headers = {"ETag": '"x"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        wanted = request.http_range
        start, stop = wanted.start or 0, min(wanted.stop or len(content), len(content))
        if start >= len(content):
            return web.Response(status=416)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return web.Response(status=206, body=content[start:stop], headers=headers)

    async def _put(self, request: web.Request, name: str) -> web.Response:
        if request.headers.get("x-goog-if-generation-match") == "0" and name in self.objects:
            return web.Response(status=412)
        content = await request.read()
        if source := request.headers.get("x-goog-copy-source"):
            source = unquote(source).removeprefix("recordings/")
            if source not in self.objects:
                return web.Response(status=404)
            content = self.objects[source]
        await self._store(request, name, content)
        return web.Response(headers={"ETag": '"x"', "x-goog-generation": "1"})

    async def _store(self, request: web.Request, name: str, content: bytes) -> None:
        self.objects[name] = content
        self.writes += 1
        self.stored.set()
        await self.may_answer.wait()
        if self.answers_lost and request.transport:
            self.answers_lost -= 1
            request.transport.abort()

    async def _part(self, request: web.Request, name: str, upload: str) -> web.Response:
        if upload not in self.uploads:
            return web.Response(status=404)
        if request.method == "PUT":
            self.uploads[upload][int(request.query["partNumber"])] = await request.read()
            return web.Response(headers={"ETag": '"x"'})
        parts = self.uploads.pop(upload)
        if request.method == "DELETE":
            return web.Response(status=204)
        ordered = [parts[number] for number in sorted(parts)]
        if any(len(part) < _LEAST_PART for part in ordered[:-1]):
            return web.Response(status=400)
        await self._store(request, name, b"".join(ordered))
        return _xml("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")


def _xml(content: str) -> web.Response:
    return web.Response(text=f'<?xml version="1.0" encoding="UTF-8"?>{content}', content_type="application/xml")
