"""Bearer tokens that this installation has not made, or not so: they open nothing."""

import base64
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from retention.seal import Key
from tests.integration.buyer import Buyer, Fields, encoded, signed, unsigned
from tests.integration.cell import Cell


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "", None, ["HS256"], {}], ids=repr)
async def test_a_token_without_a_signature_is_refused(buyer: Buyer, alg: object) -> None:
    """Whatever it says of itself (RFC 8725 §2.1); nor does the real signature help one that says so."""
    text = unsigned({**buyer.header, "alg": alg}, buyer.claims)
    mac = encoded(hmac.new(buyer.secret, text.encode(), hashlib.sha256).digest())
    for signature in ("", mac, buyer.token.rpartition(".")[2]):
        assert not await buyer.opens(f"{text}.{signature}")


@pytest.mark.parametrize(("alg", "digest"), [("HS512", "sha512"), ("HS384", "sha384"), ("hs256", "sha256")])
async def test_another_algorithm_is_refused_under_the_right_key(buyer: Buyer, alg: str, digest: str) -> None:
    """There is one."""
    assert not await buyer.opens(signed({**buyer.header, "alg": alg}, buyer.claims, buyer.secret, digest))


async def test_a_public_key_of_the_forgers_own_is_refused(buyer: Buyer) -> None:
    """RS256 with the forger's key, named, enclosed, or to be fetched (RFC 8725 §3.10)."""
    own = generate_private_key(65537, 2048)
    number = own.public_key().public_numbers()
    jwk = {"kty": "RSA", "e": "AQAB", "n": encoded(number.n.to_bytes(256))}
    for more in ({}, {"jwk": jwk}, {"jku": "http://127.0.0.1:9/keys"}):
        text = unsigned({**buyer.header, "alg": "RS256", **more}, buyer.claims)
        assert not await buyer.opens(f"{text}.{encoded(own.sign(text.encode(), PKCS1v15(), SHA256()))}")


@pytest.mark.parametrize("key", [b"", bytes(32), b"secret", b"volant", bytes(range(32))])
async def test_another_key_is_refused(buyer: Buyer, key: bytes) -> None:
    """Nor does any other key of this cell sign tokens."""
    ring = buyer.cell.keyring
    await ring.wrap(Key.random(), buyer.cell.tenant, "a job")  # for its bytes to be in memory
    rings = [held.raw() for held in (*ring._unwrapped.values(), ring._index)]
    for wrong in (key, *rings):
        assert not await buyer.opens(signed(buyer.header, buyer.claims, wrong))


@pytest.mark.parametrize("kid", ["token@2", "token@0", "common@1", "index@1", "", "../token@1", None, 1], ids=repr)
async def test_a_token_names_the_key_that_signed_it(buyer: Buyer, kid: object) -> None:
    """And no other, even if it did."""
    assert not await buyer.opens(signed({**buyer.header, "kid": kid}, buyer.claims, buyer.secret))


async def test_a_header_without_a_key_or_with_unknown_duties_is_refused(buyer: Buyer) -> None:
    """`crit` means that who does not understand must refuse (RFC 7515 §4.1.11)."""
    nameless = {name: value for name, value in buyer.header.items() if name != "kid"}
    for header in (nameless, {**buyer.header, "crit": ["exp"]}, {**buyer.header, "b64": False, "crit": ["b64"]}):
        assert not await buyer.opens(signed(header, buyer.claims, buyer.secret))


@pytest.mark.parametrize("claim", ["iss", "aud", "iat", "nbf", "exp", "jti", "sub", "key"])
async def test_every_claim_is_required(buyer: Buyer, claim: str) -> None:
    """And has its type."""
    assert not await buyer.opens(buyer.with_claims(**{claim: None}))
    number_or_text: object = str(buyer.claims["exp"]) if claim in {"iat", "nbf", "exp"} else 7
    for wrong in (True, [], 1.5, {"a": 1}, number_or_text):
        assert not await buyer.opens(buyer.with_claims(**{claim: wrong}))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "text-to-speech"},
        {"aud": ""},
        {"aud": "Speech-To-Text"},
        {"aud": ["speech-to-text"]},
        {"aud": ["speech-to-text", "other"]},
        {"iss": "https://iam.cloud.ibm.com/identity"},
        {"iss": "Volant"},
        {"iss": ""},
    ],
)
async def test_another_audience_or_issuer_is_refused(buyer: Buyer, changes: Fields) -> None:
    """A token for another purpose is none for this one (RFC 8725 §3.9)."""
    assert not await buyer.opens(buyer.with_claims(**changes))


@pytest.mark.parametrize("segment", range(3))
async def test_every_changed_byte_is_noticed(buyer: Buyer, segment: int) -> None:
    """Whichever part it is in; only bits that base64 has to spare may differ."""
    good = buyer.token.split(".")
    raw = base64.urlsafe_b64decode(good[segment] + "==")
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        forged = [*good]
        forged[segment] = encoded(changed)
        assert not await buyer.opens(".".join(forged))


@pytest.mark.parametrize(
    "presented",
    [
        *("", ".", "..", "...", "a.b.c", "é.é.é", "\udcff.\udcff.\udcff", "\0", "x" * 8000),
        encoded(b"[" * 6000) + ".e30.",
        encoded(b'{"alg":' + b"[" * 5000) + ".e30.",
        encoded(b"9" * 5000) + ".e30.",
        encoded(b'"HS256"') + ".e30.",
        encoded(b"null") + ".e30.",
        encoded(b'{"alg":"HS256","b64":false}') + "..",
        encoded(b"\xff") + ".e30.",
    ],
    ids=lambda value: ascii(value[:20]),
)
async def test_what_is_not_a_token_is_nobodys(cell: Cell, presented: str) -> None:
    """Whatever is presented, the answer is a plain no."""
    assert await cell.tokens.authenticate(presented) is None
    assert await cell.tokens.authenticate_again(presented) is None
