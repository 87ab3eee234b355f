"""AWS KMS as a root: what only it has. The suite of all providers is in test_root_providers.py."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.core.exceptions import JsonRESTError
from moto.kms.models import KmsBackend

from retention.cell_settings import RootSettings
from retention.errors import KeyUnavailable, SettingsError, Unavailable
from retention.roots import RootProvider, aws_kms, open_root
from retention.seal import Context, Key, Kind
from tests.integration.providers import Kms, opened, secret

CONTEXT = Context(kind=Kind.TENANT_KEY, tenant="t1", key_id="k1", key_version=2)


@pytest.fixture
def kms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kms]:
    """Give moto's KMS."""
    kms = Kms(tmp_path, monkeypatch)
    yield kms
    kms.close()


@pytest.fixture
async def root(kms: Kms) -> AsyncIterator[RootProvider]:
    """Give a root in it."""
    async with opened(kms.settings) as root:
        yield root


async def test_a_key_has_one_name(kms: Kms, root: RootProvider, tmp_path: Path) -> None:
    """Its id, whether it was named by that or by its ARN; what is wrapped by one name opens by the other."""
    id_ = kms.arn.rpartition("/")[2]
    file = secret(tmp_path / "region.toml", kms.access.read_text() + 'region = "eu-central-1"\n')
    key, wrapped = Key.random(), b""
    async with opened(RootSettings(root=f"aws-kms:{id_}", root_credentials_file=file)) as by_id:
        assert root.name == by_id.name == f"aws-kms/{id_}"
        wrapped = await by_id.wrap(key, CONTEXT)
    assert await root.unwrap(wrapped, CONTEXT) == key


async def test_the_trail_tells_what_a_use_was_for(root: RootProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encryption context says so in clear; what is empty is not in it."""
    seen: dict[str, Any] = {}
    encrypt = KmsBackend.encrypt

    def watched(self: KmsBackend, **asked: Any) -> Any:
        seen.update(asked)
        return encrypt(self, **asked)

    monkeypatch.setattr(KmsBackend, "encrypt", watched)
    await root.wrap(Key.random(), CONTEXT)
    assert seen["encryption_context"] == {"volant": "1", "kind": "5", "tenant": "t1", "key": "k1", "version": "2"}


async def test_a_rotated_key_opens_what_it_wrapped(kms: Kms, root: RootProvider) -> None:
    """KMS changes the material and keeps the old; nobody here notices."""
    key = Key.random()
    wrapped = await root.wrap(key, CONTEXT)
    kms.admin.rotate_key_on_demand(KeyId=kms.arn.rpartition("/")[2])
    assert await root.unwrap(wrapped, CONTEXT) == key


async def test_a_key_that_is_to_be_deleted_is_an_outage(kms: Kms, root: RootProvider) -> None:
    """As one that is disabled; when the deletion is called off and it is enabled, it is back."""
    key, id_ = Key.random(), kms.arn.rpartition("/")[2]
    wrapped = await root.wrap(key, CONTEXT)
    kms.admin.schedule_key_deletion(KeyId=id_, PendingWindowInDays=7)
    with pytest.raises(Unavailable, match="KMSInvalidStateException"):
        await root.unwrap(wrapped, CONTEXT)
    kms.admin.cancel_key_deletion(KeyId=id_)
    with pytest.raises(Unavailable, match="DisabledException"):
        await root.unwrap(wrapped, CONTEXT)
    kms.admin.enable_key(KeyId=id_)
    assert await root.unwrap(wrapped, CONTEXT) == key


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "KMSInternalException",
        "KeyUnavailableException",  # AWS's word for "retry"
        "DependencyTimeoutException",
        "AccessDeniedException",
        "ExpiredTokenException",
        "UnrecognizedClientException",
        "KMSInvalidStateException",
        "InvalidKeyUsageException",
        "NotFoundException",
    ],
)
async def test_a_refusal_for_now_is_an_outage(root: RootProvider, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A job must not read as gone because somebody took a right from us, or asked too often."""
    wrapped = await root.wrap(Key.random(), CONTEXT)

    def refuse(*_: Any, **__: Any) -> None:
        raise JsonRESTError(code, "words of AWS")

    for name in ("encrypt", "decrypt"):
        monkeypatch.setattr(KmsBackend, name, refuse)
    for attempt in (root.unwrap(wrapped, CONTEXT), root.wrap(Key.random(), CONTEXT)):
        with pytest.raises(Unavailable) as caught:
            await attempt
        assert "words of AWS" not in str(caught.value)


async def test_what_another_key_wrapped_is_not_ours(root: RootProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS says it of a ciphertext of a key that we may use, too."""
    wrapped = await root.wrap(Key.random(), CONTEXT)

    def refuse(*_: Any, **__: Any) -> None:
        raise JsonRESTError("IncorrectKeyException", "words of AWS")

    monkeypatch.setattr(KmsBackend, "decrypt", refuse)
    with pytest.raises(KeyUnavailable) as caught:
        await root.unwrap(wrapped, CONTEXT)
    assert "words of AWS" not in str(caught.value)


async def test_a_right_that_comes_back_meanwhile_loses_nothing(
    root: RootProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused once is asked for again before it is called another's."""
    key, refusals = Key.random(), ["once"]
    wrapped = await root.wrap(key, CONTEXT)
    decrypt = KmsBackend.decrypt

    def refuse(self: KmsBackend, **asked: Any) -> Any:
        if refusals:
            refusals.pop()
            raise JsonRESTError("AccessDeniedException", "")
        return decrypt(self, **asked)

    monkeypatch.setattr(KmsBackend, "decrypt", refuse)
    assert await root.unwrap(wrapped, CONTEXT) == key
    assert refusals == []


async def test_without_the_right_to_decrypt_nothing_is_gone(
    root: RootProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that may only encrypt cannot tell whether a wrapped key is good."""
    wrapped = await root.wrap(Key.random(), CONTEXT)

    def refuse(*_: Any, **__: Any) -> None:
        raise JsonRESTError("AccessDeniedException", "")

    monkeypatch.setattr(KmsBackend, "decrypt", refuse)
    with pytest.raises(Unavailable, match="access is denied"):
        await root.unwrap(wrapped, CONTEXT)


async def test_a_silent_kms_is_an_outage(kms: Kms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the SDK's patience nor by ours is it waited for without end."""

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)

    silent: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    access = 'access_key_id = "a"\nsecret_access_key = "b"\nendpoint_url = "http://127.0.0.1:{}"\n'
    settings = RootSettings(
        root=kms.settings.root, root_credentials_file=secret(tmp_path / "silent.toml", access.format(port))
    )
    for ours, sdks, words in ((0.2, 30.0, "no answer in time"), (30.0, 0.1, "ReadTimeoutError")):
        monkeypatch.setattr(aws_kms, "_WITHIN", ours)
        monkeypatch.setattr(aws_kms, "_ANSWER_WITHIN", sdks)
        async with opened(settings) as root:
            with pytest.raises(Unavailable, match=words):
                await root.check()
            for writer in silent:
                writer.close()
    server.close()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('access_key_id = "SECRET"', "both"),
        ('secret_access_key = "SECRET"', "both"),
        ('secret = "SECRET"', "must be TOML"),
        ("access_key_id = 5\nsecret_access_key = 'SECRET'", "must be TOML"),
        ("SECRET", "must be TOML"),
        ('endpoint_url = "http://kms.example"', "https"),
        ('endpoint_url = "http://10.0.0.1"', "https"),
        ('endpoint_url = "kms.example"', "https"),
    ],
)
async def test_a_wrong_credentials_file_is_a_sentence(tmp_path: Path, content: str, words: str) -> None:
    """Which does not quote it, not even in its causes."""
    file = secret(tmp_path / "aws.toml", content)
    with pytest.raises(SettingsError, match=words) as caught:
        await open_root(RootSettings(root="aws-kms:1234", root_credentials_file=file))
    assert "SECRET" not in f"{caught.value}{caught.value.__cause__}"


async def test_a_credentials_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It is everybody's then."""
    file = secret(tmp_path / "aws.toml", "")
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="0600"):
        await open_root(RootSettings(root="aws-kms:1234", root_credentials_file=file))


@pytest.mark.parametrize(
    "root", ["", "nowhere", "file:x", "aws-kms", "aws-kms:", "aws-kms:alias/volant", "pkcs11:", "aws-kms:a key"]
)
async def test_a_root_that_is_none_is_a_sentence(root: str) -> None:
    """An alias is none: it may be pointed at another key."""
    with pytest.raises(SettingsError, match=r"^root"):
        await open_root(RootSettings(root=root))


async def test_a_key_without_a_region_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ARN has one; an id needs one from the file or the platform."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="NoRegionError"):
        await open_root(RootSettings(root="aws-kms:1234"))
