"""The listening sockets, and connections that answer in the contract's form even to what is not HTTP."""

import asyncio
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong

from api import cors, problems
from api.app import TRANSACTION_HEADER, hsts
from api.context import SETTINGS
from api.endpoints import Endpoint
from api.tls import Certificates, keep_fresh
from retention.errors import SettingsError
from retention.listening import Listener
from retention.log import failure

HEAD_WITHIN = timedelta(seconds=20)
"""How long a client may take to send the head of a request, once it has begun to."""

IDLE_FOR = timedelta(seconds=75)
"""How long a connection may be silent between requests, and before the first."""

HANDSHAKE_WITHIN = timedelta(seconds=10)
"""How long a client may take to begin with TLS, once it has connected."""

DRAIN_FOR = timedelta(seconds=30)
"""How long the rest of a refused body is taken in and thrown away, so that the refusal can be read (spec 1.0)."""

LINE_LENGTH = 1 << 16
"""The longest request line, in bytes: `keywords` may hold very many (spec 1.3)."""

_END_WITHIN = 5.0
"""Seconds that a request whose body was cut has to end, before it is cancelled."""

_GOODBYE_WITHIN = 5.0
"""Seconds that a client has to take what is left and to end TLS, before its connection is cut."""

_SILENT_FOR = 0.25
"""Seconds of silence after which a client that was told that this is no request has sent all that it would."""

_LOOK_EVERY = 0.05

_log = structlog.get_logger()


class Connection(web.RequestHandler):
    """aiohttp's connection, with a limit on slow heads and without texts of its own."""

    __slots__ = (
        "__weakref__",
        "_certificates",
        "_cors_origins",
        "_head_timer",
        "_is_heard",
        "_is_last",
        "_is_refused",
        "endpoint",
    )

    def __init__(
        self, *args: Any, endpoint: Endpoint, cors_origins: str, certificates: Certificates | None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.endpoint = endpoint
        self._cors_origins = cors_origins
        self._certificates = certificates
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_last = False
        self._is_refused = False
        self._is_heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve, unless all was over before TLS was agreed on."""
        super().connection_made(transport)
        if self._force_close:
            transport.close()
        self.leave_if_distrusted()

    def leave_if_distrusted(self) -> None:
        """End the connection, after the request under way, if its client was judged by an authority that is gone."""
        session = self.transport and self.transport.get_extra_info("ssl_object")
        if session and self._certificates is not None and not self._certificates.trusts(session):
            self._is_last = True
            self.finish()

    def data_received(self, data: bytes) -> None:
        """Take bytes in, and see to it that a head which has begun also ends, however slowly it trickles."""
        if self._is_refused:
            self._is_heard = True
            return
        super().data_received(data)
        if self._waiter is not None and not self._waiter.done():
            if self._head_timer is None and data:
                self._head_timer = self._loop.call_later(HEAD_WITHIN.total_seconds(), self.force_close)
            return
        self._stop_timer()
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            # The parser gave up, and if in the middle of a body, it has told only the request behind it.
            self._end_body(web.RequestPayloadError())

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything, also of the rest of a refused body that will never come."""
        self._stop_timer()
        self._stop_draining()
        super().connection_lost(exc)

    def finish(self) -> bool:
        """Close the connection unless a request is under way; tell whether one is."""
        if self._request_in_progress or self._messages:
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
        """Send the answer, and say so if it is the last one of the connection."""
        if self._is_last:
            resp.force_close()
        answered = await super().finish_response(request, resp, start_time)
        if self._is_refused:
            await self._hear_out()
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

    async def _hear_out(self) -> None:
        """Throw away what the client still sends: a connection closed on that is reset, and its answer not read."""
        end = self._loop.time() + _GOODBYE_WITHIN
        self._is_heard = True
        while self._is_heard and self.transport is not None and self._loop.time() < end:
            self._is_heard = False
            await asyncio.sleep(_SILENT_FOR)

    def _end_body(self, error: Exception) -> None:
        """Make the rest of the body under way this error, and its request the last one of the connection."""
        if self._current_request is not None and not self._current_request.content.is_eof():
            self._current_request.content.set_exception(error)
            self._current_request.content.feed_eof()
            self._messages.clear()
            self.close()

    def _stop_draining(self) -> None:
        if not self._request_in_progress and self._task_handler is not None:
            self._task_handler.cancel()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


@asynccontextmanager
async def listening(
    app: web.Application, listeners: Sequence[Listener], *, grace: timedelta
) -> AsyncIterator[list[str]]:
    """Serve the application while the block lasts, and give the base URL of each listener.

    At the end no connection is accepted any more. Requests under way have `grace` to finish; then their
    bodies are cut, which is answered with 503, and what does not end even then is cancelled. Raises SettingsError
    for a certificate that will not do, and for an address that cannot be had.
    """
    loop = asyncio.get_running_loop()
    certificates = {each.name: Certificates(each) for each in listeners if each.certificate}
    runner = web.AppRunner(app, shutdown_timeout=_END_WITHIN)
    await runner.setup()
    connections: weakref.WeakSet[Connection] = weakref.WeakSet()

    def on_change() -> None:
        for connection in list(connections):
            connection.leave_if_distrusted()

    watch = loop.create_task(keep_fresh(certificates.values(), on_change))
    servers: list[asyncio.Server] = []
    try:
        try:
            for listener in listeners:
                context = certificates.get(listener.name)
                try:
                    server = await loop.create_server(
                        _connecting(app, runner, connections, listener, context),
                        listener.host,
                        listener.port,
                        backlog=1024,
                        ssl=context,
                        ssl_handshake_timeout=HANDSHAKE_WITHIN.total_seconds() if context else None,
                        ssl_shutdown_timeout=_GOODBYE_WITHIN if context else None,
                    )
                except OSError as error:
                    where = f"listener {listener.name}: {listener.host}, port {listener.port}"
                    raise SettingsError(f"{where}, cannot be listened on: {error.strerror}") from error
                servers.append(server)
            yield [
                _url(server, secure=each.name in certificates) for server, each in zip(servers, listeners, strict=True)
            ]
        finally:
            watch.cancel()
            for server in servers:
                server.close()
            await _finish(connections, within=grace)
            with suppress(asyncio.CancelledError):
                await watch
    finally:
        await runner.cleanup()


def _connecting(
    app: web.Application,
    runner: web.AppRunner,
    connections: "weakref.WeakSet[Connection]",
    listener: Listener,
    certificates: Certificates | None,
) -> Callable[[], Connection]:
    """Return what makes the connections of a listener."""
    loop, endpoint = asyncio.get_running_loop(), Endpoint.of(listener)

    def connect() -> Connection:
        connection = Connection(
            runner.server,
            loop=loop,
            endpoint=endpoint,
            cors_origins=app[SETTINGS].cors_origins,
            certificates=certificates,
            auto_decompress=False,  # inflating is ours, with a bound
            keepalive_timeout=IDLE_FOR.total_seconds(),
            lingering_time=DRAIN_FOR.total_seconds(),
            max_line_size=LINE_LENGTH,
        )
        connections.add(connection)
        return connection

    return connect


def _url(server: asyncio.Server, *, secure: bool) -> str:
    host, port, *_ = server.sockets[0].getsockname()
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


async def _finish(connections: Iterable[Connection], *, within: timedelta) -> None:
    """Let requests under way finish, then cut them. aiohttp's own way to stop would not read on."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within.total_seconds()
    while (busy := [each for each in connections if each.finish()]) and loop.time() < end:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(_LOOK_EVERY)
    for each in busy:
        each.cut()
