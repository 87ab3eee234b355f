"""What every provider of root keys keeps: one suite, the same for a file, AWS KMS and a PKCS #11 token."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from retention import keyspace
from retention.errors import KeyUnavailable, RetentionError, Unavailable
from retention.keyring import Keyring
from retention.roots import RootProvider
from retention.seal import Context, Key, Kind
from tests.integration.cell import Cell
from tests.integration.providers import PIN, SECRET_ACCESS_KEY, Provider, Remote, opened, provided

CONTEXT = Context(kind=Kind.TENANT_KEY, tenant="t1", key_id="k1", key_version=1)
ELSEWHERE = [
    Context(kind=Kind.INDEX_KEY, tenant="t1", key_id="k1", key_version=1),
    Context(kind=Kind.TENANT_KEY, tenant="t2", key_id="k1", key_version=1),
    Context(kind=Kind.TENANT_KEY, tenant="t1", key_id="k2", key_version=1),
    Context(kind=Kind.TENANT_KEY, tenant="t1", key_id="k1", key_version=2),
    Context(kind=Kind.TENANT_KEY, tenant="t1", job="j", key_id="k1", key_version=1),
    Context(kind=Kind.TENANT_KEY, tenant="t1", attempt=1, key_id="k1", key_version=1),
    Context(kind=Kind.TENANT_KEY, key_id="k1", key_version=1),
]


@pytest.fixture(params=["file", "aws-kms", "pkcs11"])
def provider(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Give each provider in turn."""
    yield from provided(request.param, tmp_path, monkeypatch)


@pytest.fixture(params=["aws-kms", "pkcs11"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """Give each provider in turn that can go away. A file was read at the start and is not needed any more."""
    yield from provided(request.param, tmp_path, monkeypatch)


@pytest.fixture
async def root(provider: Provider) -> AsyncIterator[RootProvider]:
    """Give the first root of a provider."""
    async with opened(provider.settings) as root:
        yield root


@pytest.fixture
async def remote_root(remote: Remote) -> AsyncIterator[RootProvider]:
    """Give the first root of a remote provider."""
    async with opened(remote.settings) as root:
        yield root


async def test_a_key_comes_back(root: RootProvider) -> None:
    """And is not readable in between; wrapping it twice gives two wraps."""
    key = Key.random()
    wrapped, again = await root.wrap(key, CONTEXT), await root.wrap(key, CONTEXT)
    assert wrapped != again
    assert key.raw() not in wrapped
    assert await root.unwrap(wrapped, CONTEXT) == key
    assert await root.unwrap(again, CONTEXT) == key
    await root.check()


async def test_what_was_wrapped_before_a_restart_opens_after_it(provider: Provider) -> None:
    """The root is with its provider, not with the process."""
    key = Key.random()
    async with opened(provider.settings) as before:
        wrapped, name = await before.wrap(key, CONTEXT), before.name
    async with opened(provider.settings) as after:
        assert await after.unwrap(wrapped, CONTEXT) == key
        assert after.name == name
    assert ":" not in name


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
async def test_another_context_is_refused(root: RootProvider, elsewhere: Context) -> None:
    """A wrapped key that was put into another place does not open there."""
    wrapped = await root.wrap(Key.random(), CONTEXT)
    with pytest.raises(KeyUnavailable):
        await root.unwrap(wrapped, elsewhere)


async def test_what_is_damaged_is_refused(root: RootProvider) -> None:
    """Any changed byte, anything missing at either end, anything added; and the root works on."""
    key = Key.random()
    wrapped = await root.wrap(key, CONTEXT)
    damaged = [wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :] for at in range(len(wrapped))]
    cut = [
        b"",
        wrapped[:1],
        wrapped[:-1],
        wrapped[1:],
        wrapped[:-16],
        wrapped + b"\0",
        bytes(len(wrapped)),
        bytes(10000),
    ]
    for changed in damaged + cut:
        with pytest.raises(KeyUnavailable):
            await root.unwrap(changed, CONTEXT)
    assert await root.unwrap(wrapped, CONTEXT) == key


async def test_what_another_root_wrapped_is_refused(provider: Provider, root: RootProvider) -> None:
    """Two keys of one provider do not open each other's."""
    async with opened(provider.another) as another:
        wrapped, foreign = await root.wrap(Key.random(), CONTEXT), await another.wrap(Key.random(), CONTEXT)
        for opener, content in ((root, foreign), (another, wrapped)):
            with pytest.raises(KeyUnavailable):
                await opener.unwrap(content, CONTEXT)
    await root.unwrap(wrapped, CONTEXT)


async def test_a_hundred_at_once(root: RootProvider) -> None:
    """Everyone gets his own key."""
    keys = [Key.random() for _ in range(100)]
    contexts = [Context(kind=Kind.TENANT_KEY, key_id=f"k{number}") for number in range(100)]
    wrapped = await asyncio.gather(*map(root.wrap, keys, contexts))
    assert await asyncio.gather(*map(root.unwrap, wrapped, contexts)) == keys


async def test_a_disabled_root_key_gives_nothing(remote: Remote, remote_root: RootProvider) -> None:
    """From the moment at which it was disabled at its provider; it may be enabled again, so nothing is called gone."""
    wrapped = await remote_root.wrap(Key.random(), CONTEXT)
    remote.disable()
    with pytest.raises(Unavailable):
        await remote_root.unwrap(wrapped, CONTEXT)
    with pytest.raises(Unavailable):
        await remote_root.wrap(Key.random(), CONTEXT)
    with pytest.raises(Unavailable):
        await remote_root.check()


async def test_a_disabled_root_key_is_an_outage_of_its_cell(
    cell: Cell, remote: Remote, remote_root: RootProvider
) -> None:
    """At the very first start, at a later one, for the first key of a tenant, and for a customer's token."""
    cell.keyring._root = cell.imports._root = remote_root
    token = await cell.imports.token(cell.tenant)
    await cell.redis.delete(keyspace.WRAPPED_KEYS)
    await Keyring.open(cell.redis, remote_root)
    remote.disable()
    no_key = {"wrapped": b"", "proof": b"", "algorithm": "RSAES_OAEP_SHA_256"}
    for attempt in (
        Keyring.open(cell.redis, remote_root),
        cell.keyring.wrap(Key.random(), cell.tenant, "x"),
        cell.imports.token(cell.tenant),
        cell.imports.material(cell.tenant, token.id, **no_key),  # type: ignore[arg-type]
    ):
        with pytest.raises(Unavailable):
            await attempt
    await cell.redis.delete(keyspace.WRAPPED_KEYS)
    with pytest.raises(Unavailable):
        await Keyring.open(cell.redis, remote_root)


async def test_an_outage_is_an_outage(remote: Remote, remote_root: RootProvider) -> None:
    """While the provider is away nothing is called gone; when it is back, all is as it was."""
    key = Key.random()
    wrapped = await remote_root.wrap(key, CONTEXT)
    for _ in range(2):
        remote.down()
        async with asyncio.timeout(15):
            for attempt in (remote_root.unwrap(wrapped, CONTEXT), remote_root.wrap(key, CONTEXT), remote_root.check()):
                with pytest.raises(Unavailable):
                    await attempt
        remote.up()
        assert await remote_root.unwrap(wrapped, CONTEXT) == key
        await remote_root.check()


async def test_a_root_may_be_opened_while_its_provider_is_away(remote: Remote) -> None:
    """A service that starts first waits, instead of ending."""
    remote.down()
    async with opened(remote.settings) as root:
        with pytest.raises(Unavailable):
            await root.check()
        remote.up()
        await root.check()


async def test_no_secret_is_told(
    remote: Remote, remote_root: RootProvider, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither keys nor what opens the provider: in a log at its most talkative, an error or a representation."""
    caplog.set_level(logging.DEBUG)
    key, told = Key.random(), [repr(remote_root), str(vars(remote_root)), remote_root.name]
    wrapped = await remote_root.wrap(key, CONTEXT)
    await remote_root.unwrap(wrapped, CONTEXT)
    told += [await _error(remote_root, wrapped[:-1] + b"\0" * 2), await _error(remote_root, wrapped[:-1])]
    remote.disable()
    told += [await _error(remote_root, wrapped)]
    remote.down()
    told += [await _error(remote_root, wrapped)]
    remote.up()
    everything = "\n".join([*told, caplog.text, *capfd.readouterr()])
    raw = key.raw()
    for secret in (PIN, SECRET_ACCESS_KEY, base64.b64encode(raw).decode(), raw.hex(), repr(raw)[2:-1]):
        assert secret not in everything


async def _error(root: RootProvider, wrapped: bytes) -> str:
    """Return all that can be read in the error of unwrapping this, down to its causes."""
    with pytest.raises(RetentionError) as caught:
        await root.unwrap(wrapped, CONTEXT)
    told = ""
    error: BaseException | None = caught.value
    while error is not None:
        told += f"{error!r} {error} {vars(error)}\n"
        error = error.__cause__ or error.__context__
    return told
