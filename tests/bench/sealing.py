"""How much of bare AES-256-GCM's speed is left to sealing and unsealing a stream.

`python -m tests.bench.sealing`: five interleaved rounds over the same 256 MiB in memory, medians.
Exits with 1 when there and back together have less than 70 % of the bare cipher over the same 16 KiB chunks.
A piece is what the audio store reads and writes at a time.
"""

import os
import sys
import time
from collections.abc import Callable
from statistics import median

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from retention.seal import Context, Key, Kind, Sealer, Unsealer

MESSAGE = 256 << 20
PIECE = 256 << 10
CHUNK = 16 << 10
ROUNDS = 5
LEAST = 0.7
CONTEXT = Context(kind=Kind.AUDIO, tenant="t", job="j")
NONCE = bytes(12)

Work = Callable[[], object]


def pieces(data: bytes, length: int) -> list[memoryview]:
    view = memoryview(data)
    return [view[start : start + length] for start in range(0, len(data), length)]


def sealing(plain: bytes) -> tuple[Work, Work]:
    """Return sealing, and the bare cipher over the same bytes."""
    aead, chunks, arriving = AESGCM(bytes(32)), pieces(plain, CHUNK), pieces(plain, PIECE)

    def bare() -> None:
        for chunk in chunks:
            aead.encrypt(NONCE, chunk, None)

    def ours() -> None:
        sealer = Sealer(Key(bytes(32)), CONTEXT)
        for piece in arriving:
            sealer.update(piece)
        sealer.finish()

    return ours, bare


def unsealing(plain: bytes) -> tuple[Work, Work]:
    """Return unsealing, and the bare cipher over as many bytes."""
    aead, sealer = AESGCM(bytes(32)), Sealer(Key(bytes(32)), CONTEXT)
    chunks = [aead.encrypt(NONCE, chunk, None) for chunk in pieces(plain, CHUNK)]
    sealed = b"".join([sealer.update(plain), sealer.finish()])
    arriving = pieces(sealed, PIECE)

    def bare() -> None:
        for chunk in chunks:
            aead.decrypt(NONCE, chunk, None)

    def ours() -> None:
        unsealer = Unsealer(Key(bytes(32)), CONTEXT)
        for piece in arriving:
            unsealer.update(piece)
        unsealer.finish()

    return ours, bare


def seconds(work: Work) -> float:
    """Return seconds of processor time: others may use the machine, too."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def rounds(name: str, ours: Work, bare: Work) -> list[tuple[float, float]]:
    took = [(seconds(ours), seconds(bare)) for _ in range(ROUNDS)]
    mine, theirs = (median(column) for column in zip(*took, strict=True))
    gibibytes = MESSAGE / (1 << 30)
    print(f"{name}: {gibibytes / mine:.2f} GiB/s, bare {gibibytes / theirs:.2f} GiB/s, ratio {theirs / mine:.2f}")
    return took


def main() -> int:
    plain = os.urandom(MESSAGE)
    both = zip(rounds("sealing", *sealing(plain)), rounds("unsealing", *unsealing(plain)), strict=True)
    ratio = median((there[1] + back[1]) / (there[0] + back[0]) for there, back in both)
    print(f"there and back: ratio {ratio:.2f} (at least {LEAST})")
    return 0 if ratio >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
