"""Which audio store the settings choose, and what is said of settings with which none can be had."""

import sys
from pathlib import Path

import pytest

from retention.audio_directory import AudioDirectory
from retention.audio_objects import AudioObjects, LoggedObjects
from retention.audio_stores import open_audio
from retention.errors import SettingsError
from retention.logged_directory import LoggedDirectory
from retention.settings import Settings, load

S3 = 'access_key_id = "AKIA"\nsecret_access_key = "hush"\nregion = "eu-central-1"\n'
AZURE = 'account_name = "recordings"\naccount_key = "aHVzaA=="\n'
GOOGLE = 'bearer_token = "hush"\n'


def settings(directory: Path, url: str, options: str | None, *, mode: int = 0o600) -> Settings:
    """Return settings with this place for audio, and these options in a file."""
    environment = {"VOLANT_AUDIO": url}
    if options is not None:
        file = directory / "options.toml"
        file.write_text(options)
        file.chmod(mode)
        environment["VOLANT_AUDIO_CREDENTIALS_FILE"] = str(file)
    return load(environment)


@pytest.mark.parametrize("place", ["var/audio", "/srv/audio", "audio", "C:", "s3"])
def test_a_directory(place: str) -> None:
    """Whatever is no URL is a directory's name."""
    audio, logged = open_audio(load({"VOLANT_AUDIO": place}))
    assert (type(audio), type(logged)) == (AudioDirectory, LoggedDirectory)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://recordings", S3),
        ("s3://recordings/a/b-c", f"{S3}[client]\ntimeout = '10s'\n"),
        ("s3://recordings", None),
        ("gs://recordings/cell", GOOGLE),
        ("gs://recordings.example.com", None),
        ("az://recordings/cell", AZURE),
    ],
)
def test_a_bucket(tmp_path: Path, url: str, options: str | None) -> None:
    """Each kind of URL is a bucket; nothing is asked of it before it is used."""
    audio, logged = open_audio(settings(tmp_path, url, options))
    assert (type(audio), type(logged)) == (AudioObjects, LoggedObjects)


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("s3://recordings", f'{S3}secrets = "hush"', "s3:// does not take these options"),
        ("s3://recordings", f'{S3}secret_access_key = ["hush"]', "cannot be read as TOML"),
        ("s3://recordings", 'secret_access_key = ["hush"]', "s3:// does not take these options"),
        ("s3://recordings", f'{S3}client = "hush"', "s3:// does not take these options"),
        ("s3://recordings", f'{S3}[client]\nhush = "hush"', "s3:// does not take these options"),
        ("az://recordings", f'{AZURE}accounts = "hush"', "az:// does not take these options"),
        ("az://recordings", 'account_name = "recordings"\naccount_key = "hush!"', "az:// does not take these options"),
        ("gs://recordings", 'service_account = "/hush"', "gs:// does not take these options"),
        ("gs://recordings", "hush", "cannot be read as TOML"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, url: str, options: str, sentence: str) -> None:
    """In a sentence that says nothing of what they were."""
    with pytest.raises(SettingsError) as refusal:
        open_audio(settings(tmp_path, url, options))
    assert sentence in str(refusal.value)
    assert "hush" not in str(refusal.value)


def test_options_that_others_can_read_are_refused(tmp_path: Path) -> None:
    """They hold credentials."""
    with pytest.raises(SettingsError, match="make it 0600"):
        open_audio(settings(tmp_path, "s3://recordings", S3, mode=0o640))


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a command that installs it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("audio_objects", "upload", "bucket"):
        monkeypatch.delitem(sys.modules, f"retention.{name}")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(SettingsError, match=r"pip install 'volant\[object-store\]'"):
        open_audio(load({"VOLANT_AUDIO": "s3://recordings"}))
