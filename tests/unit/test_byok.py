"""Material that customers bring: both ways in which it travels, and everything that is not taken."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import msgspec
import pytest
from cryptography.hazmat.primitives import keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from retention import byok
from retention.byok import REFUSED, Algorithm, ImportToken, decrypt, encrypt, new_nonce, new_pair, weakness
from retention.errors import KeyRefused
from retention.job import TenantId
from retention.keyring import check_value
from retention.seal import Key

README = Path(__file__).parents[2] / "README.md"
PRIVATE, PUBLIC = new_pair()
OAEP, KWP = get_args(Algorithm)
MATERIAL = Key.random()


def token(**changes: object) -> ImportToken:
    known = ImportToken(
        id="t" * 32,
        tenant=TenantId("a" * 16),
        public_key=PUBLIC,
        nonce=b"n" * 32,
        expires=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return msgspec.structs.replace(known, **changes)


TOKEN = token()


def by_hand(content: bytes, hash_: SHA384 | SHA256 | None = None) -> bytes:
    """Encrypt to the token's key, as a customer does without our command."""
    public = serialization.load_pem_public_key(PUBLIC.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    hash_ = hash_ or SHA256()
    return public.encrypt(content, padding.OAEP(padding.MGF1(hash_), hash_, None))


def proof_of(material: bytes, *, nonce: bytes = TOKEN.nonce, tenant: str = TOKEN.tenant, id_: str = TOKEN.id) -> bytes:
    """Prove possession, by the words of the README."""
    iv = os.urandom(12)
    return iv + AESGCM(material).encrypt(iv, nonce, f"volant-import-1|{tenant}|{id_}".encode())


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("algorithm", [OAEP, KWP])
def test_what_is_encrypted_for_a_token_is_taken_with_it(algorithm: Algorithm) -> None:
    """By our command."""
    wrapped, proof = encrypt(TOKEN, MATERIAL, algorithm)
    assert decrypt(TOKEN, PRIVATE, wrapped, proof, algorithm) == MATERIAL
    assert MATERIAL.raw() not in wrapped + proof


def test_what_is_encrypted_by_hand_is_taken() -> None:
    """By the standards' words alone: IBM's RSAES_OAEP_SHA_256, and CKM_RSA_AES_KEY_WRAP."""
    raw = MATERIAL.raw()
    assert decrypt(TOKEN, PRIVATE, by_hand(raw), proof_of(raw), OAEP) == MATERIAL
    ephemeral = os.urandom(32)
    wrapped = by_hand(ephemeral) + keywrap.aes_key_wrap_with_padding(ephemeral, raw)
    assert decrypt(TOKEN, PRIVATE, wrapped, proof_of(raw), KWP) == MATERIAL


def test_the_readme_says_how_it_is_done_by_hand(tmp_path: Path) -> None:
    """Its words are run as they stand; openssl makes the same of the material, and the check values agree."""
    (tmp_path / "token.json").write_bytes(msgspec.json.encode(TOKEN))
    (tmp_path / "key.bin").write_bytes(MATERIAL.raw())
    (script,) = re.findall(r"<!-- by hand: .*-->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    shown = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout == f"{check_value(MATERIAL)}\n"
    proof = (tmp_path / "proof.bin").read_bytes()
    assert decrypt(TOKEN, PRIVATE, (tmp_path / "wrapped.bin").read_bytes(), proof, OAEP) == MATERIAL
    if openssl := shutil.which("openssl"):
        (command,) = re.findall(r"`openssl (pkeyutl .*?)`", README.read_text(), re.DOTALL)
        (tmp_path / "token.pem").write_text(PUBLIC)
        subprocess.run([openssl, *command.split()], cwd=tmp_path, check=True)
        assert decrypt(TOKEN, PRIVATE, (tmp_path / "wrapped.bin").read_bytes(), proof, OAEP) == MATERIAL


GOOD = MATERIAL.raw()
WRAPPED = by_hand(GOOD)
PROOF = proof_of(GOOD)
EPHEMERAL = os.urandom(32)
HEAD = by_hand(EPHEMERAL)
BOTH = HEAD + keywrap.aes_key_wrap_with_padding(EPHEMERAL, GOOD)
EQUAL, SHORT, COUNTING = b"\x07" * 32, os.urandom(16), bytes(range(100, 132))

BAD: dict[str, tuple[bytes, bytes, str]] = {
    "nothing": (b"", b"", OAEP),
    "cut": (WRAPPED[:-1], PROOF, OAEP),
    "longer": (WRAPPED + b"x", PROOF, OAEP),
    "damaged": (flipped(WRAPPED, 300), PROOF, OAEP),
    "damaged at its first byte": (flipped(WRAPPED, 0), PROOF, OAEP),
    "beyond the modulus": (b"\xff" * 512, PROOF, OAEP),
    "zero": (bytes(512), PROOF, OAEP),
    "in clear": (GOOD, PROOF, OAEP),
    "OAEP with SHA-384": (by_hand(GOOD, SHA384()), PROOF, OAEP),
    "16 bytes": (by_hand(SHORT), proof_of(SHORT), OAEP),
    "33 bytes": (by_hand(GOOD + b"x"), PROOF, OAEP),
    "no bytes": (by_hand(b""), PROOF, OAEP),
    "all equal": (by_hand(EQUAL), proof_of(EQUAL), OAEP),
    "counting": (by_hand(COUNTING), proof_of(COUNTING), OAEP),
    "text": (by_hand(b"correct horse battery staple, 1!"), proof_of(b"correct horse battery staple, 1!"), OAEP),
    "no proof": (WRAPPED, b"", OAEP),
    "a proof that is cut": (WRAPPED, PROOF[:-1], OAEP),
    "a damaged proof": (WRAPPED, flipped(PROOF, 20), OAEP),
    "a proof of another key": (WRAPPED, proof_of(os.urandom(32)), OAEP),
    "a proof of another nonce": (WRAPPED, proof_of(GOOD, nonce=new_nonce()), OAEP),
    "a proof for another tenant": (WRAPPED, proof_of(GOOD, tenant="b" * 16), OAEP),
    "a proof for another token": (WRAPPED, proof_of(GOOD, id_="u" * 32), OAEP),
    "the other algorithm": (WRAPPED, PROOF, KWP),
    "the other algorithm, too": (BOTH, PROOF, OAEP),
    "wrapped, cut": (BOTH[:-8], PROOF, KWP),
    "wrapped, damaged": (flipped(BOTH, 520), PROOF, KWP),
    "wrapped under another": (HEAD + keywrap.aes_key_wrap_with_padding(os.urandom(32), GOOD), PROOF, KWP),
    "wrapped, without padding": (HEAD + keywrap.aes_key_wrap(EPHEMERAL, GOOD), PROOF, KWP),
    "wrapped, 24 bytes": (HEAD + keywrap.aes_key_wrap_with_padding(EPHEMERAL, GOOD[:24]), proof_of(GOOD[:24]), KWP),
    "under an ephemeral key of 16 bytes": (
        by_hand(SHORT) + keywrap.aes_key_wrap_with_padding(SHORT, GOOD), PROOF, KWP,
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_is_bad_is_refused_in_the_same_words_after_the_same_work(
    bad: tuple[bytes, bytes, Algorithm],
) -> None:
    """RSA, AES-KWP if it is asked for, and the proof: whatever failed before."""
    wrapped, proof, algorithm = bad
    with (
        patch.object(byok, "_or_stand_in", wraps=byok._or_stand_in) as decryptions,
        patch.object(byok, "_proves", wraps=byok._proves) as proofs,
        pytest.raises(KeyRefused) as refused,
    ):
        decrypt(TOKEN, PRIVATE, wrapped, proof, algorithm)
    assert str(refused.value) == REFUSED
    assert refused.value.__cause__ is None
    assert decryptions.call_count == (1 if algorithm == OAEP else 2)
    assert proofs.call_count == 1


def test_a_token_of_another_key_or_nonce_takes_nothing() -> None:
    """Its private key is another, or its nonce."""
    wrapped, proof = encrypt(TOKEN, MATERIAL, OAEP)
    for other, private in ((TOKEN, new_pair()[0]), (token(nonce=new_nonce()), PRIVATE)):
        with pytest.raises(KeyRefused):
            decrypt(other, private, wrapped, proof, OAEP)


@pytest.mark.parametrize("public", ["", "nonsense", "small"])
def test_nothing_is_encrypted_to_what_is_no_key_of_a_token(public: str) -> None:
    """A customer's key does not go out under a weak one."""
    if public == "small":
        small = rsa.generate_private_key(65537, 2048).public_key()
        public = small.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()  # fmt: skip
    with pytest.raises(KeyRefused, match="4096"):
        encrypt(token(public_key=public), MATERIAL, OAEP)


def test_random_bytes_are_a_key() -> None:
    """Ten thousand times."""
    assert {weakness(os.urandom(32)) for _ in range(10_000)} == {None}


@pytest.mark.parametrize(
    ("material", "why"),
    [
        (b"", "0 bytes"),
        (os.urandom(31), "31 bytes"),
        (os.urandom(33), "33 bytes"),
        (bytes(32), "few"),
        (b"\x00\xff" * 16, "few"),
        (os.urandom(8) * 4, "few"),
        (b"0123456789abcdef0123456789abcdef", "text"),
        (b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3", "text"),
        (bytes(range(32)), "count"),
        (bytes(range(255, 223, -1)), "count"),
        (bytes(3 * step % 256 for step in range(32)), "count"),
    ],
    ids=map(str, range(11)),
)
def test_what_is_no_key_is_named_to_its_owner(material: bytes, why: str) -> None:
    """Lengths, passwords, patterns."""
    assert why in str(weakness(material))
