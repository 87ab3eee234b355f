"""Sealing: the one way in which anything secret is written down.

C2SP *chunked-encryption v1* (c2sp.org/chunked-encryption) with AES-256-GCM and HKDF-Expand over
SHA-256. A message is `salt ‖ commitment ‖ chunks`. Why it is safe:

- *No nonce is used twice under a key.* Every message has a fresh random salt of 24 bytes, from which
  key, base nonce and commitment are derived; within a message the nonce is the base nonce XOR the
  chunk's number. No function here takes a nonce or a salt.
- *What it is bound to.* The context (tenant, job, kind, attempt, key id and version) goes into the
  derivation, injectively encoded: a message moved anywhere else derives another commitment.
- *One key opens it.* The 32-byte commitment is compared, in constant time, before a byte is
  decrypted. AES-GCM alone lets two keys open one ciphertext.
- *It is whole.* All chunks but the last are 16 KiB and the last is always shorter, so that its length
  marks the end: cutting at a chunk's border leaves no end, cutting elsewhere breaks a tag, and what is
  added after the end is not a chunk. Order is bound by the nonce.
- *Nothing unauthenticated is released.* A chunk is returned only after its own tag holds. `unseal`
  returns only after the end was seen; whoever reads a stream drops what came of it when an error follows.
"""

import enum
import hmac
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import NoReturn, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from msgspec import Struct

from retention.errors import Unsealable

_KEY = 32
_NONCE = 12
_SALT = 24
_COMMITMENT = 32
_CHUNK = 16 * 1024
_TAG = 16
_SEALED_CHUNK = _CHUNK + _TAG
_PREFIX = _SALT + _COMMITMENT
_LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
_MOST_CHUNKS = 1 << 38

_Piece = bytes | memoryview


class Key:
    """Thirty-two secret bytes that do not print, pickle or compare in variable time."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if len(raw) != _KEY:
            raise ValueError(f"a key is {_KEY} bytes")
        self._raw = bytes(raw)

    @classmethod
    def random(cls) -> Self:
        """Return a fresh key from the operating system's generator."""
        return cls(os.urandom(_KEY))

    def raw(self) -> bytes:
        """Return the bytes, for wrapping this key under another, for an HMAC, and for nothing else."""
        return self._raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> NoReturn:
        raise TypeError("a key is not hashable")

    def __repr__(self) -> str:
        return "Key(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")


class Kind(enum.IntEnum):
    """What a message is. Stored data depends on the numbers: they never change."""

    AUDIO = 1
    SUBMISSION = 2
    RESULT = 3
    DATA_KEY = 4
    TENANT_KEY = 5
    INDEX_KEY = 6
    TOKEN_KEY = 7
    USER_TOKEN = 8
    REGISTRATION = 9
    AUDIT_KEY = 10
    IMPORT_TOKEN = 11


class Context(Struct, frozen=True, kw_only=True):
    """Where a message belongs. It opens there and nowhere else."""

    kind: Kind
    tenant: str = ""
    job: str = ""
    attempt: int = 0
    key_id: str = ""
    key_version: int = 0

    def encode(self) -> bytes:
        """Return the context as bytes that no other context has: every variable part has its length before it."""
        place = self.kind.to_bytes(1) + _with_length(self.tenant) + _with_length(self.job) + self.attempt.to_bytes(4)
        return b"volant1" + place + _with_length(self.key_id) + self.key_version.to_bytes(4)


def seal(key: Key, plaintext: bytes, context: Context) -> bytes:
    """Return the plaintext sealed under the key, bound to the context: 72 bytes longer, and 16 more each 16 KiB."""
    sealer = Sealer(key, context)
    return sealer.update(plaintext) + sealer.finish()


def unseal(key: Key, sealed: bytes, context: Context) -> bytes:
    """Return the plaintext, all of it or none. Raises Unsealable."""
    unsealer = Unsealer(key, context)
    return unsealer.update(sealed) + unsealer.finish()


async def seal_stream(key: Key, context: Context, plain: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Seal a stream as it passes, in constant memory."""
    sealer = Sealer(key, context)
    async for piece in plain:
        if sealed := sealer.update(piece):
            yield sealed
    yield sealer.finish()


async def unseal_stream(key: Key, context: Context, sealed: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Unseal a stream as it passes, in constant memory. Raises Unsealable, possibly after earlier chunks."""
    unsealer = Unsealer(key, context)
    async for piece in sealed:
        if plain := unsealer.update(piece):
            yield plain
    if rest := unsealer.finish():
        yield rest


class Sealer:
    """Seals one message, piece by piece. `finish` is called once, and last."""

    def __init__(self, key: Key, context: Context) -> None:
        salt = os.urandom(_SALT)
        self._chunks, commitment = _derive(key, salt, context)
        self._prefix = salt + commitment
        self._rest: bytes | None = b""

    def update(self, data: bytes | memoryview) -> bytes:
        """Take the next piece of the message and return what can be written of it."""
        rest, self._rest = self._rest, None
        chunks, rest = _cut(rest, data, _CHUNK)
        sealed = self._prefix + self._chunks.encrypt(chunks)
        self._prefix, self._rest = b"", rest
        return sealed

    def finish(self) -> bytes:
        """Return the end of the message."""
        rest, self._rest = self._rest, None
        _, last = _cut(rest, b"", _CHUNK)
        return self._prefix + self._chunks.encrypt([last])


class Unsealer:
    """Unseals one message, piece by piece: what it returns is authenticated. `finish` is called once, and last."""

    def __init__(self, key: Key, context: Context) -> None:
        self._key = key
        self._context = context
        self._prefix = b""
        self._chunks: _Chunks | None = None
        self._rest: bytes | None = b""

    def update(self, sealed: bytes | memoryview) -> bytes:
        """Take the next piece and return the chunks it completes. Raises Unsealable; then nothing more comes."""
        rest, self._rest = self._rest, None
        if self._chunks is None:
            missing = _PREFIX - len(self._prefix)
            self._prefix, sealed = self._prefix + sealed[:missing], memoryview(sealed)[missing:]
            if len(self._prefix) == _PREFIX:
                self._chunks = self._commit()
        chunks, rest = _cut(rest, sealed, _SEALED_CHUNK)
        plain = self._chunks.decrypt(chunks) if self._chunks else b""
        self._rest = rest
        return plain

    def finish(self) -> bytes:
        """Return the last chunk. Raises Unsealable when the message has no end: it was cut."""
        rest, self._rest = self._rest, None
        _, last = _cut(rest, b"", _SEALED_CHUNK)
        if self._chunks is None:
            raise Unsealable("cut before its first chunk")
        # A whole chunk never waits here. So what does is shorter: the end, or, without a tag, no chunk at all.
        return self._chunks.decrypt([last])

    def _commit(self) -> "_Chunks":
        chunks, commitment = _derive(self._key, self._prefix[:_SALT], self._context)
        if not hmac.compare_digest(commitment, self._prefix[_SALT:]):
            raise Unsealable("sealed under another key, or bound to something else")
        return chunks


class _Chunks:
    """The chunks of one message, each under its number."""

    def __init__(self, key: bytes, base_nonce: bytes) -> None:
        self._aead = AESGCM(key)
        self._base = int.from_bytes(base_nonce)
        self._next = 0
        # Made once: what comes and goes with every piece has the allocator give its pages back, and take them again.
        self._space = bytearray()

    def encrypt(self, chunks: list[_Piece]) -> bytes:
        return self._each(self._aead.encrypt_into, chunks, _TAG)

    def decrypt(self, chunks: list[_Piece]) -> bytes:
        try:
            return self._each(self._aead.decrypt_into, chunks, -_TAG)
        except InvalidTag as error:
            raise Unsealable("damaged, cut or extended") from error

    def _each(self, work: Callable[[bytes, _Piece, None, memoryview], int], chunks: list[_Piece], more: int) -> bytes:
        """Return the chunks after work on each, which makes it so many bytes longer."""
        # Numbers are spent before they are used, so that none serves twice, whatever fails in between.
        base, first = self._base, self._next
        self._next += len(chunks)
        if self._next > _MOST_CHUNKS:
            raise OverflowError("a message is at most 4 PiB")
        if len(self._space) < (needed := sum(len(chunk) + more for chunk in chunks)):
            self._space = bytearray(needed)
        space, end = memoryview(self._space), 0
        for number, chunk in enumerate(chunks, first):
            begin, end = end, end + len(chunk) + more
            work((base ^ number).to_bytes(_NONCE), chunk, None, space[begin:end])
        return bytes(space[:end])


def _cut(rest: bytes | None, data: _Piece, length: int) -> tuple[list[_Piece], bytes]:
    """Return the pieces of this length that rest and data hold together, and what is left.

    A message's rest is None while it is worked on: one that failed or ended stays so and cannot go on.
    """
    if rest is None:
        raise ValueError("the message has ended, or failed")
    if len(rest) + len(data) < length:
        return [], rest + data
    view = memoryview(data)
    begin = length - len(rest) if rest else 0
    end = len(view) - (len(view) - begin) % length
    whole: list[_Piece] = [view[start : start + length] for start in range(begin, end, length)]
    return [rest + view[:begin], *whole] if rest else whole, bytes(view[end:])


def _derive(key: Key, salt: bytes, context: Context) -> tuple[_Chunks, bytes]:
    """Return the chunks' cipher and the commitment. The salt is fresh, or was read from a sealed message."""
    info = _LABEL + salt + context.encode()
    derived = HKDFExpand(SHA256(), _KEY + _NONCE + _COMMITMENT, info).derive(key.raw())
    return _Chunks(derived[:_KEY], derived[_KEY : _KEY + _NONCE]), derived[_KEY + _NONCE :]


def _with_length(text: str) -> bytes:
    return len(encoded := text.encode()).to_bytes(2) + encoded
