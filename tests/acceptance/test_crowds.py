"""Very many connections to a real process."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from api.crowd import MOST
from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.stack import StartStack, wait_until

USUAL = 1024
"""Files that may be open, where nobody has said more."""


async def test_who_says_nothing_shuts_nobody_out(fresh_stack: StartStack) -> None:
    """Neither as many as the usual limit of files has room for, nor more than there is room for at all."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL, hard))
    try:
        stack = fresh_stack(workers=0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * MOST), hard))
    before = errors(stack)
    async with Client(stack.url, stack.apikey) as client, silent(stack, USUAL + 100) as first:
        assert await client.listed() == []
        assert ended(first) == 0
        async with silent(stack, MOST), Client(stack.url, stack.apikey) as newcomer:

            async def made_room() -> bool:
                return ended(first) > USUAL

            await wait_until(made_room)
            assert await newcomer.listed() == []
            assert await client.listed() == []
    assert errors(stack) == before
    assert stack.logs("api").count("no room for more connections") == 1


@contextlib.asynccontextmanager
async def silent(stack: Stack, number: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Open connections, and say nothing."""
    parts = urlsplit(stack.url)
    async with contextlib.AsyncExitStack() as opened:
        readers = []
        for _ in range(number):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            opened.callback(writer.close)
            readers.append(reader)
        yield readers


def ended(readers: list[asyncio.StreamReader]) -> int:
    """Count those that the API has ended."""
    return sum(reader.at_eof() or reader.exception() is not None for reader in readers)


def errors(stack: Stack) -> int:
    """Count the lines of the API's log that are errors."""
    return stack.logs("api").count('"level": "error"')
