"""A connection: answers in the contract's form even what is not HTTP, and waits for no client without a bound."""

import asyncio
import socket
import struct
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import structlog
from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from api import cors, problems
from api.admission import BANDWIDTH
from api.app import TRANSACTION_HEADER, hsts
from api.context import TURN
from api.crowd import Crowd
from api.endpoints import Endpoint
from api.tls import Certificates
from retention.log import failure

HEAD_WITHIN = timedelta(seconds=20)
"""How long a client may take to send the head of a request, once it has begun to."""

IDLE_FOR = timedelta(seconds=75)
"""How long a connection may be silent between requests, and before the first."""

TAKEN_WITHIN = timedelta(seconds=30)
"""How long a client may take nothing of its answer, until when that waits in memory."""

DRAIN_FOR = timedelta(seconds=30)
"""How long the rest of a refused body is taken in and thrown away, so that the refusal can be read (spec 1.0)."""

LINE_LENGTH = 1 << 16
"""The longest request line, in bytes: `keywords` may hold very many (spec 1.3)."""

HEAD_LENGTH = 2 * LINE_LENGTH
"""The longest head that comes in pieces, in bytes, not counting the first: it waits in memory until it has come."""

GOODBYE_WITHIN = 30.0
"""Seconds that a client has to take what is left and to end TLS, before its connection is cut."""

_HEARD_WITHIN = 5.0
"""Seconds for which is taken in what a client sends behind what was no request."""

_BUFFER = 1 << 16
"""Bytes of its answers that wait here for a client, so that one counts as sent when most of it is."""

_ACKNOWLEDGED = struct.Struct("=120xQ")
"""Where `struct tcp_info` of linux/tcp.h has the bytes that the client has acknowledged, tcpi_bytes_acked."""

_PIECE = 1 << 15
"""Bytes of an answer that are written at once."""

_SILENT_FOR = 0.25
"""Seconds of silence after which a client that was told that this is no request has sent all that it would."""

_log = structlog.get_logger()


class Drain:
    """Where refused bodies go, those of all connections together no faster than one client's audio is taken in.

    Meanwhile their connections are not read. Without that, who sends what is thrown away would keep the process busy.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def take(self, size: int) -> None:
        """Return when so many bytes more may come, of this connection or another."""
        async with self._turn:
            await asyncio.sleep(size / BANDWIDTH)


class Connection(web.RequestHandler):
    """aiohttp's connection, with limits on who is slow, one of a crowd, and without texts of its own."""

    __slots__ = (
        "__weakref__",
        "_certificates",
        "_cors_origins",
        "_crowd",
        "_drain",
        "_head_size",
        "_head_timer",
        "_heard",
        "_is_answered",
        "_is_last",
        "_is_refused",
        "_opening",
        "_taken",
        "_wire",
        "endpoint",
    )

    def __init__(
        self,
        *args: Any,
        endpoint: Endpoint,
        cors_origins: str,
        certificates: Certificates | None,
        crowd: "Crowd[Connection]",
        drain: Drain,
        **options: Any,
    ) -> None:
        super().__init__(
            *args,
            auto_decompress=False,  # inflating is ours, with a bound
            keepalive_timeout=IDLE_FOR.total_seconds(),
            lingering_time=0,  # draining is ours, with a bound
            max_line_size=LINE_LENGTH,
            **options,
        )
        self.endpoint = endpoint
        self._cors_origins = cors_origins
        self._certificates = certificates
        self._drain = drain
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_size = 0
        self._is_last = False
        self._is_answered = False
        self._is_refused = False
        self._heard: asyncio.Future[int] | None = None
        self._wire: asyncio.Transport | None = None
        self._taken: tuple[int, float] | None = None
        self._crowd = crowd
        self._opening = asyncio.current_task()  # asyncio makes a connection in a task that ends with the handshake
        if self._opening is not None:
            self._opening.add_done_callback(self._on_opened)
        crowd.enter(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless all was over before TLS was agreed on."""
        super().connection_made(transport)
        self._wire = self.transport
        cast("asyncio.Transport", transport).set_write_buffer_limits(_BUFFER)
        if self._force_close:
            transport.close()
        self.leave_if_distrusted()

    def admit(self) -> None:
        """Do not make room for others any more, until the request under way is answered: it is somebody's."""
        self._crowd.admit(self)

    def leave_if_distrusted(self) -> None:
        """End the connection, after the request under way, if its client was judged by an authority that is gone."""
        session = self.transport and self.transport.get_extra_info("ssl_object")
        if session and self._certificates is not None and not self._certificates.trusts(session):
            self.finish()

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and see to it that a head which has begun also ends, however slowly or long it trickles."""
        if self._is_refused:
            self._pause_transport_reading()
            if self._heard is not None and not self._heard.done():
                self._heard.set_result(len(data))
            return
        super().data_received(data)
        if self._messages and not self._request_in_progress:
            self._crowd.ask(self)
        if self._waiter is not None and not self._waiter.done():
            if self._head_timer is None and data:
                self._head_timer = self._loop.call_later(HEAD_WITHIN.total_seconds(), self.force_close)
                self._head_size = 0
            else:
                self._head_size += len(data)
            if self._head_size <= HEAD_LENGTH:
                return
            super().data_received(b"\0")  # no head goes on so: the parser gives up, and that is answered
        self._stop_timer()
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            # The parser gave up, and if in the middle of a body, it has told only the request behind it.
            self._end_body(web.RequestPayloadError())

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything, also of the rest of a refused body that will never come."""
        self._crowd.leave(self)
        self._stop_timer()
        self._stop_draining()
        super().connection_lost(exc)

    def drop(self) -> None:
        """End the connection now, whatever it has not sent yet, or agreed on."""
        if self._wire is not None:
            self._wire.abort()
        elif self._opening is not None:
            self._opening.cancel()

    def drop_if_untaken(self) -> None:
        """End the connection if its client takes nothing of what waits for it, for as long as it may.

        Not left to the kernel: its TCP_USER_TIMEOUT also ends who is slow, and takes all the time.
        """
        if self._wire is None or self._wire.get_write_buffer_size() == 0:
            self._taken = None
            return
        info = self._wire.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        (acknowledged,) = _ACKNOWLEDGED.unpack(info)
        if self._taken is None or self._taken[0] != acknowledged:
            self._taken = acknowledged, self._loop.time()
        elif self._loop.time() - self._taken[1] >= TAKEN_WITHIN.total_seconds():
            self.drop()

    def finish(self) -> bool:
        """Close the connection unless a request is under way, which is then its last one; tell whether one is."""
        if (self._request_in_progress and not self._is_answered) or self._messages:
            self._is_last = True
            return True
        self._stop_draining()
        self.force_close()
        return False

    def cut(self) -> None:
        """End the body of the request under way, which is then refused."""
        self._end_body(problems.UNAVAILABLE.problem())

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer, say so if it is the last one of the connection, and take in what is left of its request."""
        if self._is_last:
            resp.force_close()
        try:
            if isinstance(resp, web.Response):
                await self._send(request, resp)
            answered = await super().finish_response(request, resp, start_time)
        finally:
            if isinstance(request, web.Request) and TURN in request:
                request[TURN].read()
        self._is_answered = True
        if not self._messages:
            self._crowd.answer(self)
        if self._is_refused:
            await self._hear_out()
        elif self.transport is not None:
            await self._throw_away(request.content)
        self._is_answered = False
        return answered

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the client's bytes
    ) -> web.StreamResponse:
        """Answer what never reached the application, which mostly was no HTTP."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        refusal = problems.MALFORMED if status < problems.INTERNAL.status else problems.INTERNAL
        if isinstance(exc, LineTooLong) and LINE_LENGTH in exc.args:  # which for a header is another one
            refusal = problems.TOO_LONG
        self._is_refused = True
        response = problems.present(refusal)
        response.headers[TRANSACTION_HEADER] = transaction = uuid.uuid4().hex
        response.headers.extend(hsts(request))
        response.headers.extend(cors.headers(request, self._cors_origins))  # none where nothing could be parsed
        response.force_close()
        _log.info("not a request", status=response.status, transaction=transaction, **(failure(exc) if exc else {}))
        return response

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Write nothing: the application writes one line per request, without its path."""

    async def _send(self, request: web.BaseRequest, resp: web.Response) -> None:
        """Send an answer, and hold nothing of it when it is sent: aiohttp would, until there is another.

        In pieces, since TLS has a buffer for all that is written at once, and keeps it.
        """
        if isinstance(body := resp.body, bytes):
            await resp.prepare(request)
            resp.body = None
            if request.method != "HEAD":
                for start in range(0, len(body), _PIECE):
                    await resp.write(body[start : start + _PIECE])

    async def _hear_out(self) -> None:
        """Throw away what the client still sends: a connection closed on that is reset, and its answer not read."""
        end = self._loop.time() + _HEARD_WITHIN
        with suppress(TimeoutError):
            while self.transport is not None and self._loop.time() < end:
                self._heard = self._loop.create_future()
                self._resume_transport_reading()
                async with asyncio.timeout(_SILENT_FOR):
                    size = await self._heard
                await self._drain.take(size)

    async def _throw_away(self, body: StreamReader) -> None:
        """Do so with the rest of a body, and serve the connection's next request if it comes to its end in time."""
        with suppress(TimeoutError, web.RequestPayloadError, problems.Problem):  # the last of them: it was cut
            async with asyncio.timeout(DRAIN_FOR.total_seconds()):
                while not body.at_eof():
                    await self._drain.take(len(await body.readany()))

    def _end_body(self, error: Exception) -> None:
        """Make the rest of the body under way this error, and its request the last one of the connection."""
        if self._current_request is not None and not self._current_request.content.is_eof():
            self._current_request.content.set_exception(error)
            self._current_request.content.feed_eof()
            self._messages.clear()
            self.close()

    def _stop_draining(self) -> None:
        if (self._is_answered or not self._request_in_progress) and self._task_handler is not None:
            self._task_handler.cancel()

    def _on_opened(self, _: asyncio.Task[Any]) -> None:
        if self._wire is None:
            self._crowd.leave(self)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


async def drop_untaken(connections: Iterable[Connection]) -> None:
    """Look at connections for ever, and end those whose clients take nothing."""
    while True:
        await asyncio.sleep(TAKEN_WITHIN.total_seconds() / 3)
        for connection in connections:
            connection.drop_if_untaken()
