"""Nothing that a client sends or is told is kept or printed in clear, whatever happens meanwhile (promise P4).

Markers go in everywhere; then everything that the stack's processes have written is searched for them.
"""

import asyncio
import base64
import gzip
import io
import json
import resource
import secrets
import struct
import urllib.parse
import wave
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil
import pytest
import redis

from deploy.processes import RedisServer, temporary_directory
from deploy.stack import Stack
from retention.job import Processing, new_job_id
from tests.acceptance.canary import Canary, files, forms, hits, places
from tests.acceptance.persistence import hide_nothing, save
from tests.acceptance.receivers import Receiver, Told, answers
from tests.acceptance.remains import records, uploading
from tests.speech import AUDIO
from tests.stack import StartStack, wait_until

REPAIRS_SOON = {"lease": "3", "sweep_every": "1", "rescue_after": "2", "children": "1"}


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a directory that the stack's processes take for temporary files."""
    with temporary_directory() as directory:
        monkeypatch.setenv("TMPDIR", str(directory))
        yield directory


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Give a receiver that takes nothing."""
    async with Receiver(answers(500), path="") as listening:
        yield listening


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_a_run_with_faults_leaves_no_marker_anywhere(
    fresh_stack: StartStack, temporary: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """Looked at with jobs waiting, being worked on, completed and gone, and with notifications pending and taken.

    Each process is killed once in between.
    """
    if level == "debug":
        monkeypatch.setenv("PYTHONDEVMODE", "1")  # all warnings, and asyncio's own debugging
    stack = fresh_stack(workers=0, log_level=level, callback_loopback="true", **REPAIRS_SOON)
    hide_nothing(stack)
    canary = Canary(stack, stack.apikey)
    markers = canary.markers
    speech = (AUDIO / "librivox_0880.wav").read_bytes()
    markers |= {"API key": secret_of(stack.apikey), "samples": speech[60000:60024]}

    async def found() -> list[str]:
        before = hits(places([stack.data, temporary], stack.redis_url), markers)
        await save(stack)
        return before + hits(places([stack.data, temporary], stack.redis_url), markers)

    await canary.be_refused()
    await canary.buy()
    await canary.register(receiver.url)
    heard = await canary.submit(speech, "audio/wav")
    marked = [
        await canary.submit(samples(canary.word("samples, raw")), "audio/l16; rate=16000"),
        await canary.submit(titled(samples(canary.word("samples, titled")), canary.word("title")), "audio/wav"),
        await canary.submit(b"OggS" + canary.word("damaged").encode() * 9, "audio/ogg"),
        await canary.submit(gzip.compress(titled(samples(canary.word("gzip")), "")), "audio/wav", coding="gzip"),
    ]
    assert await found() == []
    assert len([path for path in (stack.data / "audio").rglob("*") if path.is_file()]) == 5
    seen = hits(places([stack.data], stack.redis_url), {"id": heard.encode()})
    for kept in ("db0", "slow log", "api.log", "dump.rdb", ".aof", "audio/"):
        assert any(kept in line for line in seen), kept  # what may be seen is seen: the search looks there

    await be_cut_off(stack, canary)
    stack.start_worker()
    await wait_until(lambda: is_processing(stack))
    await wait_until(lambda: is_told(receiver.told))
    await kill_all_but_the_api(stack, canary)
    assert await found() == []

    for job in [heard, *marked]:
        await wait_until(lambda job=job: canary.ended(job))  # type: ignore[misc]
    _, body = await canary.ask("GET", f"/{heard}")
    words = [word for result in body["results"][0]["results"] for word, *_ in result["alternatives"][0]["timestamps"]]
    assert canary.word("name of an unknown parameter") in str(body["results"][0]["warnings"])
    assert len(words) > 3
    markers |= {"transcript": " ".join(words).encode(), "its beginning": " ".join(words[:3]).encode()}
    markers |= {f"word {at}": f'"{word}"'.encode() for at, word in enumerate(words) if len(word) > 3}
    assert await found() == []

    receiver.behaviour, refused = answers(204), len(receiver.told)
    await wait_until(lambda: is_told(receiver.told[refused:], heard))
    told = next(told.body for told in receiver.told[refused:] if b'"results"' in told.body)
    assert canary.word("user token").encode() in told
    markers |= {
        "notification": told[told.index(b'"user_token"') :],
        "its results": told[told.index(b'"results"') :][:80],
    }
    assert await found() == []

    for job in marked:
        assert (await canary.ask("DELETE", f"/{job}"))[0] == 204
    await canary.erase()
    assert (await canary.ask("GET", f"/{heard}"))[0] == 404
    assert await found() == []
    stack.stop()
    assert hits(files([stack.data, temporary]), markers) == []


async def test_the_root_key_is_in_its_file_alone(fresh_stack: StartStack, temporary: Path) -> None:
    """Neither Redis nor a log nor any other file holds it; nor does a process show it, or an API key, to `ps`."""
    stack = fresh_stack(workers=1, **REPAIRS_SOON)
    canary = Canary(stack, stack.apikey)
    job = await canary.submit((AUDIO / "cards_001.wav").read_bytes(), "audio/wav")
    await wait_until(lambda: canary.ended(job))
    await save(stack)
    root = stack.data / "root.key"
    markers = {"root key": base64.b64decode(root.read_bytes()), "API key": secret_of(stack.apikey)}
    found = hits(places([stack.data, temporary], stack.redis_url), markers)
    assert {line.rpartition(": ")[2] for line in found} == {str(root)}
    shown = list(shown_by_processes(stack))
    assert len(shown) > 2 * 4
    assert hits(shown, markers) == []
    assert any(str(root).encode() in content for _, content in shown)  # where it is, is no secret
    for process in (stack.api, *stack.workers):
        assert resource.prlimit(process.pid, resource.RLIMIT_CORE) == (0, 0)  # a core dump would hold it


@pytest.mark.parametrize("form", sorted(forms(b"canary")))
def test_the_search_finds_a_planted_marker_in_every_form(form: str, tmp_path: Path, redis_server: RedisServer) -> None:
    """In a file, in the name of a key, and in every type that Redis has; encoded by others than the search's own."""
    marker = secrets.token_bytes(17)
    planted = b"\xffsome" + ENCODED[form](marker) + b"thing\0"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(planted)
    with redis.Redis.from_url(redis_server.url, db=1) as client:
        client.set(b"1" + planted, "")
        client.set("2", planted)
        client.hset("3", planted, "")
        client.hset("4", "field", planted)
        client.rpush("5", planted)
        client.sadd("6", planted)
        client.zadd("7", {planted: 1})
        client.xadd("8", {"field": planted})
        try:
            found = hits(places([tmp_path], redis_server.url), {"marker": marker})
        finally:
            client.flushdb()
    keys = {"a key of db1", *(f"db1 b'{number}'" for number in range(2, 9))}
    assert {line.rpartition(": ")[2] for line in found if line.startswith(f"marker, {form}: ")} >= {
        *keys,
        str(tmp_path / "deep" / "file"),
    }
    assert hits(places([tmp_path], redis_server.url), {"another": secrets.token_bytes(17)}) == []


async def be_cut_off(stack: Stack, canary: Canary) -> None:
    """Kill the API in the middle of an upload, and start it again."""
    for_ever = asyncio.Event()

    async def begun() -> AsyncIterator[bytes]:
        yield samples(canary.word("samples, cut off")) * 40
        await for_ever.wait()

    upload = asyncio.create_task(canary.submit(begun(), "audio/l16; rate=16000"))
    await wait_until(lambda: uploading(stack))
    stack.kill("api")
    with pytest.raises(aiohttp.ClientError):
        await upload
    stack.start_api()


async def kill_all_but_the_api(stack: Stack, canary: Canary) -> None:
    """Kill Redis and who works with it, ask for something meanwhile, and start them again."""
    for name in ("notifier-1", "worker-1", "redis"):
        stack.kill(name)
    status, _ = await canary.ask("GET", f"/{new_job_id()}", params={"again": canary.word("parameter in an outage")})
    assert status == 503
    stack.restart_redis()
    hide_nothing(stack)
    stack.start_worker()
    stack.start_notifier()


async def is_told(told: Sequence[Told], job: str = "") -> bool:
    """Tell whether one of these notifications is of this job and has the results; or, without a job, there is any."""
    return any(not job or (each.id == job and "results" in json.loads(each.body)) for each in told)


async def is_processing(stack: Stack) -> bool:
    return any(isinstance(job, Processing) for job in records(stack))


def samples(marker: str) -> bytes:
    """Return a second of noise with the marker in it at even and odd places."""
    return (secrets.token_bytes(985) + marker.encode()) * 32


def titled(pcm: bytes, title: str) -> bytes:
    """Return a WAV file of these samples that says how it is called."""
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setparams((1, 2, 16000, 0, "NONE", ""))
        audio.writeframes(pcm[: len(pcm) // 2 * 2])
    name = title.encode().ljust(32, b"\0")
    return file.getvalue() + b"LIST" + struct.pack("<I4s4sI", len(name) + 12, b"INFO", b"INAM", len(name)) + name


def secret_of(apikey: str) -> bytes:
    return apikey.split("_", 2)[2].encode()


def shown_by_processes(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Give the command line and the environment of every process of the stack and of its children."""
    for parent in stack.processes():
        for process in (psutil.Process(parent.pid), *psutil.Process(parent.pid).children(recursive=True)):
            for shown in ("cmdline", "environ"):
                with suppress(PermissionError):  # then nobody else of this user may, either
                    yield f"{shown} of {parent.name}", Path(f"/proc/{process.pid}/{shown}").read_bytes()


def _swapped(data: bytes) -> bytes:
    pairs = array("H", data)
    pairs.byteswap()
    return pairs.tobytes()


def _base64_at(shift: int, encode: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda marker: encode(b"..."[:shift] + marker + b"..")


ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "hex": lambda marker: marker.hex().encode(),
    "HEX": base64.b16encode,
    "UTF-8": lambda marker: "".join(map(chr, marker)).encode(),
    "UTF-16LE": lambda marker: b"".join(bytes([byte, 0]) for byte in marker),
    "UTF-16BE": lambda marker: b"".join(bytes([0, byte]) for byte in marker),
    "percent": lambda marker: b"".join(b"%%%02X" % byte for byte in marker),
    "percent, small": lambda marker: b"".join(b"%%%02x" % byte for byte in marker),
    "percent where needed": lambda marker: urllib.parse.quote_from_bytes(marker, safe="").encode(),
    "repr": lambda marker: repr(marker)[2:-1].encode(),
    "escaped": lambda marker: b"".join(b"\\x%02x" % byte for byte in marker),
    "bytes swapped": lambda marker: _swapped(marker + b"."),
    "bytes swapped, odd": lambda marker: _swapped(b"." + marker),
    **{f"base64 at {shift}": _base64_at(shift, base64.b64encode) for shift in range(3)},
    **{f"base64url at {shift}": _base64_at(shift, base64.urlsafe_b64encode) for shift in range(3)},
}
