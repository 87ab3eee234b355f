"""The listening sockets, from the first to the last connection that they let in."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from aiohttp import web

from api.connection import GOODBYE_WITHIN, Connection, Drain, drop_untaken
from api.context import SETTINGS
from api.crowd import Crowd
from api.endpoints import Endpoint
from api.tls import Certificates, keep_fresh
from retention.ending import end
from retention.errors import SettingsError
from retention.listening import Listener

HANDSHAKE_WITHIN = timedelta(seconds=10)
"""How long a client may take to begin with TLS, once it has connected."""

_BACKLOG = 128
"""Connections that wait to be let in, and that are let in at once: so few that `crowd.SPARE` has room for them."""

_END_WITHIN = 5.0
"""Seconds that a request whose body was cut has to end, before it is cancelled."""

_LOOK_EVERY = 0.05


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
    crowd: Crowd[Connection] = Crowd()
    drain = Drain()

    def on_change() -> None:
        for connection in crowd:
            connection.leave_if_distrusted()

    watches = [
        loop.create_task(keep_fresh(certificates.values(), on_change)),
        loop.create_task(drop_untaken(crowd)),
    ]
    servers: list[asyncio.Server] = []
    try:
        try:
            for listener in listeners:
                context = certificates.get(listener.name)
                try:
                    server = await loop.create_server(
                        _connecting(app, runner, listener, context, crowd=crowd, drain=drain),
                        listener.host,
                        listener.port,
                        backlog=_BACKLOG,
                        ssl=context,
                        ssl_handshake_timeout=HANDSHAKE_WITHIN.total_seconds() if context else None,
                        ssl_shutdown_timeout=GOODBYE_WITHIN if context else None,
                    )
                except OSError as error:
                    where = f"listener {listener.name}: {listener.host}, port {listener.port}"
                    raise SettingsError(f"{where}, cannot be listened on: {error.strerror}") from error
                servers.append(server)
            yield [
                _url(server, secure=each.name in certificates) for server, each in zip(servers, listeners, strict=True)
            ]
        finally:
            for server in servers:
                server.close()
            await _finish(crowd, within=grace)
            for watch in watches:
                await end(watch)
    finally:
        await runner.cleanup()


def _connecting(
    app: web.Application,
    runner: web.AppRunner,
    listener: Listener,
    certificates: Certificates | None,
    *,
    crowd: Crowd[Connection],
    drain: Drain,
) -> Callable[[], Connection]:
    """Return what makes the connections of a listener."""
    loop, endpoint = asyncio.get_running_loop(), Endpoint.of(listener)

    def connect() -> Connection:
        return Connection(
            runner.server,
            loop=loop,
            endpoint=endpoint,
            cors_origins=app[SETTINGS].cors_origins,
            certificates=certificates,
            crowd=crowd,
            drain=drain,
        )

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
