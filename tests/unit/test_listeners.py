"""Listeners in the settings: what contradicts itself, and how tables are printed."""

import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct

from retention.errors import SettingsError
from retention.listening import Listener
from retention.printing import as_toml
from retention.settings import Settings, load


def of(file: Path, text: str) -> Settings:
    """Return the settings of a file."""
    file.write_text(text)
    return load({"VOLANT_CONFIG": str(file)})


def test_without_tables_there_is_one_public_listener() -> None:
    """Of the other settings; by default on this machine alone, where plain HTTP is no danger."""
    assert load({}).listening() == (Listener(name="public", port=8080),)
    given = {"host": "::1", "port": "1", "trusted_proxies": "10.0.0.1", "certificate": "c", "certificate_key": "k"}
    [listener] = load({f"VOLANT_{name.upper()}": value for name, value in given.items()}).listening()
    assert listener == Listener(
        name="public",
        host="::1",
        port=1,
        certificate=Path("c"),
        certificate_key=Path("k"),
        trusted_proxies="10.0.0.1",
    )


def test_tables_are_all_the_listeners(tmp_path: Path) -> None:
    """Any number; the other settings make none besides."""
    settings = of(
        tmp_path / "volant.toml",
        """
        [[listeners]]
        name = "public"
        port = 443
        host = "0.0.0.0"
        certificate = "/c"
        certificate_key = "/k"
        [[listeners]]
        name = "inside"
        kind = "private"
        port = 8443
        host = "10.0.0.5"
        plain_http = true
        trusted_proxies = "10.0.0.0/24 fd00::1"
        """,
    )
    assert [(each.name, each.kind, each.port) for each in settings.listening()] == [
        ("public", "public", 443),
        ("inside", "private", 8443),
    ]


@pytest.mark.parametrize(
    "unheard",
    [
        {"host": "::1"},
        {"port": "1"},
        {"plain_http": "true"},
        {"trusted_proxies": "10.0.0.1"},
        {"certificate": "c", "certificate_key": "k"},
    ],
    ids=" ".join,
)
def test_what_no_listener_would_heed_is_refused(tmp_path: Path, unheard: dict[str, str]) -> None:
    """Beside tables the other settings would count for nothing: the operator is told, and told which."""
    file = tmp_path / "volant.toml"
    file.write_text("[[listeners]]\nname = 'x'\nport = 2")
    with pytest.raises(SettingsError, match=f"^{', '.join(unheard)}: beside listeners"):
        load({"VOLANT_CONFIG": str(file), **{f"VOLANT_{name.upper()}": value for name, value in unheard.items()}})


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.0.0.5", "stt.example", "127.0.0.1.example", "128.0.0.1"])  # noqa: S104 - refused
def test_plain_http_is_spoken_to_others_only_when_asked_for(host: str) -> None:
    """A listener that others can reach has a certificate, or says that it needs none."""
    with pytest.raises(SettingsError, match="plain_http = true"):
        load({"VOLANT_HOST": host})
    assert load({"VOLANT_HOST": host, "VOLANT_PLAIN_HTTP": "true"}).host == host
    assert load({"VOLANT_HOST": host, "VOLANT_CERTIFICATE": "c", "VOLANT_CERTIFICATE_KEY": "k"}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_plain_http_is_spoken_on_this_machine(host: str) -> None:
    """Nobody else can listen in."""
    assert load({"VOLANT_HOST": host}).host == host


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"certificate": "/c"}, "certificate and certificate_key go together"),
        ({"certificate_key": "/k"}, "certificate and certificate_key go together"),
        ({"client_ca": "/a"}, "client_ca needs a certificate"),
        ({"certificate": "/c", "certificate_key": "/k", "plain_http": True}, "plain_http must be false"),
        ({"trusted_proxies": "10.0.0.1/8"}, "trusted_proxies: 10.0.0.1/8 is not a network"),
        ({"trusted_proxies": "proxy.example"}, "trusted_proxies: proxy.example is not a network"),
        ({"kind": "secret"}, "kind"),
        ({"name": ""}, "name"),
        ({"port": 65536}, "port"),
        ({"prot": 1}, "prot"),
    ],
)
def test_a_listener_that_contradicts_itself_is_refused(wrong: dict[str, Any], words: str) -> None:
    """By name, with what is wrong."""
    with pytest.raises((SettingsError, msgspec.ValidationError), match=re.escape(words)):
        msgspec.convert(
            {"listeners": [{"name": "x", "port": 1, **wrong}]}, Settings, dec_hook=lambda _, text: Path(text)
        )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("[[listeners]]\nname = 'x'\nport = 1\nhost = '10.0.0.1'", "listener x: 10.0.0.1 is not loopback"),
        ("[[listeners]]\nname = 'x'\nport = 1\n[[listeners]]\nname = 'x'\nport = 2", "listeners: each needs a name"),
        ("redis_ca_file = '/a'", "rediss://"),
        ("redis_url = 'rediss://x'\nredis_certificate = '/a'", "redis_certificate and redis_key_file go together"),
    ],
)
def test_what_contradicts_in_a_file_is_a_sentence(tmp_path: Path, wrong: str, words: str) -> None:
    """Not a trace."""
    with pytest.raises(SettingsError, match=words):
        of(tmp_path / "volant.toml", wrong)


def test_what_is_printed_of_tables_is_read_back(tmp_path: Path) -> None:
    """Behind everything else, since a table has no end in TOML."""
    listeners = (
        Listener(name="public", port=443, certificate=Path("/c"), certificate_key=Path("/k")),
        Listener(name='in "side"', kind="private", port=1, trusted_proxies="10.0.0.0/8"),
    )
    settings = Settings(listeners=listeners, max_upload=1000)
    assert of(tmp_path / "volant.toml", as_toml(settings)) == settings


def test_the_example_of_a_table_is_one(tmp_path: Path) -> None:
    """Without the first # of its lines it is what it says, and every field of it is explained."""
    text, _, _ = as_toml(Settings()).partition("\n# Further cells")
    head, _, example = text.partition("# [[listeners]]\n")
    uncommented = "".join(re.sub("^# ?", "", line) for line in example.splitlines(keepends=True))
    [listener] = of(tmp_path / "volant.toml", f"{head}[[listeners]]\n{uncommented}").listeners
    assert (listener.kind, listener.port) == ("private", 8443)
    for name in Listener.__struct_fields__:
        assert re.search(rf"^## .+\.\n# {name} = ", example, re.MULTILINE)


def test_tables_of_any_kind_are_printed() -> None:
    """By name as well as in a list, those within none; what there is not is an example."""

    class Thing(Struct):
        size: Annotated[int, Meta(description="Its size.")] = 3
        place: Annotated[Path | None, Meta(description="Its place.")] = None

    class Things(Struct):
        things: Annotated[dict[str, Thing], Meta(description="Things.", examples=["acme"])]
        last: Annotated[int, Meta(description="The last.")] = 1

    plain = "# The last.\nlast = 1\n\n"
    printed = as_toml(Things(things={"a-b": Thing(size=1), "c d": Thing(place=Path("/p"))}))
    assert printed == plain + (
        "# Things.\n[things.a-b]\n# Its size.\nsize = 1\n# Its place.\n# place =\n\n"
        '[things."c d"]\n# Its size.\nsize = 3\n# Its place.\nplace = "/p"\n'
    )
    assert as_toml(Things(things={})) == plain + (
        "# Things.\n# [things.acme]\n## Its size.\n# size = 3\n## Its place.\n## place =\n"
    )
