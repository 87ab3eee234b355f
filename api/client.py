"""The client's half of the contract: submit, look, delete. Knows nothing of how a job is kept."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, BinaryIO, Self

import aiohttp
import msgspec

SNIFF = "application/octet-stream"
"""The content type of audio that says itself what it is (spec 5.2)."""

_CHUNK = 1 << 18
_QUIET = 90.0
"""Seconds without a byte from the server after which it counts as gone."""
_TRIES = 6
"""How often a look at a job is tried while the server is away, waiting 0.2 s, then half as much again each time."""


class ServiceError(Exception):
    """The service refused, or cannot be reached; the text is for people."""


class JobGone(ServiceError):
    """There is no such job: it was deleted, it has expired, or it is somebody else's."""


class Client:
    """A connection to one service with one API key. A context manager.

    Every method raises ServiceError when the service refuses or cannot be reached.
    """

    def __init__(self, url: str, apikey: str) -> None:
        """`url` is the service's base URL, with or without `/instances/…`, without `/v1`."""
        credentials = base64.b64encode(f"apikey:{apikey}".encode()).decode()
        self._jobs = url.rstrip("/") + "/v1/recognitions"
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Basic {credentials}", "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_QUIET),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def submit(
        self,
        audio: BinaryIO,
        *,
        parameters: Mapping[str, str],
        content_type: str = SNIFF,
        sent: Callable[[int], object] = lambda _count: None,
    ) -> dict[str, Any]:
        """Upload `audio`, a piece at a time, and return the new job. `sent` is told how many bytes each piece had.

        Refusals that need no audio, of the key for instance, come before any of it is sent (RFC 9110 §10.1.1).
        """
        return await self._call(
            "POST",
            self._jobs,
            params=parameters,
            data=_pieces(audio, sent),
            headers={"Content-Type": content_type, "Content-Length": str(os.fstat(audio.fileno()).st_size)},
            expect100=True,
        )

    async def job(self, id_: str) -> dict[str, Any]:
        """Return the job as it is now. Short absences of the service are waited out."""
        delay = 0.2
        for _ in range(_TRIES - 1):
            try:
                return await self._call("GET", f"{self._jobs}/{id_}")
            except _Away:
                await asyncio.sleep(delay)
                delay *= 1.5
        return await self._call("GET", f"{self._jobs}/{id_}")

    async def follow(self, id_: str) -> AsyncIterator[dict[str, Any]]:
        """Give the job now and again, ever less often, at most 3 s apart, until it is completed or failed."""
        delay = 0.1
        while True:
            job = await self.job(id_)
            yield job
            if job["status"] in ("completed", "failed"):
                return
            await asyncio.sleep(delay)
            delay = min(delay * 1.3, 3.0)

    async def delete(self, id_: str) -> None:
        """Delete a job that is not being processed."""
        await self._call("DELETE", f"{self._jobs}/{id_}")

    async def _call(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        # Redirects are not followed: neither key nor audio goes where the caller did not send it.
        try:
            async with self._session.request(method, url, allow_redirects=False, **options) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Away(f"{url} cannot be reached: {str(error) or type(error).__name__}") from error
        if response.status == HTTPStatus.NO_CONTENT:
            return {}
        if response.status in (HTTPStatus.OK, HTTPStatus.CREATED):
            return _decoded(body, url)
        raise _refusal(response.status, body)


class _Away(ServiceError):
    """The service cannot serve just now."""


async def _pieces(audio: BinaryIO, sent: Callable[[int], object]) -> AsyncIterator[bytes]:
    while piece := audio.read(_CHUNK):
        yield piece
        sent(len(piece))


def _decoded(body: bytes, url: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ServiceError(f"{url} does not answer like a speech recognition service") from error


def _refusal(status: int, body: bytes) -> ServiceError:
    try:
        said = msgspec.json.decode(body, type=dict[str, Any])["error"]
    except (msgspec.MsgspecError, KeyError):
        said = "without a reason"
    if status == HTTPStatus.NOT_FOUND:
        return JobGone(f"not found: {said}")
    if status == HTTPStatus.UNAUTHORIZED:
        return ServiceError("the API key is not accepted (401)")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _Away(f"the service cannot serve just now ({status}): {said}")
    return ServiceError(f"refused ({status}): {said}")
