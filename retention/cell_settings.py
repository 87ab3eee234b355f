"""What makes a cell: a Redis, a root key and an audio store. The home cell and all others are opened from this.

Two cells share none of the three. In a common audio store each caretaker would sweep the other's recordings as
orphans, and under a common root key the separation of the plans would be one of names.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Meta, Struct

from retention.errors import SettingsError
from retention.listening import is_loopback

HOME = "home"
"""The name of the cell that the settings outside of `cells` describe. It knows all tenants and all API keys."""

OWN = ("redis_url", "audio")
"""What the table of a cell must name, beside its root: `root_key_file`, or a `root` that is no file."""

_BUCKET = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_NAME = re.compile("[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_REDIS = re.compile(
    r"rediss?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[0-9]{0,9})?|unix:///[^?#]+([?]db=[0-9]{1,9})?"
)
"""Where Redis is. What else the client reads in a URL has a setting of its own here, or is not to be changed."""


class RootSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a cell's root key is."""

    root: Annotated[
        str,
        Meta(
            description='Where the root key is: "file", "aws-kms:" and a key id or ARN, or an RFC 7512 URI, "pkcs11:'
            'token=TOKEN;object=LABEL?module-path=FILE".'
        ),
    ] = "file"
    root_key_file: Annotated[
        Path,
        Meta(description='The root key, with root = "file": 32 bytes in base64, in a file readable by its owner only.'),
    ] = Path("var/root.key")
    create_root_key: Annotated[
        bool, Meta(description="Make the root key's file at first start, if it is absent. For development.")
    ] = False
    root_credentials_file: Annotated[
        Path | None,
        Meta(
            description="A file, readable by its owner only, with what opens the root key's provider: for AWS KMS"
            " TOML, for PKCS #11 the PIN."
        ),
    ] = None


class CellSettings(RootSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one cell."""

    redis_url: Annotated[
        str,
        Meta(
            description="The cell's Redis: redis://HOST:PORT/DATABASE, rediss:// likewise, or unix:///PATH?db=DATABASE;"
            " the port is 6379 and the database 0 if left out."
        ),
    ] = "redis://127.0.0.1:6379/0"
    plain_redis: Annotated[bool, Meta(description="Speak to Redis without TLS although it is on another machine.")] = (
        False
    )
    redis_user: Annotated[str, Meta(description="The Redis user, when it is not the default one.")] = ""
    redis_password_file: Annotated[
        Path | None, Meta(description="A file, readable by its owner only, that holds the Redis password.")
    ] = None
    redis_ca_file: Annotated[
        Path | None, Meta(description="For rediss://, authorities of Redis's certificate in PEM, besides the system's.")
    ] = None
    redis_certificate: Annotated[
        Path | None, Meta(description="For rediss://, our own certificate in PEM, if Redis asks for one.")
    ] = None
    redis_key_file: Annotated[
        Path | None, Meta(description="The key of that certificate, in PEM, in a file readable by its owner only.")
    ] = None
    audio: Annotated[
        str,
        Meta(
            description="Where sealed audio waits for recognition: a directory on one file system, owned by Volant; or"
            " s3://bucket/prefix, gs://bucket/prefix, az://container/prefix."
        ),
    ] = "var/audio"
    audio_credentials_file: Annotated[
        Path | None,
        Meta(
            description="A TOML file, readable by its owner only, with options of the object store; none: the"
            " platform's own credentials."
        ),
    ] = None

    @property
    def is_audio_in_directory(self) -> bool:
        """Whether `audio` is the name of a directory, not of a bucket."""
        return bool(self.audio) and ":/" not in self.audio

    def __post_init__(self) -> None:
        url = _parsed(self.redis_url)
        rules = [
            (
                self.is_audio_in_directory or _BUCKET.fullmatch(self.audio) is not None,
                "audio must be a directory, or s3://, gs:// or az:// with a bucket and, if wanted, a prefix",
            ),
            (
                not self.is_audio_in_directory or self.audio_credentials_file is None,
                "audio_credentials_file is for audio in an object store",
            ),
            (url.scheme == "redis" or not self.plain_redis, "plain_redis must be false: redis_url is not redis://"),
            (
                url.scheme != "redis" or self.plain_redis or is_loopback(url.hostname or ""),
                f"redis_url: {url.hostname} is not loopback: make it rediss://, or say plain_redis = true",
            ),
            (
                url.scheme == "rediss" or (self.redis_ca_file or self.redis_certificate) is None,
                "redis_ca_file and redis_certificate need a redis_url that begins with rediss://",
            ),
            (
                (self.redis_certificate is None) == (self.redis_key_file is None),
                "redis_certificate and redis_key_file go together",
            ),
        ]
        for holds, sentence in rules:
            if not holds:
                raise SettingsError(sentence)


def check_tables(tables: object) -> None:
    """Refuse tables of cells that leave out what a cell cannot share with the home cell. Raises SettingsError."""
    if not isinstance(tables, Mapping):
        return
    for name, table in tables.items():
        if isinstance(table, Mapping):
            root = () if table.get("root", "file") != "file" else ("root_key_file",)
            for needed in (*OWN, *root):
                if needed not in table:
                    raise SettingsError(f"cells.{name}: {needed} is missing: a cell shares it with no other")


def check_apart(cells: Mapping[str, CellSettings]) -> None:
    """Refuse cells that have something in common, as far as their settings show it. Raises SettingsError.

    Of two names for one Redis, that one tells when the second cell is opened.
    """
    for name in cells:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"cells.{name}: a name is at most 32 of a-z, 0-9 and -, and does not begin or end in -")
    for (one, a), (other, b) in combinations(cells.items(), 2):
        if _server(a.redis_url) == _server(b.redis_url):
            raise SettingsError(f"redis_url: the cells {one} and {other} must not share a Redis")
        if _is_one_root(a, b):
            raise SettingsError(f"root: the cells {one} and {other} must not share a root key")
        if _is_one_store(a, b):
            raise SettingsError(f"audio: the cells {one} and {other} must not share one, nor nest them")


def _parsed(redis_url: str) -> SplitResult:
    """Return the parts of a URL that says where Redis is, and nothing more. Raises SettingsError for any other."""
    with suppress(ValueError):  # for a port or an address of digits that is none
        if _REDIS.fullmatch(redis_url) and (url := urlsplit(redis_url)).port != 0:
            return url
    raise SettingsError(
        "redis_url must be redis://HOST:PORT/DATABASE, rediss:// likewise, or unix:///PATH?db=DATABASE: user and"
        " password go into redis_user and redis_password_file"
    )


def _server(redis_url: str) -> str:
    """Return which Redis a URL names, whatever database of it: two of one are emptied, and fill up, together."""
    url = urlsplit(redis_url)
    return os.path.realpath(unquote(url.path)) if url.scheme == "unix" else f"{url.hostname}:{url.port or 6379}"


def _is_one_root(a: CellSettings, b: CellSettings) -> bool:
    """Tell whether two roots are one by their names. Of two names for one, keys tell when a cell is opened."""
    if "file" in (a.root, b.root):
        return a.root == b.root and _is_one_file(a.root_key_file, b.root_key_file)
    short, long = sorted((a.root.partition(":")[2], b.root.partition(":")[2]), key=len)
    if {root.partition(":")[0] for root in (a.root, b.root)} == {"aws-kms"}:
        return short == long or long.endswith((f"/{short}", f":{short}"))  # its id, and its ARN
    return a.root == b.root or sorted(re.split("[;?&]", short)) == sorted(re.split("[;?&]", long))


def _is_one_store(a: CellSettings, b: CellSettings) -> bool:
    if a.is_audio_in_directory and b.is_audio_in_directory:
        return _is_within(Path(a.audio), Path(b.audio)) or _is_within(Path(b.audio), Path(a.audio))
    return f"{a.audio}/".startswith(f"{b.audio}/") or f"{b.audio}/".startswith(f"{a.audio}/")


def _is_one_file(path: Path, other: Path) -> bool:
    with suppress(OSError):  # a process sees the root key of its own cell only, and others may have none yet
        return path.samefile(other)
    return _place(path) == _place(other)


def _place(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_within(inner: Path, outer: Path) -> bool:
    return _place(inner).is_relative_to(_place(outer))
