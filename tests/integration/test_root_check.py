"""`volant root check` on every provider."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from retention.cell_settings import RootSettings
from retention.roots.file import FileRoot
from retention.seal import Context, Key
from tests.commands import volant
from tests.integration.providers import Provider, Remote, provided


def check(settings: RootSettings) -> Result:
    """Run the command with these settings. No Redis is needed."""
    named = {name: getattr(settings, name) for name in settings.__struct_fields__}
    return volant("root", "check", **{name: str(value) for name, value in named.items() if value is not None})


@pytest.fixture(params=["file", "aws-kms", "pkcs11"])
def provider(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Give each provider in turn."""
    yield from provided(request.param, tmp_path, monkeypatch)


@pytest.fixture(params=["aws-kms", "pkcs11"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """Give each provider in turn that can go away."""
    yield from provided(request.param, tmp_path, monkeypatch)


def test_a_root_that_works(provider: Provider) -> None:
    """It says which it is and that it works."""
    done = check(provider.settings)
    assert (done.exit_code, done.stderr) == (0, "")
    named, works = done.stdout.splitlines()
    assert named.startswith(f"root: {provider.settings.root.partition(':')[0]}")
    assert works == "wraps and unwraps"


def test_a_root_that_does_not(remote: Remote) -> None:
    """One sentence, exit 1: for an outage, and for a key that was disabled."""
    remote.down()
    away = check(remote.settings)
    remote.up()
    remote.disable()
    disabled = check(remote.settings)
    for done in (away, disabled):
        assert done.exit_code == 1
        assert done.stdout.count("\n") == 1
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
    assert away.stderr != disabled.stderr


@pytest.mark.parametrize(
    ("key", "words"), [(Key(bytes(32)), "another key"), (None, "another purpose")], ids=["wrong key", "no context"]
)
def test_a_root_that_is_not_to_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: Key | None, words: str
) -> None:
    """One that gives back something else, or does not mind what a key was wrapped for."""
    given: list[Key] = []

    async def wrap(_: FileRoot, key: Key, _context: Context) -> bytes:
        given.append(key)
        return b""

    async def unwrap(_: FileRoot, _wrapped: bytes, _context: Context) -> Key:
        return key or given[0]

    monkeypatch.setattr(FileRoot, "wrap", wrap)
    monkeypatch.setattr(FileRoot, "unwrap", unwrap)
    done = check(RootSettings(root_key_file=tmp_path / "root.key", create_root_key=True))
    assert done.exit_code == 1
    assert words in done.stderr


def test_a_root_that_is_wrongly_set(tmp_path: Path) -> None:
    """The sentence names the setting."""
    done = check(RootSettings(root="vault", root_key_file=tmp_path / "root.key"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: root must be ")
