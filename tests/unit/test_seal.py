"""What the sealing promises: nothing opens elsewhere or changed, nothing comes out unauthenticated, no key shows."""

import copy
import hmac
import os
import pickle
from collections.abc import AsyncIterator
from unittest.mock import ANY, Mock

import msgspec
import pytest

from retention import seal as sealing
from retention.errors import Unsealable
from retention.seal import Context, Key, Kind, Sealer, Unsealer, seal, seal_stream, unseal, unseal_stream

CHUNK = 16384
CONTEXT = Context(kind=Kind.AUDIO, tenant="t", job="j")


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("plain", [b"", b"a", b"a short result"])
def test_every_flipped_bit_is_refused(plain: bytes) -> None:
    """Not one bit of a message can be changed."""
    key = Key.random()
    sealed = seal(key, plain, CONTEXT)
    for bit in range(8 * len(sealed)):
        with pytest.raises(Unsealable):
            unseal(key, flipped(sealed, bit), CONTEXT)


def test_every_shorter_message_is_refused() -> None:
    """A message cut anywhere does not open."""
    key = Key.random()
    sealed = seal(key, b"a short result", CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            unseal(key, sealed[:length], CONTEXT)


def test_no_two_messages_share_a_salt() -> None:
    """The same plaintext under the same key is another message every time."""
    key = Key.random()
    sealed = [seal(key, b"same", CONTEXT) for _ in range(1000)]
    assert len({message[:24] for message in sealed}) == 1000
    assert len({message[24:56] for message in sealed}) == 1000
    assert len({message[56:] for message in sealed}) == 1000


def test_the_salt_comes_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the operating system's generator makes a salt."""
    system = Mock(return_value=b"the salt's 24 bytes here")
    monkeypatch.setattr(os, "urandom", system)
    assert seal(Key(bytes(32)), b"", CONTEXT)[:24] == b"the salt's 24 bytes here"
    system.assert_called_once_with(24)


def test_nothing_is_decrypted_before_the_commitment_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another key or for another place, the cipher is never asked, and the comparison takes constant time."""
    sealed = seal(Key.random(), b"secret", CONTEXT)
    compare, cipher = Mock(wraps=hmac.compare_digest), Mock()
    monkeypatch.setattr(hmac, "compare_digest", compare)
    monkeypatch.setattr(sealing, "AESGCM", cipher)
    with pytest.raises(Unsealable):
        unseal(Key.random(), sealed, CONTEXT)
    compare.assert_called_once_with(ANY, sealed[24:56])
    cipher.return_value.decrypt.assert_not_called()


def test_a_damaged_stream_gives_out_what_came_before() -> None:
    """When the third chunk is damaged, the first two may come out, and after the error nothing more does."""
    key, plain = Key.random(), os.urandom(4 * CHUNK)
    sealed = flipped(seal(key, plain, CONTEXT), 8 * (56 + 2 * 16400 + 5))
    unsealer = Unsealer(key, CONTEXT)
    assert unsealer.update(sealed[: 56 + 2 * 16400]) == plain[: 2 * CHUNK]
    with pytest.raises(Unsealable):
        unsealer.update(sealed[56 + 2 * 16400 : 56 + 3 * 16400])
    with pytest.raises(ValueError, match="ended, or failed"):
        unsealer.update(sealed[56 + 3 * 16400 :])
    with pytest.raises(ValueError, match="ended, or failed"):
        unsealer.finish()


def test_a_message_ends_once() -> None:
    """After the end neither side goes on: a second end would be a second message under one salt."""
    key = Key.random()
    sealer, unsealer = Sealer(key, CONTEXT), Unsealer(key, CONTEXT)
    unsealer.update(sealer.finish())
    unsealer.finish()
    for one in (sealer, unsealer):
        with pytest.raises(ValueError, match="ended, or failed"):
            one.update(b"more")
        with pytest.raises(ValueError, match="ended, or failed"):
            one.finish()


def test_a_message_has_a_greatest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing stops before a chunk's number leaves the part of the nonce that is its own."""
    monkeypatch.setattr(sealing, "_MOST_CHUNKS", 2)
    with pytest.raises(OverflowError, match="at most"):
        seal(Key.random(), bytes(2 * CHUNK), CONTEXT)
    assert seal(Key.random(), bytes(2 * CHUNK - 1), CONTEXT)


async def test_streams_pass_through() -> None:
    """A stream is sealed and unsealed as it passes, without an empty piece."""
    key, plain = Key.random(), os.urandom(3 * CHUNK + 9)
    sealed = [piece async for piece in seal_stream(key, CONTEXT, stream(plain[:5], b"", plain[5:]))]
    opened = [piece async for piece in unseal_stream(key, CONTEXT, stream(*sealed, b""))]
    assert unseal(key, b"".join(sealed), CONTEXT) == b"".join(opened) == plain
    assert all(sealed)
    assert all(opened)


async def test_a_stream_without_its_end_is_refused() -> None:
    """A stream that was cut at a chunk's border ends in an error."""
    key = Key.random()
    sealed = seal(key, bytes(2 * CHUNK), CONTEXT)[:-16]
    with pytest.raises(Unsealable):
        [piece async for piece in unseal_stream(key, CONTEXT, stream(sealed))]


def test_a_key_does_not_show() -> None:
    """A key is in no text, pickle, copy or JSON."""
    key = Key(b"0123456789abcdef0123456789abcdef")
    assert repr(key) == str(key) == f"{key}" == "Key(…)"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            leak(key)
    with pytest.raises(TypeError):
        msgspec.json.encode(key)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_is_thirty_two_bytes(length: int) -> None:
    """A key of another length is refused."""
    with pytest.raises(ValueError, match="32"):
        Key(bytes(length))


def test_keys_compare_by_their_bytes() -> None:
    """Two keys are equal when their bytes are; random ones are not; nothing else is equal to a key."""
    assert Key(bytes(32)) == Key(bytes(32))
    assert Key.random() != Key.random()
    assert Key(bytes(32)) != bytes(32)


def test_a_context_that_does_not_fit_is_refused() -> None:
    """A part too long or too large for the encoding is an error, never another context."""
    for context in (Context(kind=Kind.AUDIO, tenant="t" * 65536), Context(kind=Kind.AUDIO, attempt=2**32)):
        with pytest.raises(OverflowError):
            context.encode()
