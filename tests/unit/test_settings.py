"""Settings: where they come from, what they refuse, and what is said of them."""

from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

from retention.errors import SettingsError
from retention.settings import Settings, load, read_secret


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_is_documented(name: str) -> None:
    """Each setting says in a sentence what it means, and has a default or cannot be forgotten."""
    described = get_type_hints(Settings, include_extras=True)[name].__metadata__[0].description
    assert described.endswith(".")
    assert len(described) > 20


def test_the_defaults_agree_with_each_other() -> None:
    """Volant starts without any setting; results are kept for a week (spec 2.3)."""
    settings = load({})
    assert settings.results_ttl == timedelta(days=7)
    assert settings.patience == timedelta(days=7)
    assert settings.max_upload == 1_073_741_824
    assert (settings.request_log, settings.request_log_retention) == (False, timedelta(days=30))


def test_a_file_is_read(tmp_path: Path) -> None:
    """VOLANT_CONFIG names a TOML file; durations are seconds or ISO 8601."""
    file = tmp_path / "volant.toml"
    file.write_text('lease = 5\npatience = "P1D"\naudio = "/srv/audio"\nport = 0\n')
    settings = load({"VOLANT_CONFIG": str(file)})
    assert settings.lease == timedelta(seconds=5)
    assert settings.patience == timedelta(days=1)
    assert settings.audio == "/srv/audio"
    assert settings.port == 0


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """A variable wins over the file, and leaves the rest of the file in force."""
    file = tmp_path / "volant.toml"
    file.write_text('port = 1000\nhost = "::1"\n')
    settings = load({"VOLANT_CONFIG": str(file), "VOLANT_PORT": "2000"})
    assert (settings.host, settings.port) == ("::1", 2000)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TOKEN_LIFE": "59"}, "token_life must be at least a minute"),
        ({"TOKEN_LIFE": "3601"}, "token_life must be at least a minute and at most an hour"),
        ({"LEASE": "2"}, "lease must be at least 3 seconds"),
        ({"RESULTS_TTL": "59"}, "results_ttl must be at least a minute"),
        ({"RESULTS_TTL": "P8D"}, "max_results_ttl must not be below results_ttl"),
        ({"PATIENCE": "30"}, "patience must be longer than rescue_after"),
        ({"RESCUE_AFTER": "0.5"}, "rescue_after must be at least a second"),
        ({"SWEEP_EVERY": "0"}, "sweep_every must be above 0"),
        ({"SWEEP_EVERY": "31"}, "sweep_every must be above 0 and at most 30"),
        ({"ORPHAN_AFTER": "19"}, "orphan_after must be at least 20 seconds"),
        ({"ORPHAN_AFTER": "51"}, "orphan_after must be at least 20 seconds, and with sweep_every at most 60"),
        ({"STALL": "4"}, "stall must be at least 5 seconds"),
        ({"UPLOAD_STALL": "0.5"}, "upload_stall must be at least a second"),
        ({"DRAIN": "-1"}, "drain must not be negative"),
        ({"MAX_AUDIO": "59"}, "max_audio must be at least a minute"),
        ({"REQUEST_LOG_RETENTION": "59"}, "request_log_retention must be at least a minute"),
        ({"REDIS_URL": "redis://:hush@localhost/0"}, "redis_url must not hold a password"),
        ({"REDIS_URL": "redis://localhost/0?password=hush"}, "redis_url must not hold a password"),
        *(
            ({"CORS_ORIGINS": text}, "cors_origins must be * or origins")
            for text in (
                *("a.example", "https://", "https://a.example/", "https://a.example/page", "//a.example", "null"),
                *("https://*.example", "https://A.example", "HTTPS://a.example", "https://a.example:", "http://a?b"),
                *("https://a.example:443", "http://a.example:80", "https://me@a.example", "https://a.example,"),
                *("* https://a.example", "https://a.example *", "* *", "https://a.example b.example", "http://é"),
            )
        ),
        *(
            ({"AUDIO": text}, "audio must be a directory, or s3://")
            for text in (
                *("", "s3://", "s3:/recordings", "s3://a", "s3://Recordings", "s3://recordings/", "s3://recordings//a"),
                *("s3://recordings/../a", "s3://recordings/.log", "s3://recordings?a", "s3://key:hush@recordings"),
                *("file:///srv/audio", "http://recordings", "azure://recordings", "S3://recordings"),
            )
        ),
        ({"AUDIO": "s3://recordings", "MAX_UPLOAD": "51539607553"}, "max_upload must be at most 48 GiB"),
        ({"AUDIO_CREDENTIALS_FILE": "/etc/volant/s3.toml"}, "audio_credentials_file is for audio in an object store"),
        ({"PORT": "65536"}, "port"),
        ({"PORT": "http"}, "port"),
        ({"MAX_UPLOAD": "99"}, "max_upload"),
        ({"CHILD_MEMORY": "1000"}, "child_memory"),
        ({"LOG_LEVEL": "loud"}, "log_level"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(environment: dict[str, str], words: str) -> None:
    """Values out of range, and values that contradict each other, are refused with a sentence that names them."""
    with pytest.raises(SettingsError) as refused:
        load({f"VOLANT_{name}": value for name, value in environment.items()})
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "https://a.example", "http://a-b.example:8080 https://xn--bcher-kva.example", "http://[::1]:3000"),
        *("http://127.0.0.1:8080", "http://localhost:8000\n  https://a.example:80\n", "capacitor://localhost"),
    ],
)
def test_origins_are_taken_as_browsers_write_them(text: str) -> None:
    """All of them, none, or a list with whatever blanks between."""
    assert load({"VOLANT_CORS_ORIGINS": text}).cors_origins == text


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    """A mistyped name does not pass in silence."""
    file = tmp_path / "volant.toml"
    file.write_text("leese = 5\n")
    with pytest.raises(SettingsError, match="leese"):
        load({"VOLANT_CONFIG": str(file)})


@pytest.mark.parametrize("content", [None, "port = = 1"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    """An absent or malformed file is named."""
    file = tmp_path / "volant.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=r"volant\.toml"):
        load({"VOLANT_CONFIG": str(file)})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    """A secret's file belongs to its owner alone."""
    file = tmp_path / "secret"
    file.write_text("hush")
    file.chmod(mode)
    with pytest.raises(SettingsError, match="make it 0600") as refused:
        read_secret(file)
    assert "hush" not in str(refused.value)


def test_a_secret_is_read_without_its_line_end(tmp_path: Path) -> None:
    """White space around a secret is not part of it."""
    file = tmp_path / "secret"
    file.write_text("hush\n")
    file.chmod(0o600)
    assert read_secret(file) == b"hush"


def test_an_absent_secret_is_named(tmp_path: Path) -> None:
    """The sentence says which file is missing."""
    with pytest.raises(SettingsError, match="absent cannot be read"):
        read_secret(tmp_path / "absent")
