"""What raw audio does not say of itself, told from its first bytes: byte order, length of frames.

Silence at the beginning says nothing, so the bytes looked at are those behind it.
"""

from array import array
from itertools import islice
from sys import byteorder
from typing import Protocol

_LOOKED_AT = 256 << 10

_FRAME = 10
_FRAMES_ALIGN = 40
"""Bytes after which frames of G.729 begin anew, be they of eight bytes or of ten."""

_MOSTLY = 0.9


class Source(Protocol):
    """Where the bytes come from: forward only, `b""` at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, waiting for at least one."""
        ...


class Peeked:
    """A source into which one can look before it is read. Zeros at its beginning are counted, not kept.

    `head` is what was seen behind them, at most 256 KiB; it begins at a multiple of `unit` bytes.
    """

    def __init__(self, source: Source, unit: int) -> None:
        self._rest = source
        self._zeros = 0
        head = b""
        while len(head) < _LOOKED_AT and (more := source.read(_LOOKED_AT - len(head))):
            head += more
            silent = (len(head) - len(head.lstrip(b"\0"))) // unit * unit
            self._zeros += silent
            head = head[silent:]
        self.head = self._unread = head

    def read(self, size: int) -> bytes:
        """See `Source`."""
        if self._zeros:
            silent = min(size, self._zeros, _LOOKED_AT)
            self._zeros -= silent
            return bytes(silent)
        if self._unread:
            first, self._unread = self._unread[:size], self._unread[size:]
            return first
        return self._rest.read(size)


def is_little_endian(source: Source, channels: int) -> tuple[bool, Source]:
    """Tell the byte order of 16-bit samples; return also the source to read from now on.

    Speech is smooth, and read in the wrong order it is noise.
    """
    peeked = Peeked(source, 2 * channels)
    native = array("h", peeked.head[: len(peeked.head) // 2 * 2])
    swapped = native[:]
    swapped.byteswap()
    native_is_smoother = _roughness(native, channels) <= _roughness(swapped, channels)
    return native_is_smoother == (byteorder == "little"), peeked


def g729_bit_rate(source: Source) -> tuple[int, Source]:
    """Tell G.729 from its Annex D: 8000 or 6400 bits a second; return also the source to read from now on.

    Either is a frame each 10 ms without any mark, of ten bytes or of eight. The frames of ten hold a parity bit
    over the pitch (ITU-T G.729 §3.7.2), which is right by chance in half of the pieces of anything else.
    """
    peeked = Peeked(source, _FRAMES_ALIGN)
    # Each content once: a pause repeats the same few frames.
    frames = {peeked.head[at : at + _FRAME] for at in range(0, len(peeked.head) - _FRAME + 1, _FRAME)}
    return 8000 if sum(map(_parity_holds, frames)) > _MOSTLY * len(frames) else 6400, peeked


def _roughness(samples: "array[int]", channels: int) -> int:
    return sum(abs(after - before) for before, after in zip(samples, islice(samples, channels, None), strict=False))


def _parity_holds(frame: bytes) -> bool:
    bits = int.from_bytes(frame, "big") >> 53
    pitch, parity = bits >> 1 & 0xFF, bits & 1
    return (pitch >> 2).bit_count() % 2 != parity
