"""Settings: where they come from, what they refuse, and what is said of them."""

from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

from retention.errors import SettingsError
from retention.private_files import read_secret
from retention.settings import Settings, load


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_is_documented(name: str) -> None:
    """Each setting says in a sentence what it means, and has a default or cannot be forgotten."""
    described = get_type_hints(Settings, include_extras=True)[name].__metadata__[0].description
    assert described.endswith(".")
    assert len(described) > 20


def test_the_defaults_agree_with_each_other() -> None:
    """Volant starts without any setting; results are kept for a week (spec 2.3); nothing is logged, no page let in."""
    settings = load({})
    assert settings.results_ttl == timedelta(days=7)
    assert settings.patience == timedelta(days=7)
    assert settings.max_upload == 1_073_741_824
    assert (settings.request_log, settings.request_log_retention) == (False, timedelta(days=30))
    assert settings.cors_origins == ""


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
        *(
            ({"REDIS_URL": text}, "redis_url must be redis://HOST:PORT/DATABASE")
            for text in (
                *("", "localhost:6379", "http://localhost", "redis:/localhost", "redis://", "redis:///0", "unix://a"),
                *("redis://:hush@localhost/0", "rediss://hush@a.example", "unix://:hush@/run/redis.sock"),
                *("redis://localhost/0?password=hush", "redis://?host=a.example", "redis://localhost?socket_timeout=9"),
                *("rediss://a.example?ssl_cert_reqs=none", "REDISS://a.example", "unix:///run/redis.sock?foo=1"),
                *("redis://localhost:port", "redis://localhost:65536", "redis://localhost:0", "redis://localhost:"),
                *("redis://localhost/abc", "redis://localhost/-1", "redis://localhost/0/1", "redis://localhost?db=x"),
                *(
                    "redis://[::1/0",
                    "redis://[::::]",
                    "redis://a b",
                    "redis://localhost/0#1",
                    "unix:///a?db=",
                    "unix:///",
                ),
            )
        ),
        *(
            ({"REDIS_URL": text}, "is not loopback: make it rediss://, or say plain_redis = true")
            for text in ("redis://10.0.0.7/0", "redis://a.example", "redis://A.example:1", "redis://[::2]")
        ),
        ({"REDIS_URL": "rediss://a.example", "PLAIN_REDIS": "true"}, "plain_redis must be false"),
        ({"REDIS_URL": "unix:///run/redis.sock", "PLAIN_REDIS": "true"}, "plain_redis must be false"),
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


def test_an_unknown_or_malformed_setting_of_a_file_is_refused_as_such(tmp_path: Path) -> None:
    """So that whoever mistyped it knows where to look."""
    file = tmp_path / "volant.toml"
    for text, sentence in (
        ('leese = "P1D"', "settings: Object contains unknown field `leese`"),
        ('lease = "often"', "settings: Invalid ISO8601 duration - at `$.lease`"),
        ("root_key_file = 3", "settings: Expected `str`, got `int` - at `$.root_key_file`"),
        ("[[listeners]]\nname = 'x'\nport = 1\ncertificate = true", "settings: Expected `str`, got `bool` - at"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError) as refused:
            load({"VOLANT_CONFIG": str(file)})
        assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    "environment",
    [
        {"REDIS_URL": "redis://a.example", "PLAIN_REDIS": "true"},
        *({"REDIS_URL": text} for text in ("redis://[::1]:7/1", "redis://localhost", "rediss://a.example")),
        {"REDIS_URL": "unix:///run/redis.sock"},
    ],
)
def test_redis_is_spoken_to_in_clear_on_this_machine_and_where_that_is_asked_for(environment: dict[str, str]) -> None:
    """As HTTP is."""
    settings = load({f"VOLANT_{name}": value for name, value in environment.items()})
    assert settings.redis_url == environment["REDIS_URL"]


ACME = """
[cells.acme]
redis_url = "rediss://acme/0"
root_key_file = "{tmp}/acme.key"
audio = "/srv/acme"
"""


KMS = ACME.replace('root_key_file = "{tmp}/acme.key"', 'root = "aws-kms:1234"')


def with_cells(tmp_path: Path, text: str, **environment: str) -> Settings:
    """Load a file that has these tables."""
    file = tmp_path / "volant.toml"
    file.write_text(text.format(tmp=tmp_path))
    return load({"VOLANT_CONFIG": str(file)} | {f"VOLANT_{name}": value for name, value in environment.items()})


def test_cells_are_tables_of_what_makes_a_cell(tmp_path: Path) -> None:
    """What they leave out is the default, and not what the home cell has; a process serves one of them."""
    settings = with_cells(tmp_path, ACME, CELL="acme", REDIS_USER="somebody")
    assert (settings.cell, settings.of_cell("home")) == ("acme", settings)
    acme = settings.of_cell("acme")
    assert (acme.redis_url, acme.audio) == ("rediss://acme/0", "/srv/acme")
    assert (settings.redis_user, acme.redis_user) == ("somebody", "")
    with pytest.raises(SettingsError, match="there is no cell other"):
        settings.of_cell("other")


@pytest.mark.parametrize(
    ("table", "environment", "words"),
    [
        (ACME, {"CELL": "other"}, "there is no cell other among the cells"),
        (ACME.replace("acme]", "home]"), {}, "cells.home: the settings outside of the tables are those of this cell"),
        *(
            (ACME.replace(".acme]", f".{name}]"), {}, "a name is at most 32")
            for name in ("Acme", "-a", '"a b"', '"a/b"')
        ),
        *(
            (
                ACME.replace("rediss://acme/0", one),
                {"REDIS_URL": other},
                "the cells home and acme must not share a Redis",
            )
            for one, other in (
                *(("rediss://acme/0", "rediss://acme/0"), ("rediss://acme/0", "rediss://ACME:6379/1")),
                *(("redis://localhost/1", "redis://localhost:6379/"), ("redis://[::1]:7", "redis://[::1]:7/2")),
                *(("unix://{tmp}/acme.key", "unix://{tmp}/symbolic?db=1"), ("unix:///a%20b", "unix:///a b")),
            )
        ),
        (ACME, {"ROOT_KEY_FILE": "{tmp}/acme.key"}, "the cells home and acme must not share a root key"),
        (ACME, {"ROOT_KEY_FILE": "{tmp}/x/../acme.key"}, "the cells home and acme must not share a root key"),
        (ACME, {"ROOT_KEY_FILE": "{tmp}/symbolic"}, "the cells home and acme must not share a root key"),
        (ACME, {"ROOT_KEY_FILE": "{tmp}/hard"}, "the cells home and acme must not share a root key"),
        (ACME, {"AUDIO": "/srv/acme/"}, "must not share one, nor nest them"),
        (ACME, {"AUDIO": "/srv"}, "must not share one, nor nest them"),
        (ACME, {"AUDIO": "/srv/acme/audio"}, "must not share one, nor nest them"),
        (ACME + ACME.replace("acme]", "other]"), {}, "the cells acme and other must not share a Redis"),
        (ACME.replace('redis_url = "rediss://acme/0"', ""), {}, "cells.acme: redis_url is missing"),
        (ACME.replace('root_key_file = "{tmp}/acme.key"', ""), {}, "cells.acme: root_key_file is missing"),
        (ACME.replace('audio = "/srv/acme"', ""), {}, "cells.acme: audio is missing"),
        (ACME.replace("rediss://", "rediss://:hush@"), {}, "cells.acme: redis_url must be redis://HOST"),
        (KMS, {"ROOT": "aws-kms:1234"}, "the cells home and acme must not share a root key"),
        (KMS, {"ROOT": "aws-kms:arn:aws:kms:eu:1:key/1234"}, "the cells home and acme must not share a root key"),
        (KMS.replace("1234", "alias/a"), {"ROOT": "aws-kms:arn:aws:kms:eu:1:alias/a"}, "must not share a root key"),
        (
            KMS.replace("aws-kms:1234", "pkcs11:token=t;object=o?module-path=/m"),
            {"ROOT": "pkcs11:object=o;token=t?module-path=/m"},
            "the cells home and acme must not share a root key",
        ),
        (KMS.replace("/srv/acme", "s3://cell/a"), {"AUDIO": "s3://cell/a"}, "must not share one, nor nest them"),
        (KMS.replace("/srv/acme", "s3://cell/a/b"), {"AUDIO": "s3://cell/a"}, "must not share one, nor nest them"),
        (KMS.replace("/srv/acme", "s3://cell"), {"AUDIO": "s3://cell/a"}, "must not share one, nor nest them"),
        (KMS.replace("/srv/acme", "s3:/cell"), {}, "cells.acme: audio must be a directory, or s3://"),
        (KMS.replace("/srv/acme", "s3://cell"), {"MAX_UPLOAD": str(1 << 40)}, "max_upload must be at most 48 GiB"),
        (ACME.replace("rediss", "redis"), {"PLAIN_REDIS": "true"}, "acme is not loopback: make it rediss://, or say"),
        (
            KMS.replace("rediss://acme/0", "unix:///r") + 'redis_ca_file = "ca.pem"\n',
            {},
            "need a redis_url that begins with rediss://",
        ),
        (ACME + "port = 1\n", {}, "cells.acme: Object contains unknown field `port`"),
        (ACME + "plain_redis = 7\n", {}, "cells.acme: Expected `bool`, got `int` - at `$.plain_redis`"),
        ("cells = 1\n", {}, "cells"),
        ("[cells]\nacme = 1\n", {}, "cells.acme: Expected `object`, got `int`"),
    ],
)
def test_cells_that_share_something_are_refused(
    tmp_path: Path, table: str, environment: dict[str, str], words: str
) -> None:
    """By whatever name of the same thing; and so are tables that do not say what a cell needs."""
    (tmp_path / "acme.key").write_text("a key")
    (tmp_path / "symbolic").symlink_to(tmp_path / "acme.key")
    (tmp_path / "hard").hardlink_to(tmp_path / "acme.key")
    with pytest.raises(SettingsError) as refused:
        with_cells(tmp_path, table, **{name: value.format(tmp=tmp_path) for name, value in environment.items()})
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)


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


@pytest.mark.parametrize(
    ("table", "environment"),
    [
        (KMS, {}),
        (KMS, {"ROOT": "aws-kms:12345"}),
        (KMS, {"ROOT": "aws-kms:arn:aws:kms:eu:1:key/01234"}),
        (KMS, {"ROOT": "pkcs11:token=t;object=o?module-path=/m"}),
        (KMS.replace("/srv/acme", "s3://cell/a"), {"AUDIO": "s3://cell/ab"}),
        (KMS.replace("/srv/acme", "s3://cell"), {"AUDIO": "gs://cell"}),
        (KMS.replace("/srv/acme", "s3://cell"), {"AUDIO": "cell"}),
    ],
)
def test_cells_that_share_nothing_are_taken(tmp_path: Path, table: str, environment: dict[str, str]) -> None:
    """Roots and stores of the same kind, with other names."""
    assert list(with_cells(tmp_path, table, **environment).cells) == ["acme"]
