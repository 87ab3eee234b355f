"""What kind of audio a request carries: declared in a header, or recognised by its first bytes (spec section 5).

The rules, where the contract leaves a choice: the bytes win over the declaration as soon as they
begin like a container that we take. A declared container whose bytes begin like none is refused at
once with 400, in IBM's words, rather than accepted as a job that is bound to fail. A declared raw
type is believed, since raw samples may begin like anything. `audio/basic` is mu-law of a fixed rate.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from api.problems import Problem, Refusal, printable
from retention.job import SAMPLING_RATES, Media

SIGNATURE_LENGTH: Final = 12
"""How many of the first bytes `settle` looks at."""

_CONTAINERS: Mapping[str, str] = {
    "audio/flac": "audio/flac",
    "audio/x-flac": "audio/flac",
    "audio/mp3": "audio/mp3",
    "audio/mpeg": "audio/mp3",
    "audio/ogg": "audio/ogg",
    "audio/wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/webm": "audio/webm",
}
_RAW = frozenset({"audio/alaw", "audio/basic", "audio/g729", "audio/l16", "audio/mulaw"})
_OF_ONE_RATE = frozenset({"audio/basic", "audio/g729"})
_UNTOLD = frozenset({"", "application/octet-stream", "application/json", "application/x-www-form-urlencoded"})
"""What clients send that say nothing about the audio: the last two are defaults of Node's SDK and of curl."""

_CHANNELS = range(1, 17)
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')

REFUSALS = (
    Refusal(400, "… needs the parameter 'rate', as in '…'"),
    Refusal(400, "'…' of … must be …"),
    Refusal(400, "unable to transcode data stream … -> audio/x-float-array"),
    Refusal(415, "unsupported media type…"),
)
"""What the functions here may raise."""


def taken() -> Iterator[str]:
    """Yield the types that a client may well declare; those of raw audio with the parameter that they need."""
    yield from _CONTAINERS
    for name in sorted(_RAW):
        yield name if name in _OF_ONE_RATE else f"{name};rate=16000"
    yield "application/octet-stream"


def declared(header: str) -> Media | None:
    """Return what a `Content-Type` header says, or None when it says nothing about the audio.

    Raises Problem: 415 for a type that we do not take, 400 for parameters that are missing or wrong.
    """
    name = header.partition(";")[0].strip().lower()
    if name in _UNTOLD:
        return None
    if name in _CONTAINERS:
        return Media(type=_CONTAINERS[name])
    if name not in _RAW:
        raise Problem(415, f"unsupported media type '{printable(name)}'")
    return _raw(name, _parameters(header))


def settle(media: Media | None, head: bytes) -> Media:
    """Return what the audio is, by what was declared and by its first bytes (spec 5.2).

    Raises Problem: 415 when nothing was declared and nothing is recognised, 400 when the bytes are no
    container although one was declared that has a signature.
    """
    if media is not None and media.type in _RAW:
        return media
    if found := _signature(head[:SIGNATURE_LENGTH]):
        return Media(type=found)
    if media is None:
        raise Problem(415, "unsupported media type: none was declared, and the audio begins like none that is taken")
    if media.type == "audio/mp3" and any(
        _mpeg_frame(head[found.start() :][:4]) for found in re.finditer(b"\xff", head)
    ):
        return media  # a capture of a stream begins anywhere, and its first frame comes when it comes
    raise Problem(400, f"unable to transcode data stream {media.type} -> audio/x-float-array")


def _raw(name: str, parameters: Mapping[str, str]) -> Media:
    """Return the form of audio without a header. Only `audio/l16` has channels and a byte order (spec 5.1)."""
    if name == "audio/g729":
        return Media(type=name)
    if name == "audio/basic":
        return Media(type="audio/mulaw", rate=8000)  # by definition (RFC 2046 §4.3)
    if "rate" not in parameters:
        raise Problem(400, f"{name} needs the parameter 'rate', as in '{name}; rate=16000'")
    rate = _whole(parameters["rate"], f"'rate' of {name}", SAMPLING_RATES)
    if name != "audio/l16":
        return Media(type=name, rate=rate)
    return Media(
        type=name,
        rate=rate,
        channels=_whole(parameters.get("channels", "1"), f"'channels' of {name}", _CHANNELS),
        endianness=_endianness(parameters.get("endianness")),
    )


def _signature(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "audio/wav"
    for signature, name in (
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"\x1a\x45\xdf\xa3", "audio/webm"),
        (b"ID3", "audio/mp3"),
    ):
        if head.startswith(signature):
            return name
    return "audio/mp3" if _mpeg_frame(head) else None


def _mpeg_frame(head: bytes) -> bool:
    """Tell whether this is the header of an MPEG audio frame (ISO 11172-3 §2.4.1.3), and not of AAC in ADTS."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - the format's own numbers
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer != 0 and bitrate != 15 and rate != 3  # noqa: PLR2004 - the reserved values


def _parameters(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(header):
        plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value.strip()
        found.setdefault(name.lower(), plain)
    return found


def _whole(text: str, what: str, allowed: range) -> int:
    if re.fullmatch(r"[0-9]{1,9}", text) and int(text) in allowed:
        return int(text)
    raise Problem(400, f"{what} must be a whole number from {allowed[0]} to {allowed[-1]}")


def _endianness(text: str | None) -> Literal["big-endian", "little-endian"] | None:
    match text and text.lower():
        case None:
            return None
        case "big-endian":
            return "big-endian"
        case "little-endian":
            return "little-endian"
        case _:
            raise Problem(400, "'endianness' of audio/l16 must be big-endian or little-endian")
