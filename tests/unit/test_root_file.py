"""The file of a root key: how it is made, and what is refused at the start."""

import base64
import stat
from pathlib import Path

import pytest

from retention.errors import SettingsError
from retention.roots.file import _make_root_key, read_root_key


def test_a_root_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Of processes that start together the first makes it; a file of mode 0600, and nothing else, is left."""
    path = tmp_path / "made" / "root.key"
    key = read_root_key(path, create=True)
    _make_root_key(path)  # as a process does that found none a moment ago
    assert read_root_key(path, create=True) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["root.key"]
    assert len(base64.b64decode(path.read_bytes())) == 32


def test_a_missing_root_key_is_not_made_unasked(tmp_path: Path) -> None:
    """In production a missing key is a mistake, not an occasion."""
    with pytest.raises(SettingsError, match=r"root\.key"):
        read_root_key(tmp_path / "root.key", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"c2hvcnQ=", b"not base64!", base64.b64encode(bytes(33))])
def test_a_malformed_root_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """Thirty-two bytes in base64, or nothing."""
    path = tmp_path / "root.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="does not hold 32 bytes"):
        read_root_key(path, create=False)


def test_a_root_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It is everybody's then."""
    path = tmp_path / "root.key"
    path.write_bytes(base64.b64encode(bytes(range(32))))
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="0600"):
        read_root_key(path, create=True)
