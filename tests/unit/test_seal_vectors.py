"""The sealing on the vectors of `tests/vectors/seal`: a change of the format changes one, visibly."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from retention.errors import Unsealable
from retention.seal import Context, Key, Kind, Unsealer, seal, unseal
from tests.vectors import make_seal

FOLDER = Path(__file__).parents[1] / "vectors" / "seal"
VECTORS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
OPENS = sorted(name for name, vector in VECTORS.items() if vector["expect"] == "opens")
REFUSED = sorted(name for name, vector in VECTORS.items() if vector["expect"] == "refused")


def key(vector: dict[str, Any]) -> Key:
    return Key(bytes.fromhex(vector["key"]))


def context(vector: dict[str, Any]) -> Context:
    fields = dict(vector["context"])
    return Context(kind=Kind(fields.pop("kind")), **fields)


def message(vector: dict[str, Any]) -> bytes:
    whole = base64.b64decode(VECTORS[vector["of"]]["sealed"])
    slices = vector.get("slices", [[0, len(whole)]])
    changed = bytearray(b"".join(whole[start:end] for start, end in slices))
    if "flip" in vector:
        changed[vector["flip"] // 8] ^= 1 << vector["flip"] % 8
    return bytes(changed) + bytes.fromhex(vector.get("append", ""))


@pytest.mark.parametrize("name", OPENS)
def test_what_was_sealed_opens(name: str) -> None:
    """A message sealed by another implementation opens."""
    vector = VECTORS[name]
    sealed = base64.b64decode(vector["sealed"])
    assert unseal(key(vector), sealed, context(vector)) == make_seal.plaintext(vector["length"])


@pytest.mark.parametrize("name", OPENS)
def test_sealing_gives_these_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the vector's salt from the system's generator, sealing gives the vector's message."""
    vector = VECTORS[name]
    monkeypatch.setattr(os, "urandom", lambda length: bytes.fromhex(vector["salt"])[:length])
    sealed = seal(key(vector), make_seal.plaintext(vector["length"]), context(vector))
    assert base64.b64encode(sealed).decode() == vector["sealed"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_changed_is_refused(name: str) -> None:
    """A message that was moved, cut, extended or damaged is refused, and nothing of it comes out."""
    vector = VECTORS[VECTORS[name]["of"]] | VECTORS[name]
    with pytest.raises(Unsealable):
        unseal(key(vector), message(vector), context(vector))


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("length", [1000, 16384, 16400, 1 << 20])
def test_a_stream_releases_only_what_was_authenticated(name: str, length: int) -> None:
    """A refused stream has given out at most the whole chunks before the damage, and they are right."""
    vector = VECTORS[VECTORS[name]["of"]] | VECTORS[name]
    sealed, unsealer, released = message(vector), Unsealer(key(vector), context(vector)), b""

    def read() -> None:
        nonlocal released
        for start in range(0, len(sealed), length):
            released += unsealer.update(sealed[start : start + length])
        released += unsealer.finish()

    with pytest.raises(Unsealable):
        read()
    assert len(released) <= vector["released"]
    assert released == make_seal.plaintext(len(released))


def test_the_vectors_are_all_there() -> None:
    """The files hold what the script makes, and nothing else."""
    made = make_seal.vectors()
    assert sorted(VECTORS) == sorted(made)
    assert [name for name in made if VECTORS[name] != made[name]] == []
