"""The sealing and an independent second implementation agree, in both directions."""

import pytest
from hypothesis import given, strategies as st

from retention.errors import Unsealable
from retention.seal import Context, Key, Kind, Sealer, Unsealer, seal, unseal
from tests.unit import reference_seal

CHUNK = 16384
KEYS = st.binary(min_size=32, max_size=32)
CONTEXTS = st.builds(
    Context,
    kind=st.sampled_from(Kind),
    tenant=st.text(max_size=20),
    job=st.text(max_size=20),
    attempt=st.integers(0, 2**32 - 1),
    key_id=st.text(max_size=20),
    key_version=st.integers(0, 2**32 - 1),
)
LENGTHS = st.one_of(
    st.integers(0, 100),
    st.builds(lambda chunks, near: max(0, CHUNK * chunks + near), st.integers(0, 3), st.integers(-17, 17)),
)


def message(length: int) -> bytes:
    return bytes(position * position % 253 for position in range(length))


def reference_context(context: Context) -> bytes:
    fields = {name: getattr(context, name) for name in context.__struct_fields__}
    return reference_seal.encode(**fields)


def in_pieces(data: bytes, lengths: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for length in lengths:
        pieces.append(data[start : start + length])
        start += length
    return [*pieces, data[start:]]


@given(context=CONTEXTS)
def test_contexts_are_encoded_alike(context: Context) -> None:
    """Both write the same context in the same bytes."""
    assert context.encode() == reference_context(context)


@given(one=CONTEXTS, other=CONTEXTS)
def test_no_two_contexts_have_the_same_bytes(one: Context, other: Context) -> None:
    """The encoding is injective."""
    assert (one.encode() == other.encode()) == (one == other)


@given(whole=st.text(alphabet="ab\0", max_size=8), borders=st.lists(st.integers(0, 8), min_size=4, max_size=4))
def test_borders_cannot_be_moved(whole: str, borders: list[int]) -> None:
    """The same text divided otherwise among tenant, job and key id is another context."""

    def divided(first: int, second: int) -> Context:
        first, second = sorted((first, second))
        return Context(kind=Kind.AUDIO, tenant=whole[:first], job=whole[first:second], key_id=whole[second:])

    one, other = divided(*borders[:2]), divided(*borders[2:])
    assert (one.encode() == other.encode()) == (one == other)


@given(key=KEYS, context=CONTEXTS, length=LENGTHS)
def test_the_reference_opens_what_we_seal(key: bytes, context: Context, length: int) -> None:
    """What is sealed here opens there."""
    sealed = seal(Key(key), message(length), context)
    assert reference_seal.unseal(key, reference_context(context), sealed) == message(length)


@given(key=KEYS, context=CONTEXTS, length=LENGTHS, salt=st.binary(min_size=24, max_size=24))
def test_we_open_what_the_reference_seals(key: bytes, context: Context, length: int, salt: bytes) -> None:
    """What is sealed there opens here."""
    sealed = reference_seal.seal(key, salt, reference_context(context), message(length))
    assert unseal(Key(key), sealed, context) == message(length)


@given(length=LENGTHS, cuts=st.lists(st.integers(0, 2 * CHUNK), max_size=8), views=st.booleans())
def test_pieces_make_no_difference(length: int, cuts: list[int], *, views: bool) -> None:
    """However a message arrives in pieces, it is sealed and unsealed as a whole."""
    key, context, wrap = Key.random(), Context(kind=Kind.AUDIO), memoryview if views else bytes
    sealer, unsealer = Sealer(key, context), Unsealer(key, context)
    sealed = b"".join(sealer.update(wrap(piece)) for piece in in_pieces(message(length), cuts)) + sealer.finish()
    assert reference_seal.unseal(key.raw(), reference_context(context), sealed) == message(length)
    opened = b"".join(unsealer.update(wrap(piece)) for piece in in_pieces(sealed, cuts)) + unsealer.finish()
    assert opened == message(length)


@given(data=st.data(), length=LENGTHS)
def test_both_refuse_the_same(data: st.DataObject, length: int) -> None:
    """Whatever is cut out of a message or put into it, both refuse it."""
    key, context = Key.random(), Context(kind=Kind.RESULT, tenant="t")
    sealed = seal(key, message(length), context)
    start, end = sorted((data.draw(st.integers(0, len(sealed))), data.draw(st.integers(0, len(sealed)))))
    changed = sealed[:start] + data.draw(st.binary(max_size=40)) + sealed[end:]
    if changed == sealed:
        assert unseal(key, changed, context) == message(length)
        return
    with pytest.raises(Unsealable):
        unseal(key, changed, context)
    with pytest.raises(reference_seal.Refused):
        reference_seal.unseal(key.raw(), reference_context(context), changed)
