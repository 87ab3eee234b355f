"""The body of a submission: its size, its coding, and what becomes of it when it stalls or breaks off."""

import asyncio
import gzip
import os
import time
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
import requests
from aiohttp import ClientConnectionResetError
from aiohttp.test_utils import make_mocked_request

from api import bodies
from api.problems import Problem
from tests.stack import wait_until
from tests.unit.fake_retention import KEY, WAV, Api, hang_up, serving

GZIPPED = gzip.compress(WAV, mtime=0)
"""Always the same bytes: they name tests, which have to be called alike in every process that runs some of them."""

HEAD = (
    b"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
    b"Authorization: Basic YXBpa2V5OnZvbGFudF9hbGljZV9zZWNyZXQ=\r\n"
)
BAD_GZIP = "The body is not what 'Content-Encoding: gzip' says: damaged, cut off, or followed by more."


def wav(size: int) -> bytes:
    """Return audio of so many bytes that cannot be compressed."""
    return WAV[:12] + os.urandom(size - 12)


async def chunks(audio: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Give audio in pieces, which makes the client send it chunked."""
    for start in range(0, len(audio), size):
        yield audio[start : start + size]


async def under_way(api: Api) -> bool:
    """Tell whether an upload is being taken in."""
    return api.jobs.under_way == 1


async def nothing_under_way(api: Api) -> bool:
    """Tell whether no upload is being taken in."""
    return api.jobs.under_way == 0


@pytest.mark.parametrize("size", [0, 1, 44, 99])
async def test_too_little_audio_is_refused_in_ibms_words(size: int) -> None:
    """With or without a declared length, 99 bytes are too few."""
    async with serving() as api:
        for body in (wav(200)[:size], chunks(wav(200)[:size])):
            answer = await api.submit("", body, Content_Type="audio/wav")
            assert answer.status == 400
            assert answer.body["error"] == f"Stream was {size} bytes but needs to be at least 100 bytes."
        assert api.jobs.accepted == []


async def test_the_limits_are_inclusive() -> None:
    """Exactly 100 bytes, and exactly the most, are accepted, in one piece and in many."""
    async with serving(max_upload=5000) as api:
        for size in (100, 5000):
            audio = wav(size)
            for body in (audio, chunks(audio), chunks(audio, 7)):
                assert (await api.submit("", body)).status == 201
                assert api.jobs.accepted.pop().audio == audio


async def test_one_byte_too_many_is_413_and_leaves_nothing() -> None:
    """By its declared length or when it has arrived; without Retry-After, which would make clients repeat it."""
    async with serving(max_upload=5000) as api:
        for body in (wav(5001), chunks(wav(5001)), chunks(wav(50_000))):
            answer = await api.submit("", body)
            assert answer.status == 413
            assert answer.body["error"] == "The audio exceeds the limit of 5000 bytes."
            assert "Retry-After" not in answer.headers
        assert (api.jobs.accepted, api.jobs.under_way) == ([], 0)


async def test_gzip_is_inflated_and_counted_inflated() -> None:
    """Limits are those of the audio; several members are one body (RFC 1952)."""
    async with serving(max_upload=300_000) as api:
        audio = WAV[:12] + bytes(299_988)
        for body in (
            gzip.compress(audio),
            gzip.compress(audio[:1000]) + gzip.compress(audio[1000:]),
            gzip.compress(wav(300_000), 0),
        ):
            for sent in (body, chunks(body), chunks(body, 17)) if len(body) < 10_000 else (body,):
                assert (await api.submit("", sent, Content_Encoding="gzip")).status == 201
                assert len(api.jobs.accepted.pop().audio) == 300_000
        short = await api.submit("", gzip.compress(wav(99)), Content_Encoding="gzip")
        assert short.body["error"] == "Stream was 99 bytes but needs to be at least 100 bytes."


class Inflater:
    """One of zlib's that counts what comes out of all of them."""

    inflated = 0

    def __init__(self, inflater: Any) -> None:
        self._inflater = inflater

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inflater, name)

    def decompress(self, data: bytes, most: int) -> bytes:
        piece: bytes = self._inflater.decompress(data, most)
        Inflater.inflated += len(piece)
        return piece


async def test_a_bomb_is_413(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes that inflate to very many are refused as soon as they exceed the limit."""
    real = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda bits: Inflater(real(bits)))
    monkeypatch.setattr(Inflater, "inflated", 0)
    async with serving(max_upload=1 << 20) as api:
        bomb = gzip.compress(WAV + bytes(100 << 20), 1)
        answer = await api.submit("", chunks(bomb, 1 << 16), Content_Encoding="gzip")
        assert answer.status == 413
        assert 1 << 20 < Inflater.inflated <= 2 << 20, "more was inflated than needed"
        assert api.jobs.accepted == []


async def test_endless_gzip_without_content_is_413() -> None:
    """Bytes that inflate to nothing are counted as they come."""
    async with serving(max_upload=10_000) as api:
        packer = zlib.compressobj(wbits=31)
        empty = packer.flush(zlib.Z_FULL_FLUSH) + packer.flush(zlib.Z_FULL_FLUSH)
        block = packer.compress(b"") + b"\x00\x00\x00\xff\xff"
        answer = await api.submit("", chunks(empty + block * 10_000), Content_Encoding="gzip")
        assert answer.status == 413


@pytest.mark.parametrize(
    "body",
    [
        GZIPPED[:-1],
        GZIPPED[:-8],
        GZIPPED[:20],
        GZIPPED + b"and more",
        GZIPPED[:-8] + bytes(8),
        WAV,
        b"",
    ],
)
async def test_bad_gzip_is_400_and_leaves_nothing(body: bytes) -> None:
    """Cut off, followed by garbage, of a wrong checksum, or no gzip at all."""
    async with serving() as api:
        answer = await api.submit("", body, Content_Encoding="gzip")
        assert (answer.status, answer.body["error"]) == (400, BAD_GZIP)
        assert (api.jobs.accepted, api.jobs.under_way) == ([], 0)


async def submitted(api: Api, headers: bytes, body: bytes = b"") -> bytes:
    """Return the first line of the answer to a submission with these further headers, and the connection's end."""
    reader, writer = await api.connect()
    writer.write(HEAD + headers + b"\r\n" + body)
    line = await reader.readline()
    await hang_up(writer)
    return line


async def test_other_codings_are_415() -> None:
    """Only gzip is inflated, and once."""
    async with serving() as api:
        answer = await api.submit("", WAV, Content_Encoding="br")
        assert (answer.status, answer.body["error"]) == (415, "unsupported content encoding 'br'")
        twice = b"Content-Encoding: identity\r\nContent-Encoding: gzip, gzip\r\nContent-Length: 500\r\n"
        assert await submitted(api, twice) == b"HTTP/1.1 415 Unsupported Media Type\r\n"


async def test_gzip_of_the_transfer_is_inflated_too() -> None:
    """Else it would be taken for audio (RFC 9112 §7.2)."""
    async with serving() as api:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GZIPPED), GZIPPED)
        assert await submitted(api, b"Transfer-Encoding: gzip, chunked\r\n", body) == b"HTTP/1.1 201 Created\r\n"
        assert api.jobs.accepted.pop().audio == WAV


async def test_who_hangs_up_when_invited_is_no_error_of_ours() -> None:
    """It is told what nobody hears, and nothing is logged as if the service had failed."""
    writer = AsyncMock()
    writer.write.side_effect = ClientConnectionResetError
    with pytest.raises(Problem) as told:
        await bodies.invite(make_mocked_request("POST", "/", {"Expect": "100-continue"}, writer=writer))
    assert told.value.refusal == bodies.CLOSED


async def test_http_1_0_is_not_invited() -> None:
    """RFC 9110 §10.1.1: it does not know what that means."""
    async with serving() as api:
        head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\n"
        reader, writer = await api.connect()
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(WAV) + WAV)
        assert (await reader.readline()).endswith(b" 201 Created\r\n")
        await hang_up(writer)


async def test_a_stalled_upload_is_408_and_leaves_nothing() -> None:
    """When no byte arrives for long enough, the client is told so."""
    async with serving(upload_stall=timedelta(seconds=1)) as api:
        reader, writer = await api.connect()
        writer.write(HEAD + b"Content-Length: 500\r\n\r\n" + WAV)
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"No audio arrived for 1 seconds." in answer
        assert (api.jobs.broken_off, api.jobs.accepted) == (["Problem"], [])
        await hang_up(writer)


@pytest.mark.parametrize("trickle", [b"", b"x"])
async def test_an_upload_that_takes_too_long_in_all_is_408_and_leaves_nothing(trickle: bytes) -> None:
    """Whether it trickles, and never stalls, or falls silent: an erased customer's fence need not outlive it."""
    second = timedelta(seconds=1)
    async with serving(upload_stall=second, upload_within=second) as api:
        reader, writer = await api.connect()
        began = time.monotonic()
        writer.write(HEAD + b"Content-Length: 5000\r\n\r\n" + WAV)
        answer = asyncio.create_task(reader.readuntil(b"}"))
        while not (await asyncio.wait([answer], timeout=0.05))[0]:
            writer.write(trickle)
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        assert b"The audio did not arrive within 1 seconds." in await answer
        assert time.monotonic() - began >= 1
        assert (api.jobs.broken_off, api.jobs.accepted) == (["Problem"], [])
        await hang_up(writer)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nFFFF\r\n"])
async def test_a_client_that_hangs_up_leaves_nothing(framing: bytes) -> None:
    """The service learns that the audio broke off, and no job is made."""
    async with serving() as api:
        _, writer = await api.connect()
        writer.write(HEAD + framing + WAV)
        await writer.drain()
        await wait_until(lambda: under_way(api))
        await hang_up(writer)
        await wait_until(lambda: nothing_under_way(api))
        assert (api.jobs.broken_off, api.jobs.accepted) == (["Problem"], [])


async def test_a_broken_chunk_is_400_at_once() -> None:
    """A body that stops being HTTP is not waited for."""
    async with serving() as api:
        reader, writer = await api.connect()
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\nD4\r\n" + WAV + b"\r\n")
        await wait_until(lambda: under_way(api))
        writer.write(b"nonsense\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"}"), 30)).startswith(b"HTTP/1.1 400 ")
        assert (api.jobs.broken_off, api.jobs.accepted) == (["Problem"], [])
        await hang_up(writer)


async def test_the_body_is_invited_only_when_the_headers_are_good() -> None:
    """`100 Continue` comes after credentials, type, parameters and length have been looked at."""
    expect = b"Expect: 100-continue\r\nConnection: close\r\n"
    async with serving(max_upload=5000) as api:
        reader, writer = await api.connect()
        writer.write(HEAD + expect + b"Content-Length: 212\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(WAV)
        assert (await reader.read()).startswith(b"HTTP/1.1 201 ")
        await hang_up(writer)
        for bad, status in (
            (HEAD.replace(b"ZXQ=", b"ZXg=") + expect + b"Content-Length: 212\r\n\r\n", b"401"),
            (HEAD.replace(b"audio/wav", b"video/mp4") + expect + b"Content-Length: 212\r\n\r\n", b"415"),
            (HEAD.replace(b"audio/wav", b"audio/l16") + expect + b"Content-Length: 212\r\n\r\n", b"400"),
            (
                HEAD.replace(b"recognitions", b"recognitions?results_ttl=0") + expect + b"Content-Length: 9\r\n\r\n",
                b"400",
            ),
            (HEAD + expect + b"X-Watson-Metadata: me\r\nContent-Length: 212\r\n\r\n", b"400"),
            (HEAD + expect + b"Content-Length: 5001\r\n\r\n", b"413"),
            (HEAD.replace(b"/v1", b"/v2") + expect + b"Content-Length: 212\r\n\r\n", b"404"),
        ):
            reader, writer = await api.connect()
            writer.write(bad)
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 " + status)
            await hang_up(writer)


@pytest.mark.parametrize(
    ("key", "length", "kind", "status"),
    [("wrong", 50 << 20, "audio/wav", 401), (KEY, 50 << 20, "video/mp4", 415), (KEY, 20 << 20, "audio/wav", 413)],
)
async def test_a_refusal_of_a_large_upload_can_be_read(key: str, length: int, kind: str, status: int) -> None:
    """A client that sends everything before it reads finds the answer, and no broken connection."""
    async with serving(max_upload=10 << 20) as api:

        def send() -> requests.Response:
            body = (bytes(1 << 20) for _ in range(length >> 20))
            url = f"{api.url}/v1/recognitions"
            audio = (WAV if not index else piece for index, piece in enumerate(body))
            return requests.post(url, audio, auth=("apikey", key), headers={"Content-Type": kind}, timeout=30)

        answer = await asyncio.to_thread(send)
        assert (answer.status_code, answer.json()["code"]) == (status, status)


@pytest.mark.parametrize(
    "header",
    [
        "customer_id=",
        "customer_id",
        "id=7",
        "customer_id=a;b",
        "customer_id=a=b",
        "Customer_id=a",
        "customer_id=" + "x" * 257,
        "",
    ],
)
async def test_a_malformed_privacy_label_is_400(header: str) -> None:
    """It is never dropped silently: erasing the customer later would miss the job."""
    async with serving() as api:
        answer = await api.submit("", WAV, X_Watson_Metadata=header)
        assert answer.status == 400
        assert "X-Watson-Metadata" in answer.body["error"]
        assert api.jobs.accepted == []


@pytest.mark.parametrize(
    ("sent", "read"),
    [(b" customer_id = a b ", "a b"), (b"customer_id=Zo\xc3\xab", "Zoë"), (b"customer_id=Zo\xeb", "Zoë")],
)
async def test_a_privacy_label_is_read_in_utf8_or_latin1(sent: bytes, read: str) -> None:
    """Surrounding blanks do not belong to it."""
    async with serving() as api:
        answer = await api.talk(
            HEAD + b"Connection: close\r\nX-Watson-Metadata:" + sent + b"\r\nContent-Length: 212\r\n\r\n" + WAV
        )
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert [taken.customer for taken in api.jobs.accepted] == [read]
