"""Resident memory of real processes while much passes through them, and where an upload becomes too much (P7)."""

import base64
import http.client
import io
import threading
import wave
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest
import redis

from deploy.processes import Process, temporary_directory
from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.remains import family, left_over, nothing_left_over
from tests.recognizers import QUICK, recording
from tests.speech import AUDIO
from tests.stack import StartStack, offer_without_a_worker, wait_until

MIB = 1 << 20
GIB = 1 << 30
ALLOWED = 64 * MIB
PIECE = bytes(MIB)
HOUR = 3600
CHUNKED = {"Transfer-Encoding": "chunked"}


class Resident:
    """How much more memory a process has resident while the block lasts than when it was idle, in bytes.

    Its children count likewise, each by itself; one that begins meanwhile had none before.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._done = threading.Event()
        self._sampling = threading.Thread(target=self._sample)
        self._idle = self._now()
        self.growth = 0
        self.samples = 0

    def __enter__(self) -> Self:
        self._sampling.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sampling.join()

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            self.growth = max(self.growth, *(size - self._idle.get(pid, 0) for pid, size in self._now().items()))
            self.samples += 1

    def _now(self) -> dict[int, int]:
        found = {}
        for process in (psutil.Process(self._process.pid), *family(self._process)):
            with suppress(psutil.NoSuchProcess):
                found[process.pid] = int(process.memory_info().rss)
        return found


@pytest.fixture(scope="module")
def front() -> Iterator[Stack]:
    """Give an API without a worker, that has served before: what it holds now is what it holds when idle."""
    with temporary_directory() as directory, Stack(directory, workers=0) as stack:
        offer_without_a_worker(stack.redis_url)
        for headers in (CHUNKED, {"Content-Length": str(2 * MIB)}):
            discard(stack, upload(stack, [PIECE, PIECE], headers))
        discard(stack, upload(stack, [gzipped(2 * MIB)], {"Content-Encoding": "gzip", **CHUNKED}))
        yield stack


@pytest.mark.parametrize("headers", [CHUNKED, {"Content-Length": str(GIB)}], ids=["chunked", "with its length"])
def test_a_gibibyte_is_accepted_in_flat_memory(front: Stack, headers: Mapping[str, str]) -> None:
    """The largest upload moves the API's resident memory by less than 64 MiB, and goes when it is deleted."""
    with Resident(front.api) as resident:
        answer = upload(front, [PIECE] * 1024, headers)
    assert answer[0] == HTTPStatus.CREATED, answer
    assert sum(path.stat().st_size for path in files(front)) > GIB
    discard(front, answer)
    assert resident.samples > 20
    assert resident.growth < ALLOWED
    assert files(front) == []


def test_a_byte_more_is_refused_by_the_headers(front: Stack) -> None:
    """413 comes although not a byte of the body was sent."""
    with nothing_new(front):
        assert upload(front, [], {"Content-Length": str(GIB + 1)})[0] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_a_byte_more_is_refused_when_only_counting_tells(front: Stack) -> None:
    """413 ends a chunked upload behind the last allowed byte, in flat memory."""
    with nothing_new(front), Resident(front.api) as resident:
        answer = upload(front, [*([PIECE] * 1024), b"\0"], CHUNKED)
    assert answer[0] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE, answer
    assert resident.growth < ALLOWED


@pytest.mark.parametrize("size", [GIB + 1, 8 * GIB], ids=["a byte", "far"])
def test_gzip_that_inflates_too_far_is_refused(front: Stack, size: int) -> None:
    """413, in flat memory, and no later for a bomb that would go on."""
    whole, rest = divmod(size, 64 * MIB)
    bomb = gzipped(64 * MIB) * whole + gzipped(rest)
    assert len(bomb) < size / 500
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(bomb))}
    with nothing_new(front), Resident(front.api) as resident:
        began = worked(front.api)
        answer = upload(front, [bomb], headers)
        took = worked(front.api) - began
    assert answer[0] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE, answer
    assert took < 30
    assert resident.growth < ALLOWED


@pytest.mark.parametrize(
    ("settings", "every", "speech", "found"),
    [
        # Without a pause, so that as much as ever can goes through the worker: each second becomes a segment's.
        ({**QUICK, "jobs_at_once": "2"}, 20, recording(0, lasts=20), 180),
        ({"children": "2", "jobs_at_once": "2"}, 300, (AUDIO / "goforward.wav").read_bytes(), 12),
    ],
    ids=["nothing but speech", "words now and then"],
)
async def test_an_hour_of_audio_is_recognised_in_flat_memory(
    fresh_stack: StartStack, settings: Mapping[str, str], every: int, speech: bytes, found: int
) -> None:
    """The worker and each of its children stay within 64 MiB of what they have resident after a short job.

    `speech` is heard every so many seconds, with silence between.
    """
    stack = fresh_stack(workers=1, **settings)
    async with Client(stack.url, stack.apikey) as client:
        warm = await client.submit(speech)
        await wait_until(lambda: client.ended(warm))
        with Resident(stack.workers[0]) as resident:
            job = await client.submit(hour(speech, every))
            await wait_until(lambda: client.ended(job), within=240)
        _, body = await client.look_up(job)
    assert body["status"] == "completed"
    assert len(body["results"][0]["results"]) >= found
    assert resident.samples > 50
    assert resident.growth < ALLOWED
    await nothing_left_over(stack)


def worked(process: Process) -> float:
    """Return for how many seconds it has had a processor: however many others want one."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def upload(stack: Stack, body: Iterable[bytes], headers: Mapping[str, str]) -> tuple[int, Any]:
    """Submit a body as it comes, framed as the headers say. Returns the status code and the answer."""
    with connected(stack) as connection:
        connection.putrequest("POST", "/v1/recognitions")
        given = {**credentials(stack), "Content-Type": "audio/l16; rate=16000", **headers}
        for name, value in given.items():
            connection.putheader(name, value)
        connection.endheaders()
        chunked = "Transfer-Encoding" in headers
        for piece in body:
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.send(b"0\r\n\r\n")
        answer = connection.getresponse()
        return answer.status, msgspec.json.decode(answer.read())


def discard(stack: Stack, answer: tuple[int, Any]) -> None:
    """Delete the job of this answer."""
    with connected(stack) as connection:
        connection.request("DELETE", f"/v1/recognitions/{answer[1]['id']}", headers=credentials(stack))
        assert connection.getresponse().status == HTTPStatus.NO_CONTENT


def connected(stack: Stack) -> closing[http.client.HTTPConnection]:
    address = urlsplit(stack.url)
    return closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=120))


def credentials(stack: Stack) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"apikey:{stack.apikey}".encode()).decode()}


def gzipped(size: int) -> bytes:
    """Return so many zero bytes as a member of a gzip file, of which several make a gzip file, too (RFC 1952 §2.2)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return compressor.compress(bytes(size)) + compressor.flush()


def hour(speech: bytes, every: int) -> AsyncIterator[bytes]:
    """Return a WAV file of an hour in pieces: the samples of `speech`, repeated every so many seconds."""
    with wave.open(io.BytesIO(speech)) as given:
        samples = given.readframes(given.getnframes())
    piece = samples.ljust(every * 16000 * 2, b"\0")
    head = io.BytesIO()
    with wave.open(head, "wb") as audio:
        audio.setparams((1, 2, 16000, 0, "NONE", ""))
        audio.writeframes(b"")
    # Writers of streams give no size: it is read to the end (spec 5.3).
    header = head.getvalue()[:40] + b"\xff\xff\xff\xff"

    async def pieces() -> AsyncIterator[bytes]:
        yield header
        for _ in range(HOUR // every):
            yield piece

    return pieces()


@contextmanager
def nothing_new(stack: Stack) -> Iterator[None]:
    """Fail when the block leaves a file of audio, a key of Redis, or anything else of a job."""
    before = keys(stack)
    yield
    assert files(stack) == []
    assert keys(stack) == before
    assert left_over(stack) == []


def keys(stack: Stack) -> set[bytes]:
    with redis.Redis.from_url(stack.redis_url) as client:
        # But for what counts requests, which comes and goes by itself.
        return {key for key in client.scan_iter(count=1000) if not key.startswith(b"volant:rate:")}


def files(stack: Stack) -> list[Path]:
    return [path for path in (stack.data / "audio").rglob("*") if path.is_file()]
