"""RFC 7512's URIs, as far as they name a root key."""

from pathlib import Path

import pytest

from retention.errors import SettingsError
from retention.roots.token_uri import TokenUri


def test_labels_name_a_key() -> None:
    """Token and object by their labels; the name has neither colons nor what is of this machine."""
    uri = TokenUri.parse("pkcs11:token=my%20token;object=a%3Ab?module-path=/usr/lib/softhsm/libsofthsm2.so")
    assert (uri.token, uri.object, uri.serial, uri.id) == ("my token", "a:b", None, None)
    assert uri.module == Path("/usr/lib/softhsm/libsofthsm2.so")
    assert uri.name == "pkcs11/my%20token/a%3Ab"


def test_serial_and_id_name_a_key_too() -> None:
    """In any order; an id is bytes."""
    uri = TokenUri.parse("pkcs11:id=%01%ff;serial=a2b4?module-path=/m.so")
    assert (uri.token, uri.object, uri.serial, uri.id) == (None, None, b"a2b4", b"\x01\xff")
    assert uri.name == "pkcs11/a2b4/%01%FF"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("pkcs11:token=t;object=o", "module-path"),
        ("pkcs11:token=t?module-path=/m", "must name the token"),
        ("pkcs11:object=o?module-path=/m", "must name the token"),
        ("pkcs11:token=t;object=o;slot-id=1?module-path=/m", "module-path"),
        ("pkcs11:token=t;object=o?module-path=/m&module-name=m", "module-path"),
        ("pkcs11:token=t;token=u;object=o?module-path=/m", "once"),
        ("pkcs11:token=;object=o?module-path=/m", "with a value"),
        ("pkcs11:token=t;object?module-path=/m", "with a value"),
        ("pkcs11:token=%zz;object=o?module-path=/m", "RFC 7512"),
        ("pkcs11:token=t;object=o?module-path=/m&pin-value=1234", "a file of its own"),
        ("pkcs11:token=t;object=o?module-path=/m&pin-source=file:/pin", "a file of its own"),
    ],
)
def test_anything_else_is_refused(uri: str, words: str) -> None:
    """In a sentence, which does not repeat a PIN."""
    with pytest.raises(SettingsError, match=words) as caught:
        TokenUri.parse(uri)
    assert "1234" not in str(caught.value)
