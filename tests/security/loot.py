"""Everything of a cell in the hands of a thief: its Redis, its files, its keys; and what opens with keys."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from redis.asyncio import Redis

from retention import keyspace
from retention.cell_settings import CellSettings
from retention.errors import Unsealable
from retention.job import TenantId
from retention.seal import Context, Key, Kind, unseal

_OF_THE_SERVICE = (Kind.INDEX_KEY, Kind.TOKEN_KEY, Kind.AUDIT_KEY)
_KEYS = {*_OF_THE_SERVICE, Kind.TENANT_KEY, Kind.DATA_KEY, Kind.IMPORT_TOKEN}
_KEY = 32
"""Bytes of a key; the private key of an import token, which opens nothing here, has more."""
_OF_A_JOB = {"submission": Kind.SUBMISSION, "result": Kind.RESULT, "user_token": Kind.USER_TOKEN}


@dataclass(frozen=True)
class Sealed:
    """A ciphertext, where it was found, and what it says of itself: whoever has it knows all of that."""

    place: str
    contexts: tuple[Context, ...]
    ciphertext: bytes


@dataclass(frozen=True)
class Loot:
    """All of a cell, but for what its keys open."""

    root: Key
    sealed: tuple[Sealed, ...]
    text: bytes
    """Every byte of it, in no order."""

    def opened(self, keys: list[Key]) -> tuple[set[str], list[Key]]:
        """Try every key on everything, and then the keys that were found. Returns what opened, and all keys."""
        keys, found = list(keys), dict[str, Kind]()
        for key in keys:  # it grows
            for sealed in self.sealed:
                for context in sealed.contexts:
                    try:
                        plain = unseal(key, sealed.ciphertext, context)
                    except Unsealable:
                        continue
                    if context.kind in _KEYS and sealed.place not in found and len(plain) == _KEY:
                        keys.append(Key(plain))
                    found[sealed.place] = context.kind
        return set(found), keys

    def kinds(self) -> set[Kind]:
        """Return what kinds of things there are."""
        return {context.kind for sealed in self.sealed for context in sealed.contexts}


async def steal(redis: Redis, settings: CellSettings) -> Loot:
    """Take all that a cell has."""
    hashes, tokens, text = dict[str, dict[str, bytes]](), dict[str, bytes](), b""
    for key in [key.decode() async for key in redis.scan_iter(count=1000)]:
        text += key.encode() + await redis.dump(key)
        if key.startswith(keyspace.import_token(TenantId(""))):
            tokens[key] = await redis.get(key)
        if await redis.type(key) == b"hash":
            hashes[key] = {name.decode(): value for name, value in (await redis.hgetall(key)).items()}
            text += b"".join(value for value in hashes[key].values())
    files = _files(Path(settings.audio))
    text += b"".join(str(path.relative_to(settings.audio)).encode() + path.read_bytes() for path in files)
    sealed = [sealed for key, fields in hashes.items() for sealed in _of_hash(key, fields)]
    sealed += [sealed for key, value in tokens.items() for sealed in _of_token(key, value)]
    for path in files:
        tenant, job = path.parts[-2:]
        sealed.append(Sealed(str(path), (Context(kind=Kind.AUDIO, tenant=tenant, job=job),), path.read_bytes()))
    return Loot(Key(base64.b64decode(settings.root_key_file.read_bytes())), tuple(sealed), text)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _of_hash(key: str, fields: dict[str, bytes]) -> Iterator[Sealed]:
    _, kind, *names = key.split(":")
    if key == keyspace.WRAPPED_KEYS:
        for field, value in fields.items():
            name, _, version = field.partition("@")
            contexts = [Context(kind=each, key_id=name, key_version=int(version)) for each in _OF_THE_SERVICE]
            yield Sealed(f"{key} {field}", tuple(contexts), value)
    elif key == keyspace.TENANT_KEYS:
        yield from _tenant_keys(fields)
    elif kind in ("job", "log") and len(names) == 2:
        tenant, job = names
        yield _wrapped(f"{key} key", fields["key"], tenant, job)
        for field, what in _OF_A_JOB.items():
            if field in fields:
                yield Sealed(f"{key} {field}", (Context(kind=what, tenant=tenant, job=job),), fields[field])
    elif kind == "callbacks":
        for tag, value in fields.items():
            kept = msgspec.json.decode(value)
            (tenant,) = names
            yield _wrapped(f"{key} {tag} key", base64.b64decode(kept["key"]), tenant, kept["id"])
            context = Context(kind=Kind.REGISTRATION, tenant=tenant, job=kept["id"])
            yield Sealed(f"{key} {tag}", (context,), base64.b64decode(kept["sealed"]))


def _tenant_keys(fields: dict[str, bytes]) -> Iterator[Sealed]:
    for field, value in fields.items():
        for version in msgspec.json.decode(value)["versions"]:
            context = Context(kind=Kind.TENANT_KEY, key_id=field, key_version=version["number"])
            yield Sealed(f"{keyspace.TENANT_KEYS} {field}", (context,), base64.b64decode(version["wrapped"]))


def _of_token(key: str, value: bytes) -> Iterator[Sealed]:
    kept = msgspec.json.decode(value)
    context = Context(kind=Kind.IMPORT_TOKEN, tenant=kept["token"]["tenant"], key_id=kept["token"]["id"])
    for part in ("key", "sealed"):
        yield Sealed(f"{key} {part}", (context,), base64.b64decode(kept[part]))


def _wrapped(place: str, wrapped: bytes, tenant: str, subject: str) -> Sealed:
    """Return a wrapped data key, which bears the name of the key that opens it."""
    name, _, sealed = wrapped.partition(b":")
    key_id, _, version = name.decode().partition("@")
    context = Context(kind=Kind.DATA_KEY, tenant=tenant, job=subject, key_id=key_id, key_version=int(version))
    return Sealed(place, (context,), sealed)
