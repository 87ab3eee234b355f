"""What is stored of a job, found by looking at everything there is: for the demonstration and for tests."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import redis
from msgspec import Struct

from deploy.stack import Stack


class Stored(Struct, frozen=True, kw_only=True):
    """Something that is stored of a job: where, what it holds, and in which time Redis will drop it by itself."""

    place: str
    values: dict[str, bytes]
    expires_in: timedelta | None = None


def everything_stored(stack: Stack, id_: str) -> list[Stored]:
    """Return every Redis key and every file of audio that has to do with the job, and what is in it.

    A key counts if the id is in its name or in anything it holds, and audio if it is named after the job.
    """
    name = id_.encode()
    found = []
    with redis.Redis.from_url(stack.redis_url) as client:
        for key in sorted(client.scan_iter(count=1000)):
            kind, values = _read(client, key)
            ours = values if name in key else {field: value for field, value in values.items() if name in value}
            if ours:
                left = client.pttl(key)
                expires = timedelta(milliseconds=left) if left >= 0 else None
                found.append(Stored(place=f"Redis {kind} {_short(key.decode())}", values=ours, expires_in=expires))
    for path in sorted((stack.data / "audio").rglob("*")):
        if path.is_file() and id_ in path.name:
            place = f"file {_short(str(path.relative_to(stack.data)))}"
            found.append(Stored(place=place, values={"sealed": path.read_bytes()}))
    return found


def files_holding(directory: Path, sample: bytes) -> list[str]:
    """Return the files beneath the directory that hold these bytes."""
    return [str(path) for path in directory.rglob("*") if path.is_file() and sample in path.read_bytes()]


def _read(client: "redis.Redis[bytes]", key: bytes) -> tuple[str, dict[str, bytes]]:
    kind = client.type(key).decode()
    if kind == "hash":
        return kind, {_label(field): value for field, value in client.hgetall(key).items()}
    return kind, {f"entry {n}": value for n, value in enumerate(_entries(client, kind, key), start=1)}


def _entries(client: "redis.Redis[bytes]", kind: str, key: bytes) -> Iterator[bytes]:
    if kind == "string":
        yield client.get(key) or b""
    elif kind == "list":
        yield from client.lrange(key, 0, -1)
    elif kind == "zset":
        yield from client.zrange(key, 0, -1)
    elif kind == "set":
        yield from client.smembers(key)


def _label(field: bytes) -> str:
    return field.decode(errors="backslashreplace")


def _short(place: str) -> str:
    """Cut the middle out of what would not fit into a line."""
    return place if len(place) <= 45 else f"{place[:24]}…{place[-20:]}"  # noqa: PLR2004 - a line of 80
