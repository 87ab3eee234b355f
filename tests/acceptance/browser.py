"""Debian's Chromium without a window, driven over its DevTools protocol, and an origin with a page for it."""

import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from deploy.processes import Process, environment, temporary_directory
from tests.stack import wait_until

CHROMIUM = shutil.which("chromium")

_FLAGS = (
    "--headless",
    "--no-sandbox",  # it refuses to start as root with one; all that it opens is ours
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",  # its crash handler is a process that would outlive it
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other name is ever looked up
    "--remote-debugging-port=0",
)


class Tab:
    """The one tab of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.console: list[str] = []
        """What the browser itself has written to the tab's console, so far."""
        self._loaded: set[str] = set()
        """What was loaded until its scripts had run, by the loader's id."""

    async def open(self, url: str) -> None:
        """Open a page, and return once its scripts have run."""
        await self.call("Log.enable")
        await self.call("Page.enable")
        await self.call("Page.setLifecycleEventsEnabled", enabled=True)
        loader = (await self.call("Page.navigate", url=url))["loaderId"]
        while loader not in self._loaded:  # and not what was there before, which may load still
            await self._next()

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited. Fails the test if the page throws."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol (https://chromedevtools.github.io/devtools-protocol/)."""
        id_ = next(self._ids)
        await self._socket.send_json({"id": id_, "method": method, "params": parameters})
        while (answer := await self._next()).get("id") != id_:
            pass
        result: dict[str, Any] = answer["result"]
        return result

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json()
        if message.get("method") == "Log.entryAdded":
            self.console.append(message["params"]["entry"]["text"])
        if message.get("method") == "Page.lifecycleEvent" and message["params"]["name"] == "load":
            self._loaded.add(message["params"]["loaderId"])
        return message


@asynccontextmanager
async def browsing() -> AsyncIterator[Tab]:
    """Give the tab of a new browser, which knows nothing yet. All its processes are killed at the end."""
    assert CHROMIUM is not None
    with temporary_directory() as home:
        port = home / "DevToolsActivePort"
        process = Process(
            "chromium",
            [CHROMIUM, *_FLAGS, f"--user-data-dir={home}", "about:blank"],
            log=home / "chromium.log",
            environment=environment({}) | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
        )
        try:
            process.wait_until(lambda: port.exists() and "\n" in port.read_text(), "listening")
            devtools = f"http://127.0.0.1:{port.read_text().split()[0]}"
            async with aiohttp.ClientSession() as session:
                tabs: list[str] = []

                async def is_there() -> bool:
                    async with session.get(f"{devtools}/json/list") as answer:
                        found = [target for target in await answer.json() if target["type"] == "page"]
                    tabs[:] = [target["webSocketDebuggerUrl"] for target in found]
                    return bool(tabs)

                await wait_until(is_there)
                async with session.ws_connect(tabs[0], max_msg_size=0) as socket:
                    yield Tab(socket)
        finally:
            process.stop(patience=0)


@asynccontextmanager
async def serving(*files: Path) -> AsyncIterator[str]:
    """Serve files at an origin of their own, and give that origin."""
    app = web.Application()
    contents = {file.name: file for file in files}

    async def give(request: web.Request) -> web.FileResponse:
        if (name := request.match_info["name"]) not in contents:
            raise web.HTTPNotFound
        return web.FileResponse(contents[name])

    app.router.add_get("/{name}", give)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
