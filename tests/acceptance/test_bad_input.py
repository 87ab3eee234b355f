"""Input that nobody should send, a line each: the answer of the contract, never a 500, and nothing left behind."""

import asyncio
import gzip
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from deploy.stack import Stack
from tests.acceptance.client import Client, from_elsewhere
from tests.acceptance.remains import uploading
from tests.speech import AUDIO, IN_EVERY_FORMAT
from tests.stack import StartStack, wait_until

WAV = (AUDIO / "goforward.wav").read_bytes()
TEXT = b"The quick brown fox jumps over the lazy dog. " * 10
RANDOM = b"\x00" + os.urandom(50_000)
NOT_AUDIO = "unable to transcode data stream audio/{0} -> audio/x-float-array"
BAD_GZIP = "The body is not what 'Content-Encoding: gzip' says: damaged, cut off, or followed by more."
BAD_LABEL = "'X-Watson-Metadata' must be customer_id={id}, the id without ';' and '='"
TTL = "'results_ttl' must be a whole number of at least 1"
GZIP = {"Content-Encoding": "gzip"}


def of(type_: str) -> dict[str, str]:
    """Return the header that declares a type."""
    return {"Content-Type": type_}


Submission = tuple[str, bytes, dict[str, str], int, str]
SUBMISSIONS: list[Submission] = [
    ("", b"", {}, 400, "Stream was 0 bytes but needs to be at least 100 bytes."),
    ("", WAV[:99], of("audio/wav"), 400, "Stream was 99 bytes but needs to be at least 100 bytes."),
    ("", gzip.compress(WAV[:99]), GZIP, 400, "Stream was 99 bytes but needs to be at least 100 bytes."),
    ("", TEXT, of("audio/wav"), 400, NOT_AUDIO.format("wav")),
    ("", TEXT, {}, 415, "unsupported media type: none was declared, and the audio begins like none that is taken"),
    ("", RANDOM, of("audio/wav"), 400, NOT_AUDIO.format("wav")),
    ("", RANDOM, of("audio/flac"), 400, NOT_AUDIO.format("flac")),
    ("", TEXT, of("audio/mpeg"), 400, NOT_AUDIO.format("mp3")),
    ("", RANDOM, of("audio/ogg"), 400, NOT_AUDIO.format("ogg")),
    ("", RANDOM, of("audio/webm"), 400, NOT_AUDIO.format("webm")),
    ("", (AUDIO / "flite_rms_0.m4a").read_bytes(), of("audio/mp4"), 415, "unsupported media type 'audio/mp4'"),
    ("", TEXT, of("multipart/form-data; boundary=x"), 415, "unsupported media type 'multipart/form-data'"),
    ("", TEXT, of("audio/l16"), 400, "audio/l16 needs the parameter 'rate', as in 'audio/l16; rate=16000'"),
    ("", TEXT, of("audio/mulaw;rate=8"), 400, "'rate' of audio/mulaw must be a whole number from 1000 to 384000"),
    ("", WAV, {"Content-Encoding": "br"}, 415, "unsupported content encoding 'br'"),
    ("", gzip.compress(WAV)[:-20], GZIP, 400, BAD_GZIP),
    ("", gzip.compress(WAV) + TEXT, GZIP, 400, BAD_GZIP),
    ("", WAV, GZIP, 400, BAD_GZIP),
    ("?results_ttl=0", WAV, {}, 400, TTL),
    ("?results_ttl=-1", WAV, {}, 400, TTL),
    ("?results_ttl=soon", WAV, {}, 400, TTL),
    ("?max_alternatives=-1", WAV, {}, 400, "'max_alternatives' must be a whole number of at least 0"),
    ("?timestamps=maybe", WAV, {}, 400, "'timestamps' must be true or false"),
    ("?model=%00", WAV, {}, 404, "Model \0 not found"),
    ("?redaction=1", WAV, {}, 400, "redaction is not a supported feature for model en-US_BroadbandModel"),
    ("?callback_url=http://[", WAV, {}, 400, "callback url 'http://[' is not registered"),
    ("", WAV, {"X-Watson-Metadata": "customer_id"}, 400, BAD_LABEL),
]  # fmt: skip

PATHS = [
    ("GET", "/v1/recognitions/..", 404, "job not found"),
    ("GET", "/v1/recognitions/%00", 404, "job not found"),
    ("DELETE", "/v1/recognitions/%2e%2e%2f%2e%2e", 404, "job not found"),
    ("GET", "/v1/recognitions/4BD734C0-E575-41F3-8E03-F932AA0468A0", 404, "job not found"),
    ("DELETE", "/v1/recognitions/*", 404, "job not found"),
    ("GET", "/v1/recognitions/" + "x" * 10_000, 404, "job not found"),
    ("GET", "/v1/recognitions/" + "x" * 100_000, 414, "The path and the query are longer than 64 KiB together."),
    ("GET", "/v1/nothing", 404, "There is nothing at this path."),
    ("GET", "/../etc/passwd", 404, "There is nothing at this path."),
    ("PUT", "/v1/recognitions", 405, "This path takes GET, POST."),
    ("POST", "/v1/recognitions/x", 405, "This path takes DELETE, GET."),
    ("GET", "/ HTTP/1.1\r\nnonsense\r\nX: /", 400, "The request is not valid HTTP, or its head is too long."),
    ("NONSENSE", "/", 400, "The request is not valid HTTP, or its head is too long."),
]


@pytest.fixture(scope="module")
def tenant(stack: Stack) -> tuple[str, str]:
    """Give the id and the key of a tenant that only these tests use."""
    return stack.new_tenant("bad input")


@pytest.fixture
async def alone(stack: Stack, tenant: tuple[str, str]) -> AsyncIterator[tuple[str, str]]:
    """Give a URL and a key, and see that nothing of the tenant is left behind."""
    id_, apikey = tenant
    yield stack.url, apikey
    async with Client(stack.url, apikey) as client:
        assert await client.listed() == []
    assert list((stack.data / "audio" / id_).glob("**/*")) == []
    assert '"status": 500' not in stack.logs("api")


async def submit(url: str, apikey: str, query: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
    """Send a submission as it is, and return the status and the body."""
    credentials = {"Authorization": aiohttp.encode_basic_auth("apikey", apikey)}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"], connector=from_elsewhere()) as session,
        session.post(f"{url}/v1/recognitions{query}", data=body, headers={**credentials, **headers}) as answer,
    ):
        return answer.status, await answer.json()


def error_of(status: int, body: Any) -> str:
    """Return the sentence of an error of the contract's form."""
    assert list(body) == ["code", "code_description", "error"]
    assert body["code"] == status
    return str(body["error"])


@pytest.mark.parametrize("sent", SUBMISSIONS, ids=range(len(SUBMISSIONS)))
async def test_bad_submissions(alone: tuple[str, str], sent: Submission) -> None:
    """Each is refused with its sentence."""
    query, body, headers, status, sentence = sent
    code, said = await submit(*alone, query, body, headers)
    assert (code, error_of(code, said)) == (status, sentence)


@pytest.mark.parametrize("apikey", ["wrong", "", "volant__", "volant_0_0", "\x00", "x" * 5000, "ключ"])
async def test_bad_keys(alone: tuple[str, str], apikey: str) -> None:
    """Each is the same 401, also under a megabyte of audio."""
    for body in (b"", WAV * 11):
        code, said = await submit(alone[0], apikey, "", body, of("audio/wav"))
        assert (code, error_of(code, said)) == (401, "Unauthorized")


@pytest.mark.parametrize(("method", "path", "status", "sentence"), PATHS)
def test_bad_paths(alone: tuple[str, str], method: str, path: str, status: int, sentence: str) -> None:
    """Ids, paths, methods and what is no HTTP are sent byte for byte."""
    parts = urlsplit(alone[0])
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(f"{head}Authorization: {aiohttp.encode_basic_auth('apikey', alone[1])}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    first, _, body = answer.partition(b"\r\n\r\n")
    assert int(first.split()[1]) == status
    assert error_of(status, json.loads(body)) == sentence


async def test_a_ttl_of_ages_is_cut_with_a_warning(alone: tuple[str, str]) -> None:
    """The job is accepted; its result is kept as long as any."""
    code, job = await submit(*alone, "?results_ttl=1000000000", WAV, {})
    assert code == 201
    assert job["warnings"] == ["'results_ttl' was cut to 10080 minutes, the longest that results are kept."]
    await ended_and_deleted(alone, job["id"])


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("name", IN_EVERY_FORMAT)
async def test_truncated_files(alone: tuple[str, str], name: str, share: float) -> None:
    """What can be decoded is recognised, and the job completes; where nothing can, it fails and says so.

    Half a file is enough in every format, and has its first words. Of a hundredth, WAV and raw samples are audio,
    too short for a word; FLAC, MP3, Ogg and WebM cannot: it is the header, or less than one whole frame.
    """
    audio = (AUDIO / name).read_bytes()
    headers = of("audio/l16;rate=16000;endianness=big-endian") if name.endswith("l16be") else {}
    code, job = await submit(*alone, "", audio[: max(100, int(len(audio) * share))], headers)
    assert code == 201
    ended = await ended_and_deleted(alone, job["id"])
    if share >= 0.5:
        assert ended["status"] == "completed"
        heard = ended["results"][0]["results"]
        assert heard[0]["alternatives"][0]["transcript"].startswith("hello this is ")
    elif name.endswith(("wav", "l16be")):
        assert ended["status"] == "completed"
        assert ended["results"] == [{"results": [], "result_index": 0}]
    else:
        assert ended["status"] == "failed"
        assert ended["results"] == [{"error": "unable to transcode data stream -> audio/x-float-array"}]


@pytest.mark.parametrize("magic", [b"RIFF\x00\x10\x00\x00WAVE", b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3", b"ID3\x04"])
async def test_random_bytes_behind_a_signature_fail_the_job(alone: tuple[str, str], magic: bytes) -> None:
    """The front looks at signatures only; the job says what was wrong."""
    await fails(alone, magic + RANDOM, {})


async def test_random_bytes_as_mp3_fail_the_job(alone: tuple[str, str]) -> None:
    """An MP3 may begin in the middle of a frame, and random bytes hold what looks like the next one."""
    await fails(alone, RANDOM, of("audio/mpeg"))


async def fails(alone: tuple[str, str], audio: bytes, headers: dict[str, str]) -> None:
    """Submit what is accepted, and see the job fail."""
    code, job = await submit(*alone, "", audio, headers)
    assert code == 201
    ended = await ended_and_deleted(alone, job["id"])
    assert (ended["status"], ended["results"]) == (
        "failed",
        [{"error": "unable to transcode data stream -> audio/x-float-array"}],
    )


async def ended_and_deleted(alone: tuple[str, str], job: str) -> Any:
    """Wait until the job is final, delete it, and return what it was."""
    async with Client(*alone) as client:
        await wait_until(lambda: client.ended(job))
        ended = (await client.look_up(job))[1]
        assert (await client.delete(job))[0] == 204
    return ended


async def test_a_bomb_and_an_upload_cut_by_the_end_leave_nothing(fresh_stack: StartStack) -> None:
    """A gzip that inflates past the limit is 413; an upload that outlasts a SIGTERM is 503; the exit code is 0."""
    stack = fresh_stack(workers=0, max_upload=str(1 << 20), drain="1")
    code, said = await submit(stack.url, stack.apikey, "", gzip.compress(WAV + bytes(50 << 20)), GZIP)
    assert (code, error_of(code, said)) == (413, "The audio exceeds the limit of 1048576 bytes.")

    async def endless() -> AsyncIterator[bytes]:
        yield WAV
        await asyncio.Event().wait()

    upload = asyncio.create_task(submit(stack.url, stack.apikey, "", endless(), {}))
    await wait_until(lambda: uploading(stack))
    stack.api.ask_to_stop()
    assert (await asyncio.wait_for(upload, 60))[0] == 503
    assert await asyncio.to_thread(stack.api.wait, 60) == 0
    assert [path for path in (stack.data / "audio").rglob("*") if path.is_file()] == []
