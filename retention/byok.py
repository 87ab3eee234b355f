"""Bring your own key: how a customer's key material travels, and how its sender shows that they have it.

The service makes a token: an RSA-4096 key pair for one use, and a nonce. The customer answers with two files:

- the material, 32 bytes, encrypted to the public key: by RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017 §7.1), which
  IBM Key Protect calls RSAES_OAEP_SHA_256; or as PKCS #11's CKM_RSA_AES_KEY_WRAP does: an ephemeral AES-256 key by the
  same OAEP, and behind it the material under that key by AES-KWP (RFC 5649);
- the proof: the nonce under the material by AES-256-GCM, `iv (12 bytes) ‖ ciphertext ‖ tag (16)`, with associated data
  that names tenant and token, so that neither file serves for another.

What is wrong with them is not told, and the same work is done whatever it is: no answer helps whoever tries
ciphertexts out (Bleichenbacher 1998, Manger 2001). A token is good for one try, besides.
"""

import hmac
import itertools
import os
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Struct

from retention.errors import KeyRefused
from retention.job import TenantId
from retention.seal import Key

Algorithm = Literal["RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_256"]
"""How material is encrypted: the name of IBM Key Protect, and that of Google Cloud KMS without its AES-256."""

REFUSED = "the material was not taken: it, its proof or its token is not good. The token is spent; make another"
"""All that is ever said."""

_BITS = 4096
_MATERIAL = 32
_IV = 12
_NONCE = 32
_OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
_FEWEST_DISTINCT = 17
_PRINTABLE = range(0x20, 0x7F)


class ImportToken(Struct, frozen=True, kw_only=True):
    """What the customer is given, as JSON. Nothing in it is secret; who encrypts to it should know whose it is."""

    id: str
    tenant: TenantId
    public_key: str
    """SubjectPublicKeyInfo in PEM."""
    nonce: bytes
    """In JSON: base64."""
    expires: datetime


def new_nonce() -> bytes:
    """Return what is to be encrypted as a proof."""
    return os.urandom(_NONCE)


def new_pair() -> tuple[bytes, str]:
    """Return a fresh private key, PKCS #8 in DER, and its public key in PEM."""
    private = rsa.generate_private_key(65537, _BITS)
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der, pem.decode()


def encrypt(token: ImportToken, material: Key, algorithm: Algorithm) -> tuple[bytes, bytes]:
    """Return the material for this token, and its proof. Raises KeyRefused when the token's key is not what it says."""
    try:
        public = serialization.load_pem_public_key(token.public_key.encode())
    except ValueError:
        public = None
    if not isinstance(public, rsa.RSAPublicKey) or public.key_size != _BITS:
        raise KeyRefused(f"the token holds no RSA public key of {_BITS} bits")
    if algorithm == "RSAES_OAEP_SHA_256":
        wrapped = public.encrypt(material.raw(), _OAEP)
    else:
        ephemeral = os.urandom(_MATERIAL)
        wrapped = public.encrypt(ephemeral, _OAEP) + keywrap.aes_key_wrap_with_padding(ephemeral, material.raw())
    iv = os.urandom(_IV)
    return wrapped, iv + AESGCM(material.raw()).encrypt(iv, token.nonce, _bound_to(token))


def decrypt(token: ImportToken, private: bytes, wrapped: bytes, proof: bytes, algorithm: Algorithm) -> Key:
    """Return the material that was encrypted for this token. Raises KeyRefused, with REFUSED."""
    # Not checked again, which takes longer than all the rest: it was made here, and sealed.
    key = serialization.load_der_private_key(private, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("not an RSA key")
    head, tail = wrapped[: _BITS // 8], wrapped[_BITS // 8 :]
    first, well = _or_stand_in(lambda: key.decrypt(head, _OAEP))
    if algorithm == "RSAES_OAEP_SHA_256":
        material, well = first, well and not tail
    else:
        material, unwrapped = _or_stand_in(lambda: keywrap.aes_key_unwrap_with_padding(first, tail))
        well = well and unwrapped
    proved = _proves(material, proof, token)
    if not (well and proved and weakness(material) is None):
        raise KeyRefused(REFUSED)
    return Key(material)


def weakness(material: bytes) -> str | None:
    """Return why this is no key, for its owner, or None. Of random bytes none is refused (less than one in 2^40)."""
    if len(material) != _MATERIAL:
        return f"it has {len(material)} bytes, and not {_MATERIAL}"
    if all(byte in _PRINTABLE for byte in material):
        return "it is text: a password, or a key that is written out. Random bytes are wanted as they are"
    if len(set(material)) < _FEWEST_DISTINCT:
        return "its bytes are few different ones"
    if len({(after - before) % 256 for before, after in itertools.pairwise(material)}) == 1:
        return "its bytes count up or down"
    return None


def _or_stand_in(decrypt: Callable[[], bytes]) -> tuple[bytes, bool]:
    """Return what comes of decrypting and True, or random bytes to go on with and False."""
    stand_in = os.urandom(_MATERIAL)
    try:
        found = decrypt()
    except (ValueError, keywrap.InvalidUnwrap):
        return stand_in, False
    return (found, True) if len(found) == _MATERIAL else (stand_in, False)


def _proves(material: bytes, proof: bytes, token: ImportToken) -> bool:
    try:
        shown = AESGCM(material).decrypt(proof[:_IV], proof[_IV:], _bound_to(token))
    except (InvalidTag, ValueError):
        return False
    return hmac.compare_digest(shown, token.nonce)


def _bound_to(token: ImportToken) -> bytes:
    return f"volant-import-1|{token.tenant}|{token.id}".encode()
