"""Short audio for each media type that the document lists."""

from collections.abc import Sequence

from tests.speech import AUDIO

_CUT = 12_000
"""Bytes: a second at most, since it is the front that is tried, and not the engine."""

CONTAINERS: Sequence[bytes] = [
    (AUDIO / name).read_bytes()[:_CUT]
    for name in ("goforward.wav", "flite_rms_0.flac", "flite_rms_0.mp3", "flite_rms_0.opus.ogg", "flite_rms_0.webm")
]
RAW: Sequence[bytes] = [(AUDIO / "flite_rms_0.l16be").read_bytes()[:_CUT], bytes(100)]

_RAW_TYPES = ("audio/alaw", "audio/basic", "audio/g729", "audio/l16", "audio/mulaw")


def samples(media_type: str) -> Sequence[bytes]:
    """Return what may be sent as this type: containers speak for themselves, whatever they are called."""
    return RAW if media_type.partition(";")[0] in _RAW_TYPES else CONTAINERS
