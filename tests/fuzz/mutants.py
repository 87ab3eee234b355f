"""Recordings of every format, damaged: a seed and a number make the same one again, but for the lures in some."""

import random
import struct
from collections.abc import Callable
from functools import cache

import msgspec
from msgspec import Struct

from retention.job import Media
from tests.formats import RATE, Form, encoded, speech
from tests.speech import AUDIO

_HEADER = 256
"""So many first bytes decide most, and are hit as often as all others."""

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

_FORMS = (
    Form(muxer="alaw", encoder="pcm_alaw", rate=8000),
    Form(muxer="mulaw", encoder="pcm_mulaw", rate=44100),
    Form(muxer="s16be", encoder="pcm_s16be"),
    Form(muxer="s16le", encoder="pcm_s16le", rate=48000, channels=16),
    Form(muxer="wav", encoder="pcm_s16le"),
    Form(muxer="wav", encoder="pcm_f32le", rate=44100, channels=2),
    Form(muxer="wav", encoder="pcm_s24le", channels=9, options=(("rf64", "always"),)),
    Form(muxer="wav", encoder="adpcm_ms", channels=2),
    Form(muxer="wav", encoder="adpcm_ima_wav"),
    Form(muxer="wav", encoder="g722"),
    Form(muxer="wav", encoder="g726", rate=8000),
    Form(muxer="wav", encoder="mp3"),
    Form(muxer="wav", encoder="mp2"),
    Form(muxer="flac", encoder="flac"),
    Form(muxer="flac", encoder="flac", rate=48000, channels=8),
    Form(muxer="mp3", encoder="mp3", rate=8000),
    Form(muxer="mp3", encoder="mp3", rate=44100, channels=2),
    Form(muxer="ogg", encoder="libopus"),
    Form(muxer="ogg", encoder="libopus", rate=48000, channels=6),
    Form(muxer="ogg", encoder="vorbis", channels=2),
    Form(muxer="webm", encoder="libopus"),
    Form(muxer="webm", encoder="vorbis", rate=48000, channels=2),
)


class Mutant(Struct, frozen=True, kw_only=True):
    """Bytes, what they are declared to be, and of what they were made."""

    content: bytes
    media: Media
    origin: str


@cache
def _sound() -> tuple[Mutant, ...]:
    """Return a word in every form, undamaged. WAV cannot be told to hold G.729 by an encoder that is not there."""
    word = speech("flite_rms_0.wav")[: RATE * 3 // 2]
    g729 = (AUDIO / "flite_rms_0.g729").read_bytes()[:1500]
    claims = struct.pack("<HHIIHHHH", 0x83, 1, 8000, 1000, 10, 0, 2, 0)
    in_wav = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(claims)) + claims + b"data\0\0\0\0" + g729
    return (
        *(Mutant(content=encoded(word, form), media=_media(form), origin=_name(form)) for form in _FORMS),
        Mutant(content=g729, media=Media(type="audio/g729"), origin="g729"),
        Mutant(content=in_wav, media=Media(type="audio/wav"), origin="wav of g729"),
    )


def _media(form: Form) -> Media:
    if form.muxer.startswith("s16"):
        return Media(type="audio/l16", rate=form.rate, channels=form.channels)
    return Media(type=f"audio/{form.muxer}", rate=form.rate if form.muxer.endswith("law") else None)


def _name(form: Form) -> str:
    return f"{form.muxer} of {form.encoder}, {form.channels} channels at {form.rate} Hz"


def mutant(seed: int, number: int, lures: tuple[bytes, ...]) -> Mutant:
    """Return one of the mutants of a seed. `lures` are texts that name files and addresses, to be put into it."""
    chance = random.Random(f"{seed} {number}")
    sound = _sound()[number % len(_sound())]
    content = bytearray(sound.content)
    for _ in range(chance.randint(1, 4)):
        chance.choice(_DAMAGES)(content, chance)
    if chance.random() < 0.15:
        lure = chance.choice(lures)
        at = chance.choice((0, _somewhere(content, chance)))
        content[at : at + chance.choice((0, len(lure)))] = lure
    media = sound.media
    if chance.random() < 0.1:
        media = chance.choice(_sound()).media
    elif media.rate is not None and chance.random() < 0.2:
        media = msgspec.structs.replace(media, rate=chance.choice((1000, 11025, 384_000)))
    return Mutant(content=bytes(content), media=media, origin=sound.origin)


def _somewhere(content: bytearray, chance: random.Random) -> int:
    return chance.randint(0, min(len(content), chance.choice((_HEADER, len(content)))))


def _flip_bits(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 64) if content else 0):
        content[min(_somewhere(content, chance), len(content) - 1)] ^= 1 << chance.randrange(8)


def _make_noise(content: bytearray, chance: random.Random) -> None:
    at = _somewhere(content, chance)
    noise = chance.randbytes(chance.choice((1, 4, 64, 2000)))
    content[at : at + len(noise)] = noise


def _put_an_extreme(content: bytearray, chance: random.Random) -> None:
    at, width = _somewhere(content, chance), chance.choice((1, 2, 4, 8))
    number = chance.choice(_EXTREMES) & (1 << 8 * width) - 1
    content[at : at + width] = number.to_bytes(width, "big" if chance.random() < 0.5 else "little")


def _lose_some(content: bytearray, chance: random.Random) -> None:
    at = _somewhere(content, chance)
    del content[at : at + chance.choice((1, 2, 7, 64, 4096))]


def _lose_the_end(content: bytearray, chance: random.Random) -> None:
    del content[_somewhere(content, chance) :]


def _repeat_some(content: bytearray, chance: random.Random) -> None:
    start, at = _somewhere(content, chance), _somewhere(content, chance)
    content[at:at] = content[start : start + chance.choice((4, 64, 4096))] * chance.choice((1, 2, 100))


def _go_on_as_another(content: bytearray, chance: random.Random) -> None:
    other = chance.choice(_sound()).content
    content[_somewhere(content, chance) :] = other[chance.choice((0, chance.randrange(len(other)))) :]


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits,
    _make_noise,
    _put_an_extreme,
    _lose_some,
    _lose_the_end,
    _repeat_some,
    _go_on_as_another,
)
