"""What a stack still holds, seen from behind: in Redis, in its directory, in its logs and in the process table."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import psutil
import redis

from deploy.processes import Process
from deploy.stack import Stack
from retention import keyspace
from retention.job import Final, Job
from tests.recognizers import AT_WORK
from tests.stack import kept_forever, wait_until

_decode = msgspec.json.Decoder(Job).decode


async def nothing_left_over(stack: Stack, *, within: float = 60.0) -> None:
    """Return when every job is final and nothing is left of the work on it; fail after `within` seconds."""

    async def nothing() -> bool:
        return not left_over(stack)

    with suppress(AssertionError):  # the second look says what it is
        await wait_until(nothing, within=within)
    assert left_over(stack) == []


def left_over(stack: Stack) -> list[str]:
    """Return what should not be there when nobody works: queued, leased, unfinished, kept forever, or audio."""
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        queued = [f"queued: {id_}" for id_ in client.zrange(keyspace.RECOGNITION.name, 0, -1)]
        delivery = [f"of the queue: {key}" for key in client.scan_iter("arq:*", count=1000)]
    forever = [f"without expiry: {key}" for key in kept_forever(stack.redis_url)]
    unfinished = [f"{type(job).__name__}: {job.id}" for job in records(stack) if not isinstance(job, Final)]
    audio = [f"audio: {path}" for path in (stack.data / "audio").rglob("*") if path.is_file()]
    return queued + delivery + forever + unfinished + audio


def records(stack: Stack) -> list[Job]:
    """Return all jobs, as stored."""
    with redis.Redis.from_url(stack.redis_url) as client:
        found = [client.hget(key, "record") for key in client.scan_iter("volant:job:*", count=1000)]
    return [_decode(record) for record in found if record is not None]


def record(stack: Stack, job: str) -> Job | None:
    """Return one job, as stored."""
    return next((found for found in records(stack) if found.id == job), None)


def traces(stack: Stack, job: str) -> list[str]:
    """Return every key of Redis and every file that names the job, in its name or inside.

    Logs may name jobs, and so may the append-only file until it is rewritten.
    """
    kept = [path for path in stack.data.rglob("*") if path.is_file() and path.suffix != ".log"]
    with redis.Redis.from_url(stack.redis_url) as client:
        keys = [key for key in client.scan_iter(count=1000) if job.encode() in key + _content(client, key)]
    files = [path for path in kept if job in str(path) or _names(path, job)]
    return [str(found) for found in chain(keys, files)]


def said(stack: Stack, event: str, **fields: object) -> list[dict[str, Any]]:
    """Return the workers' log lines of this event that have these fields."""
    lines = chain.from_iterable(stack.logs(worker.name).splitlines() for worker in stack.workers)
    parsed: list[dict[str, Any]] = [json.loads(line) for line in lines if f'"{event}"' in line]
    return [line for line in parsed if line["event"] == event and fields.items() <= line.items()]


async def given_up(stack: Stack, job: str) -> bool:
    """Tell whether a worker that was away has found its job another's, or gone: as it looked, or as it finished."""
    return bool(said(stack, "superseded", job=job) or said(stack, "lease lost", job=job))


async def completions(stack: Stack, job: str) -> list[int]:
    """Wait until a worker says that it completed the job; return which attempt it was, for every such line."""

    async def completed() -> bool:
        return bool(said(stack, "job completed", job=job))

    await wait_until(completed)
    return [line["attempt"] for line in said(stack, "job completed", job=job)]


def family(process: Process) -> list[psutil.Process]:
    """Return all descendants of a process that runs."""
    return list(psutil.Process(process.pid).children(recursive=True)) if process.poll() is None else []


def at_work(process: Process) -> list[psutil.Process]:
    """Return the recognising children of a worker that are busy."""
    return [child for child in family(process) if _name(child) == AT_WORK.decode()]


async def busy(stack: Stack) -> bool:
    """Tell whether a job is being recognised."""
    return any(at_work(worker) for worker in stack.workers)


@asynccontextmanager
async def held_up(stack: Stack) -> AsyncIterator[None]:
    """Wait until a job is being recognised; it does not end while the block lasts, however long that takes."""
    held: list[psutil.Process] = []

    async def suspended() -> bool:
        for child in chain.from_iterable(map(at_work, stack.workers)):
            child.suspend()
            held.append(child)
        return bool(held)

    await wait_until(suspended)
    try:
        yield
    finally:
        for child in held:
            with suppress(psutil.NoSuchProcess):
                child.resume()


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that only awaits its burial does not."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _names(path: Path, job: str) -> bool:
    return "redis" not in path.parts and job.encode() in path.read_bytes()


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def _content(client: Any, key: bytes) -> bytes:
    read: dict[bytes, Callable[[], Iterable[bytes | None]]] = {
        b"string": lambda: [client.get(key)],
        b"hash": lambda: chain.from_iterable(client.hgetall(key).items()),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"list": lambda: client.lrange(key, 0, -1),
    }
    parts = read.get(client.type(key), list)()
    return b"\n".join(part for part in parts if part is not None)


async def uploading(stack: Stack, at_least: int = 1) -> bool:
    """Tell whether audio is on its way into the store: the API then has files open that have no name."""
    return sum(str(stack.data / "audio") in path for path in _open_files(stack.api.pid)) >= at_least


def _open_files(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return found
