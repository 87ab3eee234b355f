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
from urllib.parse import parse_qs, urlsplit

from msgspec import Meta, Struct

from retention.errors import SettingsError

HOME = "home"
"""The name of the cell that the settings outside of `cells` describe. It knows all tenants and all API keys."""

OWN = ("redis_url", "root_key_file", "audio_directory")
"""What the table of a cell must name."""

_NAME = re.compile("[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


class CellSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one cell."""

    redis_url: Annotated[
        str, Meta(description="The cell's Redis: redis://, rediss:// or unix://; without a password.")
    ] = "redis://127.0.0.1:6379/0"
    redis_user: Annotated[str, Meta(description="The Redis user, when it is not the default one.")] = ""
    redis_password_file: Annotated[
        Path | None, Meta(description="A file, readable by its owner only, that holds the Redis password.")
    ] = None
    root_key_file: Annotated[
        Path, Meta(description="The root key: 32 bytes in base64, in a file readable by its owner only.")
    ] = Path("var/root.key")
    create_root_key: Annotated[
        bool, Meta(description="Make the root key at first start, if it is absent. For development.")
    ] = False
    audio_directory: Annotated[
        Path, Meta(description="Where sealed audio waits for recognition; one file system, owned by Volant.")
    ] = Path("var/audio")

    def __post_init__(self) -> None:
        url = urlsplit(self.redis_url)
        if url.password or "password" in parse_qs(url.query):
            raise SettingsError(
                "redis_url must not hold a password: put it into a file and name it in redis_password_file"
            )


def check_tables(tables: object) -> None:
    """Refuse tables of cells that leave out what a cell cannot share with the home cell. Raises SettingsError."""
    if isinstance(tables, Mapping):
        for name, table in tables.items():
            for needed in OWN:
                if isinstance(table, Mapping) and needed not in table:
                    raise SettingsError(f"cells.{name}: {needed} is missing: a cell shares it with no other")


def check_apart(cells: Mapping[str, CellSettings]) -> None:
    """Refuse cells that have something in common, as far as their settings show it. Raises SettingsError.

    Of two names for one Redis the second cell to be opened finds keys there that its root key does not open.
    """
    for name in cells:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"cells.{name}: a name is at most 32 of a-z, 0-9 and -, and does not begin or end in -")
    for (one, a), (other, b) in combinations(cells.items(), 2):
        if a.redis_url == b.redis_url:
            raise SettingsError(f"redis_url: the cells {one} and {other} must not share a Redis")
        if _is_one_file(a.root_key_file, b.root_key_file):
            raise SettingsError(f"root_key_file: the cells {one} and {other} must not share a root key")
        if _is_within(a.audio_directory, b.audio_directory) or _is_within(b.audio_directory, a.audio_directory):
            raise SettingsError(f"audio_directory: the cells {one} and {other} must not share one, nor nest them")


def _is_one_file(path: Path, other: Path) -> bool:
    with suppress(OSError):  # a process sees the root key of its own cell only, and others may have none yet
        return path.samefile(other)
    return _place(path) == _place(other)


def _place(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_within(inner: Path, outer: Path) -> bool:
    return _place(inner).is_relative_to(_place(outer))
