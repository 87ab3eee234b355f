"""Write the vectors of the sealing: `python -m tests.vectors.make_seal`. Always the same ones.

A vector says what shall happen. `opens` ones are made by the reference implementation and hold key,
context, salt, plaintext and sealed message. `refused` ones name one of those and say what is
different: another context or key, or a message put together from `slices` of it, with `flip` the
number of a bit to invert and `append` bytes to add. `released` is how much of the plaintext a
stream may have given out before it is refused.
"""

import base64
import hashlib
import json
from pathlib import Path

from tests.unit import reference_seal

FOLDER = Path(__file__).parent / "seal"
KEY = hashlib.sha256(b"the key of the vectors")
CONTEXT: dict[str, int | str] = {
    "kind": 1,
    "tenant": "8f14e45f",
    "job": "6a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c11",
    "attempt": 0,
    "key_id": "",
    "key_version": 0,
}
CHUNK, SEALED_CHUNK, PREFIX = 16384, 16400, 56
LENGTHS = {
    "empty": 0,
    "one-byte": 1,
    "short": 100,
    "just-below-a-chunk": CHUNK - 1,
    "exactly-a-chunk": CHUNK,
    "just-above-a-chunk": CHUNK + 1,
    "three-chunks": 2 * CHUNK + 500,
}


def plaintext(length: int) -> bytes:
    return bytes(position % 251 for position in range(length))


def opening(name: str, length: int, context: dict[str, int | str]) -> dict[str, object]:
    salt = hashlib.sha256(name.encode()).digest()[:24]
    encoded = reference_seal.encode(**context)  # type: ignore[arg-type]  # a mapping's values have one type
    sealed = reference_seal.seal(KEY.digest(), salt, encoded, plaintext(length))
    return {
        "expect": "opens",
        "key": KEY.hexdigest(),
        "context": context,
        "salt": salt.hex(),
        "plaintext": f"{length} bytes, each its position modulo 251",
        "length": length,
        "sealed": base64.b64encode(sealed).decode(),
    }


def moved() -> dict[str, dict[str, object]]:
    """Return the vectors that are whole but looked for elsewhere."""
    elsewhere: dict[str, dict[str, object]] = {
        "wrong-kind": {"kind": 3},
        "wrong-tenant": {"tenant": "8f14e460"},
        "wrong-job": {"job": "6a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c12"},
        "wrong-attempt": {"attempt": 1},
        "wrong-key-id": {"key_id": "common"},
        "wrong-key-version": {"key_version": 1},
        "border-moved": {"tenant": "8f14e45f6", "job": "a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c11"},
    }
    vectors: dict[str, dict[str, object]] = {name: {"context": CONTEXT | place} for name, place in elsewhere.items()}
    vectors["wrong-key"] = {"key": hashlib.sha256(b"another key").hexdigest()}
    return {name: {"expect": "refused", "of": "short", **vector, "released": 0} for name, vector in vectors.items()}


def damaged() -> dict[str, dict[str, object]]:
    """Return the vectors whose bytes were changed on the way."""
    first, second = PREFIX + SEALED_CHUNK, PREFIX + 2 * SEALED_CHUNK
    end = second + 500 + 16
    head, one, two, last = [0, PREFIX], [PREFIX, first], [first, second], [second, end]
    many: dict[str, dict[str, object]] = {
        "nothing": {"slices": [], "released": 0},
        "salt-only": {"slices": [[0, 24]], "released": 0},
        "header-cut": {"slices": [[0, PREFIX - 1]], "released": 0},
        "header-only": {"slices": [head], "released": 0},
        "cut-inside-the-first-chunk": {"slices": [[0, PREFIX + 1000]], "released": 0},
        "cut-at-the-first-chunk": {"slices": [head, one], "released": CHUNK},
        "cut-at-the-second-chunk": {"slices": [head, one, two], "released": 2 * CHUNK},
        "cut-inside-the-last-chunk": {"slices": [[0, end - 1]], "released": 2 * CHUNK},
        "cut-inside-the-last-tag": {"slices": [[0, second + 10]], "released": 2 * CHUNK},
        "chunks-swapped": {"slices": [head, two, one, last], "released": 0},
        "chunk-left-out": {"slices": [head, two, last], "released": 0},
        "chunk-repeated": {"slices": [head, one, one, two, last], "released": CHUNK},
        "last-chunk-repeated": {"slices": [head, one, two, last, last], "released": 2 * CHUNK},
        "last-chunk-first": {"slices": [head, last], "released": 0},
        "byte-added": {"slices": [[0, end]], "append": "00", "released": 2 * CHUNK},
        "salt-flipped": {"slices": [[0, end]], "flip": 0, "released": 0},
        "commitment-flipped": {"slices": [[0, end]], "flip": 8 * PREFIX - 1, "released": 0},
        "first-chunk-flipped": {"slices": [[0, end]], "flip": 8 * PREFIX, "released": 0},
        "second-chunk-flipped": {"slices": [[0, end]], "flip": 8 * (first + 77), "released": CHUNK},
        "last-chunk-flipped": {"slices": [[0, end]], "flip": 8 * second + 3, "released": 2 * CHUNK},
        "last-tag-flipped": {"slices": [[0, end]], "flip": 8 * end - 1, "released": 2 * CHUNK},
    }
    vectors = {name: {"expect": "refused", "of": "three-chunks", **vector} for name, vector in many.items()}
    whole = {"expect": "refused", "of": "exactly-a-chunk"}
    vectors["end-of-a-whole-chunk-cut"] = {**whole, "slices": [head, one], "released": CHUNK}
    return vectors


def vectors() -> dict[str, dict[str, object]]:
    """Return all vectors by their names."""
    other: dict[str, int | str] = {"kind": 4, "tenant": "ü", "job": "", "attempt": 4294967295, "key_id": "common"}
    opens = {name: opening(name, length, CONTEXT) for name, length in LENGTHS.items()}
    opens["every-part-of-the-context"] = opening("every-part-of-the-context", 32, other | {"key_version": 7})
    return opens | moved() | damaged()


if __name__ == "__main__":
    for stem, content in vectors().items():
        (FOLDER / f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n")
