"""A second implementation of the sealing, written from its specification alone and to be compared with ours.

Whole messages only, HKDF-Expand spelled out from RFC 5869 §2.3, GCM through the cipher interface
instead of the AEAD one, the salt an argument. It imports nothing of ours.
"""

import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM


class Refused(Exception):
    """The message does not open."""


def encode(*, kind: int, tenant: str, job: str, attempt: int, key_id: str, key_version: int) -> bytes:
    """Return the context as bytes."""
    names = [name.encode() for name in (tenant, job, key_id)]
    one, two, three = (f"H{len(name)}s" for name in names)
    lengths = [part for name in names for part in (len(name), name)]
    return struct.pack(f">7sB{one}{two}I{three}I", b"volant1", kind, *lengths[:4], attempt, *lengths[4:], key_version)


def seal(key: bytes, salt: bytes, context: bytes, message: bytes) -> bytes:
    """Return salt, commitment and chunks."""
    chunk_key, base, commitment = _derived(key, salt, context)
    sealed = salt + commitment
    for number in range(len(message) // 16384 + 1):
        encryptor = Cipher(AES(chunk_key), GCM(_nonce(base, number))).encryptor()
        chunk = message[16384 * number : 16384 * (number + 1)]
        sealed += encryptor.update(chunk) + encryptor.finalize() + encryptor.tag
    return sealed


def unseal(key: bytes, context: bytes, sealed: bytes) -> bytes:
    """Return the message. Raises Refused."""
    chunk_key, base, commitment = _derived(key, sealed[:24], context)
    if commitment != sealed[24:56]:
        raise Refused
    message, rest, number = b"", sealed[56:], 0
    while True:
        chunk, rest = rest[:16400], rest[16400:]
        if len(chunk) < 16 or (len(chunk) < 16400 and rest):
            raise Refused
        decryptor = Cipher(AES(chunk_key), GCM(_nonce(base, number), chunk[-16:])).decryptor()
        try:
            message += decryptor.update(chunk[:-16]) + decryptor.finalize()
        except InvalidTag as error:
            raise Refused from error
        if len(chunk) < 16400:
            return message
        number += 1


def _derived(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, bytes, bytes]:
    info = b"c2sp.org/chunked-encryption@v1+" + b"AEAD_AES_256_GCM" + b"\x00" + salt + context
    first = hmac.digest(key, info + b"\x01", "sha256")
    second = hmac.digest(key, first + info + b"\x02", "sha256")
    third = hmac.digest(key, second + info + b"\x03", "sha256")
    material = first + second + third
    return material[0:32], material[32:44], material[44:76]


def _nonce(base: bytes, number: int) -> bytes:
    return bytes(left ^ right for left, right in zip(base, number.to_bytes(12, "big"), strict=True))
