"""What sees every name looked up and every TCP connection begun by this process, and stands in for the world.

It sits below asyncio and aiohttp, on the socket module: what it did not see was not dialled. Names have
the addresses that a test gives them, and public addresses lead to a server of the test, so nothing
leaves the machine.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOCAL = ("127.0.0.1", "127.0.0.2", "127.1.2.3", "::1")
"""Where a server of a test listens; Linux takes 0.0.0.0 and :: for the first and the last."""


class Witness:
    """Names to addresses, and what was done with both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, list[list[str]]] = {}
        """The answers for a name, one after the other; the last one stays."""
        self.detours: dict[str, int] = {}
        """Addresses that lead to a port of this machine instead."""
        self.looked_up: list[str] = []
        self.dialled: list[str] = []
        self._connect = socket.socket.connect
        self._getaddrinfo = socket.getaddrinfo
        witness = self

        def connect(dialling: socket.socket, address: Any) -> None:
            witness._connect(dialling, witness._dial(dialling, address))

        def connect_ex(dialling: socket.socket, address: Any) -> int:
            with contextlib.suppress(OSError):
                witness._connect(dialling, witness._dial(dialling, address))
            return dialling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

        monkeypatch.setattr(socket.socket, "connect", connect)
        monkeypatch.setattr(socket.socket, "connect_ex", connect_ex)
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _dial(self, dialling: socket.socket, address: Any) -> Any:
        inet = dialling.family in (socket.AF_INET, socket.AF_INET6)
        if not inet or dialling.type != socket.SOCK_STREAM:
            return address
        host = str(address[0])
        self.dialled.append(host)
        if host not in self.detours:
            assert host in LOCAL, f"the world would be dialled: {host}"
            return address
        return ("127.0.0.1" if dialling.family == socket.AF_INET else "::1", self.detours[host])

    def _look_up(self, host: Any, port: Any, family: int = 0, *_: int) -> Any:
        self.looked_up.append(host)
        if not (answers := self.names.get(host)):
            # Whatever passes for a number here is one, however odd; all other names are unknown.
            return self._getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]


class Server:
    """A server on loopback; `served` counts the connections that reached it, `received` is the last head."""

    def __init__(self, handler: Handler) -> None:
        self.port = 0
        self.served = 0
        self.received = b""
        self.asked = asyncio.Event()
        self._handler = handler

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.served += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                self.received = await reader.readuntil(b"\r\n\r\n")
                self.asked.set()
                await self._handler(reader, writer)
                await writer.drain()
        finally:
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()


@contextlib.asynccontextmanager
async def serve(handler: Handler, **options: Any) -> AsyncIterator[Server]:
    """Serve on all of LOCAL, at one port; `handler` is called when the head of a request has come."""
    server = Server(handler)
    async with contextlib.AsyncExitStack() as stack:
        for address in LOCAL:
            listening = await asyncio.start_server(server.handle, address, server.port, **options)
            stack.callback(listening.close)
            server.port = listening.sockets[0].getsockname()[1]
        before = asyncio.all_tasks()
        yield server
        left = [task for task in asyncio.all_tasks() - before if "Server.handle" in repr(task)]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer like a good receiver."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nheard")
