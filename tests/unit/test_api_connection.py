"""Connections: what one costs, of a client that takes, sends or waits as no good client would."""

import asyncio
import base64
import contextlib
import resource
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from structlog.testing import capture_logs

from api import admission, connection, crowd
from retention.job import accept, new_job_id
from tests.stack import wait_until
from tests.unit.fake_retention import ALICE, KEY, NOW, WAV, Api, hang_up, serving

MIB = 1 << 20
CREDENTIALS = b"Authorization: Basic " + base64.b64encode(b"apikey:" + KEY.encode()) + b"\r\n"
LIST = b"GET /v1/recognitions HTTP/1.1\r\nHost: x\r\n" + CREDENTIALS + b"\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def have_large_list(api: Api, size: int) -> None:
    """Keep a job that makes the list of jobs so large."""
    job = api.jobs.keep(
        accept(new_job_id(), ALICE, now=NOW, results_ttl=timedelta(hours=1), patience=timedelta(days=7))
    )
    api.jobs.tokens[job.id] = "x" * size


@contextlib.asynccontextmanager
async def opened(api: Api, number: int, *, silent: bool = False) -> AsyncIterator[list[Streams]]:
    """Open bare connections; `silent` ones do not even begin with TLS."""
    parts = urlsplit(api.url)
    connections: list[Streams] = []
    try:
        while len(connections) < number:
            opening = asyncio.open_connection(parts.hostname, parts.port) if silent else api.connect()
            connections.append(await opening)
        yield connections
    finally:
        for _, writer in connections:
            await hang_up(writer)


async def answer_to(streams: Streams, sent: bytes) -> bytes:
    """Send a request and return the body of its answer; the connection is kept."""
    reader, writer = streams
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    [size] = [int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
    return await reader.readexactly(size)


def ended(connections: list[Streams]) -> int:
    """Count those that the API has ended."""
    return sum(reader.at_eof() or reader.exception() is not None for reader, _ in connections)


async def only_ended(one: Streams, of: list[Streams]) -> bool:
    """Tell whether the API has ended this one."""
    return ended([one]) == ended(of) == 1


async def test_an_idle_connection_holds_nothing_of_its_last_answer(over: dict[str, Any]) -> None:
    """Nor does TLS."""
    resident = psutil.Process().memory_info
    async with serving(**over) as api, opened(api, 41) as (first, *others):
        have_large_list(api, 4 * MIB)
        assert len(await answer_to(first, LIST)) > 4 * MIB
        before = resident().rss
        for each in others:
            await answer_to(each, LIST)
        assert resident().rss - before < 60 * MIB  # instead of 160


async def test_who_does_not_take_an_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]
) -> None:
    """Its connection is ended, although it is neither idle nor closed by the client."""
    monkeypatch.setattr(connection, "TAKEN_WITHIN", timedelta(milliseconds=500))
    async with serving(**over) as api, opened(api, 1) as [(reader, writer)]:
        have_large_list(api, 32 * MIB)
        writer.write(LIST)
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"

        async def nobody_served() -> bool:
            return not any("RequestHandler.start" in repr(task) for task in asyncio.all_tasks())

        assert not await nobody_served()
        await wait_until(nobody_served)


async def test_who_takes_an_answer_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """However long the whole takes: it takes something all the time."""
    monkeypatch.setattr(connection, "TAKEN_WITHIN", timedelta(milliseconds=300))
    async with serving(**over) as api, opened(api, 1) as [(reader, writer)]:
        have_large_list(api, 32 * MIB)
        writer.write(LIST)
        took = 0
        while took < 32 * MIB:
            await asyncio.sleep(0.01)
            piece = await reader.read(1 << 17)
            assert piece
            took += len(piece)


async def test_who_does_not_take_answers_gets_no_more_of_them(
    monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]
) -> None:
    """Until some are taken, or their connections are lost: the others are not even made."""
    monkeypatch.setattr(admission, "UNREAD", 3)
    async with serving(**over) as api, opened(api, 6) as (other, *connections):
        have_large_list(api, 32 * MIB)
        for _, writer in connections:
            writer.write(LIST)
        made = [asyncio.create_task(reader.readline()) for reader, _ in connections]

        async def are_made(number: int) -> bool:
            return sum(each.done() for each in made) == number

        await wait_until(lambda: are_made(3))
        await answer_to(other, LIVE)
        assert await are_made(3)
        [first, *_] = [writer for each, (_, writer) in zip(made, connections, strict=True) if each.done()]
        first.transport.abort()
        await wait_until(lambda: are_made(4))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n", b"401"),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n", b"404"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
async def test_what_is_thrown_away_comes_no_faster_over_many_connections(
    sent: bytes, status: bytes, monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]
) -> None:
    """All together they take as long as one: at 1 MiB a second no less than a second, and their refusals are read."""
    monkeypatch.setattr(connection, "BANDWIDTH", MIB)
    async with serving(**over) as api, opened(api, 4) as connections:
        for reader, writer in connections:
            writer.write(sent)
            assert (await reader.readuntil(b"}"))[9:12] == status
        began = asyncio.get_running_loop().time()
        for _, writer in connections:
            writer.write(bytes(262144) + LIVE.replace(b"Host", b"Connection: close\r\nHost"))
        await asyncio.gather(*(reader.read() for reader, _ in connections))
        assert asyncio.get_running_loop().time() - began > 0.9


async def test_the_silent_make_room_for_who_asks(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """However many have opened connections and say nothing; who has asked before keeps his, and the log has a line."""
    monkeypatch.setattr(crowd, "MOST", 10)
    async with serving(**over) as api, opened(api, 1) as [kept]:
        await answer_to(kept, LIVE)
        with capture_logs() as lines:
            async with opened(api, 50, silent=True) as silent, opened(api, 1) as [newcomer]:
                await answer_to(newcomer, LIVE)
                await answer_to(kept, LIVE)

                async def made_room() -> bool:
                    return ended(silent) == 42

                await wait_until(made_room)
        said = [line for line in lines if line["event"] == "no room for more connections"]
        assert [line["connections"] for line in said] == [10]


async def test_the_idle_make_room_for_who_asks(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """The one that has been so for longest first."""
    monkeypatch.setattr(crowd, "MOST", 10)
    async with serving(**over) as api, opened(api, 10) as idle:
        for each in [*idle, idle[0]]:
            await answer_to(each, LIVE)
        async with opened(api, 1) as [newcomer]:
            await answer_to(newcomer, LIVE)
            await wait_until(lambda: only_ended(idle[1], idle))


async def test_who_has_left_takes_no_room(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """Whether or not TLS was ever agreed on."""
    monkeypatch.setattr(crowd, "MOST", 5)
    async with serving(**over) as api:
        with capture_logs() as lines:
            for _ in range(10):
                async with opened(api, 1, silent=True) as [(reader, writer)]:
                    writer.write(b"nonsense\r\n\r\n")
                    writer.write_eof()
                    await reader.read()
        assert "no room for more connections" not in str(lines)


async def test_a_request_under_way_makes_no_room(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """Where nobody else is there to go, the newcomer does."""
    monkeypatch.setattr(crowd, "MOST", 3)
    upload = b"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n" + CREDENTIALS + b"\r\n" + WAV
    async with serving(**over) as api, opened(api, 3) as busy:
        for _, writer in busy:
            writer.write(upload)

        async def all_under_way() -> bool:
            return api.jobs.under_way == 3

        await wait_until(all_under_way)
        async with opened(api, 1, silent=True) as [(reader, _)]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        for each in busy:
            assert b'"status":"waiting"' in await answer_to(each, bytes(1000 - len(WAV)))


async def test_who_asks_without_a_credential_makes_room(monkeypatch: pytest.MonkeyPatch, over: dict[str, Any]) -> None:
    """Also amid a request: else a few who begin one, and never end it, would keep everybody out."""
    monkeypatch.setattr(crowd, "MOST", 3)
    head = b"POST /identity/token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    async with serving(**over) as api, opened(api, 3) as asking:
        for reader, writer in asking:
            writer.write(head)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        async with opened(api, 1) as [newcomer]:
            assert await answer_to(newcomer, LIVE)
            await wait_until(lambda: only_ended(asking[0], asking))


async def test_there_are_never_more_connections_than_files_may_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some are left for other things."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 1000))
    monkeypatch.setattr(crowd, "SPARE", 290)
    async with serving() as api, opened(api, 10) as first:
        for each in first:
            await answer_to(each, LIVE)
        async with opened(api, 1):
            await wait_until(lambda: only_ended(first[0], first))


async def test_a_head_without_end_is_refused_early(over: dict[str, Any]) -> None:
    """In words, and long before its lines are too many for the parser: until its end it waits in memory."""
    async with serving(**over) as api, opened(api, 1) as [(reader, writer)]:
        writer.write(LIVE.removesuffix(b"\r\n"))
        for _ in range(100):
            writer.write(b"X-More: " + b"x" * 7000 + b"\r\n")
        answer = await reader.readuntil(b"}")
        assert answer[9:12] == b"400"
        assert b"or its head is too long" in answer
