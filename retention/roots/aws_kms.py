"""The root key in AWS KMS: AWS's own SDK, in threads.

KMS binds what it encrypts to an encryption context, which is authenticated, not secret: CloudTrail
shows it, so that every use of the root key tells which key of which tenant it was for. `Decrypt`
names the key, so that a ciphertext of another key is refused rather than opened.

An alias is no root: it may be pointed elsewhere, and what was wrapped would open no more. KMS rotates
a key's material by itself and keeps the old; wrapped keys stay good.
"""

import asyncio
import logging
import re
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from retention.errors import KeyUnavailable, SettingsError, Unavailable
from retention.private_files import read_secret
from retention.seal import Context, Key, Kind

# Two attempts fit into the whole, with the SDK's pause between them.
_CONNECT_WITHIN = 2.0
_ANSWER_WITHIN = 2.5
_WITHIN = 10.0
_AT_ONCE = 16
_MOST_WRAPPED = 6144
"""The longest ciphertext that `Decrypt` takes, in bytes."""

_ARN = re.compile(r"arn:[a-z-]+:kms:(?P<region>[a-z0-9-]+):[0-9]{12}:key/(?P<id>[A-Za-z0-9-]+)")
_ID = re.compile(r"[A-Za-z0-9-]+")

_DOES_NOT_OPEN = frozenset(
    {
        "InvalidCiphertextException",  # damaged, or bound to another context
        "IncorrectKeyException",  # encrypted under another key
    }
)


class _Access(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file `root_credentials_file`; what it leaves out, the platform's own chain gives."""

    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    region: str = ""
    endpoint_url: str = ""


class KmsRoot:
    """Wraps with `Encrypt` and unwraps with `Decrypt` of one symmetric KMS key."""

    def __init__(self, key: str, client: Any) -> None:
        """Use the key of this id or ARN by a client of the SDK."""
        self.name = f"aws-kms/{key.rpartition('/')[2]}"
        self._key = key
        self._client = client
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="aws-kms")

    @classmethod
    async def open(cls, key: str, credentials: Path | None) -> Self:
        """Return the root of this key id or ARN. Raises SettingsError."""
        arn = _ARN.fullmatch(key)
        if not arn and not _ID.fullmatch(key):
            raise SettingsError("root: aws-kms: must be followed by a key id or a key's ARN; an alias may change")
        access = _read_access(credentials) if credentials else _Access()
        return cls(key, await asyncio.to_thread(_connect, access, arn["region"] if arn else access.region))

    async def wrap(self, key: Key, context: Context) -> bytes:
        """Return what KMS makes of the key. Raises Unavailable."""
        plain, bound_to = key.raw(), _encryption_context(context)
        try:
            answer = await self._call(
                lambda: self._client.encrypt(KeyId=self._key, Plaintext=plain, EncryptionContext=bound_to)
            )
        except _Denied as error:
            raise Unavailable(f"{self.name} refuses: access is denied") from error
        return bytes(answer["CiphertextBlob"])

    async def unwrap(self, wrapped: bytes, context: Context) -> Key:
        """Return the key. Raises KeyUnavailable, Unavailable."""
        if not 0 < len(wrapped) <= _MOST_WRAPPED:
            raise KeyUnavailable(f"{self.name} did not wrap it")
        try:
            return await self._decrypt(wrapped, context)
        except _Denied:
            # Said of a ciphertext that names another key, and of rights that this process has not, for now. Whether
            # it may open what it wraps tells which it was.
            probe = await self.wrap(Key.random(), context)
        try:
            await self._decrypt(probe, context)
        except _Denied as error:
            raise Unavailable(f"{self.name} refuses: access is denied") from error
        try:
            return await self._decrypt(wrapped, context)  # the right may have come back before the probe
        except _Denied as error:
            raise KeyUnavailable(f"{self.name} did not wrap it") from error

    async def check(self) -> None:
        """Encrypt something, which needs no right that the work does not need. Raises Unavailable."""
        await self.wrap(Key.random(), Context(kind=Kind.TENANT_KEY, key_id="check"))

    async def close(self) -> None:
        """Close the connections. Calls that wait for a thread are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def _decrypt(self, wrapped: bytes, context: Context) -> Key:
        bound_to = _encryption_context(context)
        answer = await self._call(
            lambda: self._client.decrypt(KeyId=self._key, CiphertextBlob=wrapped, EncryptionContext=bound_to)
        )
        try:
            return Key(answer["Plaintext"])
        except ValueError as error:
            raise KeyUnavailable(f"{self.name} holds no key there") from error

    async def _call(self, request: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

        # The SDK's errors may hold the request, and with it the key: nobody is shown them.
        try:
            async with asyncio.timeout(_WITHIN):
                return await asyncio.get_running_loop().run_in_executor(self._threads, request)
        except TimeoutError:
            raise Unavailable(f"{self.name} gave no answer in time") from None
        except ClientError as error:
            raise _refusal(self.name, error.response.get("Error", {})) from None
        except BotoCoreError as error:
            raise Unavailable(f"{self.name} cannot be reached: {type(error).__name__}") from None


class _Denied(Exception):
    """AWS denies access: to the key, or to what the ciphertext names."""


def _refusal(name: str, error: dict[str, str]) -> KeyUnavailable | Unavailable | _Denied:
    """Tell what the root key did not wrap from a refusal for now; of AWS's words only the error's code is passed on."""
    code = error.get("Code", "")
    if code == "AccessDeniedException":
        return _Denied()
    if code in _DOES_NOT_OPEN:
        return KeyUnavailable(f"{name} does not open it: {code}")
    return Unavailable(f"{name} refuses: {code}")


def _encryption_context(context: Context) -> dict[str, str]:
    """Return the context as KMS takes it. A part that is empty or 0 is left out, so that no two are the same."""
    parts = {
        "tenant": context.tenant,
        "job": context.job,
        "attempt": context.attempt,
        "key": context.key_id,
        "version": context.key_version,
    }
    return {"volant": "1", "kind": str(int(context.kind))} | {
        name: str(value) for name, value in parts.items() if value
    }


def _read_access(path: Path) -> _Access:
    try:
        access = msgspec.convert(tomllib.loads(read_secret(path).decode()), _Access)
    except (ValueError, msgspec.ValidationError):
        # Without the cause: it may quote the file.
        names = ", ".join(_Access.__struct_fields__)
        raise SettingsError(f"root_credentials_file: {path} must be TOML with texts, of {names}") from None
    if bool(access.access_key_id) != bool(access.secret_access_key):
        raise SettingsError(f"root_credentials_file: {path} needs both access_key_id and secret_access_key, or neither")
    if access.endpoint_url and not _is_safe(access.endpoint_url):
        raise SettingsError(f"root_credentials_file: {path}: endpoint_url must begin with https://")
    return access


def _is_safe(url: str) -> bool:
    """Tell whether keys may be sent there: over TLS, or not off this machine."""
    try:
        parts = urlsplit(url)
        here = ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return url.startswith("https://")
    return parts.scheme == "https" or (parts.scheme == "http" and here)


def _connect(access: _Access, region: str) -> Any:
    """Return a client of the SDK. Blocks: it looks for credentials. Raises SettingsError."""
    try:
        import boto3  # noqa: PLC0415 - an extra, and slow to load
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError("root: aws-kms needs what `pip install 'volant[aws-kms]'` brings") from error
    logging.getLogger("botocore").setLevel(logging.WARNING)  # at DEBUG it logs requests, with the keys in them
    config = Config(
        connect_timeout=_CONNECT_WITHIN,
        read_timeout=_ANSWER_WITHIN,
        retries={"mode": "standard", "total_max_attempts": 2},
        max_pool_connections=_AT_ONCE,
    )
    try:
        return boto3.Session(
            aws_access_key_id=access.access_key_id or None,
            aws_secret_access_key=access.secret_access_key or None,
            aws_session_token=access.session_token or None,
            region_name=region or None,
        ).client("kms", endpoint_url=access.endpoint_url or None, config=config)
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"root: the AWS SDK cannot be set up: {type(error).__name__}") from error
