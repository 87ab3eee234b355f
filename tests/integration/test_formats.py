"""Every form of audio says the same words: raw and contained, 8 to 48 kHz, 1 to 16 channels, both byte orders.

What loses nothing is compared sample by sample with the WAV file of the same rate, in every number of
channels: equal samples are equal words. What loses something is recognised, and how many of the 15
words it may cost is written beside it; the WAV files of all rates cost none, but for one word at 8 kHz.
FFmpeg has no encoder of G.729, so there is one recording of it, and of its Annex D none at all: only
its lengths are checked (`tests/unit/test_media.py`).
"""

import io
import struct
from array import array
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from retention.job import Media, Submission
from tests.formats import ORDERS, RATE, Form, Order, encoded, raw, speech
from tests.speech import AUDIO, SENTENCE, stream, transcript, word_errors
from tests.transcribing import transcribing
from worker.media import Decoding
from worker.transcriber import Transcriber

RATES = [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000]
CHANNELS = [1, 2, 3, 6, 8, 9, 16]
FLAC_CHANNELS = 8
"""The most that the format can hold."""

WAV = Media(type="audio/wav")
FLAC = Media(type="audio/flac")

SPEECH = speech("flite_rms_0.wav", "goforward.wav")
SAID = f"{SENTENCE} go forward ten meters"
LOSSY = {
    Form(muxer="alaw", encoder="pcm_alaw", rate=8000): 0,
    Form(muxer="alaw", encoder="pcm_alaw", rate=48000): 0,
    Form(muxer="mulaw", encoder="pcm_mulaw", rate=8000): 2,
    Form(muxer="mulaw", encoder="pcm_mulaw", rate=16000): 0,
    Form(muxer="wav", encoder="pcm_u8", rate=16000): 0,
    Form(muxer="wav", encoder="pcm_alaw", rate=8000, channels=2): 2,
    Form(muxer="wav", encoder="pcm_mulaw", rate=48000, channels=16): 0,
    Form(muxer="wav", encoder="adpcm_ms", rate=16000, channels=2): 1,
    Form(muxer="wav", encoder="adpcm_ima_wav", rate=22050): 0,
    Form(muxer="wav", encoder="g722", rate=16000): 0,
    Form(muxer="wav", encoder="g726", rate=8000): 0,
    Form(muxer="wav", encoder="mp3", rate=16000, bit_rate=48_000): 0,
    Form(muxer="mp3", encoder="mp3", rate=8000, bit_rate=32_000): 2,
    Form(muxer="mp3", encoder="mp3", rate=11025, bit_rate=24_000): 0,
    Form(muxer="mp3", encoder="mp3", rate=22050, channels=2, bit_rate=48_000): 0,
    Form(muxer="mp3", encoder="mp3", rate=44100, channels=2, bit_rate=64_000): 0,
    Form(muxer="ogg", encoder="libopus", rate=8000, bit_rate=16_000): 2,
    Form(muxer="ogg", encoder="libopus", rate=24000, channels=2, bit_rate=32_000): 0,
    Form(muxer="ogg", encoder="libopus", rate=48000, channels=8, bit_rate=192_000): 0,
    Form(muxer="ogg", encoder="vorbis", rate=8000, channels=2, bit_rate=64_000): 6,
    Form(muxer="ogg", encoder="vorbis", rate=44100, channels=2): 0,
    Form(muxer="webm", encoder="libopus", rate=16000, bit_rate=24_000): 0,
    Form(muxer="webm", encoder="libopus", rate=48000, channels=6, bit_rate=128_000): 0,
    Form(muxer="webm", encoder="vorbis", rate=22050, channels=2): 0,
}
"""How many of the 15 words a form may cost."""

A_WORD = SPEECH[:RATE]
"""Enough to compare sample by sample."""


def decoded(content: bytes, media: Media) -> "array[int]":
    decoding = Decoding(io.BytesIO(content), media, most=60 * RATE)
    samples = array("h", b"".join(decoding))
    assert not decoding.damaged
    return samples


def wav(samples: "array[int]", rate: int, channels: int = 1, encoder: str = "pcm_s16le", **options: str) -> bytes:
    form = Form(muxer="wav", encoder=encoder, rate=rate, channels=channels, options=tuple(options.items()))
    return encoded(samples, form)


def streamed(content: bytes, size: int) -> bytes:
    """Return a WAV file whose writer never came back to fill in the sizes."""
    data = content.index(b"data")
    sizes = struct.pack("<I", size)
    return content[:4] + sizes + content[8 : data + 4] + sizes + content[data + 8 :]


def lossless(rate: int, channels: int) -> dict[str, tuple[bytes, Media]]:
    """Return the same samples in every form that loses none."""
    l16 = Media(type="audio/l16", rate=rate, channels=channels)
    plain = wav(A_WORD, rate, channels)
    forms = {
        "RF64": (wav(A_WORD, rate, channels, rf64="always"), WAV),
        "sizes of 0": (streamed(plain, 0), WAV),
        "greatest sizes": (streamed(plain, 0xFFFFFFFF), WAV),
        **{
            f"{depth} in WAV": (wav(A_WORD, rate, channels, f"pcm_{depth}le"), WAV)
            for depth in ("s24", "s32", "f32", "f64")
        },
    }
    for order in ORDERS:
        content = raw(A_WORD, rate, channels, order)
        declared = Media(type="audio/l16", rate=rate, channels=channels, endianness=order)
        forms |= {order: (content, declared), f"{order}, undeclared": (content, l16)}
    if channels <= FLAC_CHANNELS:
        flac = Form(muxer="flac", encoder="flac", rate=rate, channels=channels)
        forms["FLAC"] = (encoded(A_WORD, flac), FLAC)
    return forms


@pytest.mark.parametrize("rate", RATES)
def test_what_loses_nothing_has_the_samples_of_the_wav(rate: int) -> None:
    """In any container, depth, byte order and number of channels, but for what rounding does to a mean."""
    expected = decoded(wav(A_WORD, rate), WAV)
    assert len(expected) == pytest.approx(len(A_WORD), abs=20)
    for channels in CHANNELS:
        for name, (content, media) in lossless(rate, channels).items():
            samples = decoded(content, media)
            assert len(samples) == len(expected), (name, channels)
            apart = max(abs(one - other) for one, other in zip(samples, expected, strict=True))
            assert apart <= 2, (name, channels)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transcriber() -> AsyncIterator[Transcriber]:
    async with transcribing(children=2, max_audio=timedelta(minutes=1)) as transcriber:
        yield transcriber


async def heard(transcriber: Transcriber, content: bytes, media: Media) -> list[str]:
    """Return the words that are recognised, without a warning."""
    told = await transcriber.transcribe(stream(content), Submission(media=media, model="en-US_BroadbandModel"))
    assert b"warnings" not in told
    return transcript(told).split()


async def errors(transcriber: Transcriber, content: bytes, media: Media, said: str = SAID) -> int:
    """Return how many words are wrong."""
    return word_errors(await heard(transcriber, content, media), said.split())


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("rate", RATES)
async def test_every_word_is_recognised_at_every_rate(transcriber: Transcriber, rate: int) -> None:
    """The words of the WAV file, by which the others are measured: all of them, but for one at 8 kHz."""
    assert await errors(transcriber, wav(SPEECH, rate), WAV) <= (rate == RATES[0])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("rate", "channels", "order"), [(8000, 3, "little-endian"), (48000, 16, "big-endian")])
async def test_raw_samples_of_any_order_say_the_words_of_the_wav(
    transcriber: Transcriber, rate: int, channels: int, order: Order
) -> None:
    """Though nobody says which order it is, or how the channels share the sound."""
    media = Media(type="audio/l16", rate=rate, channels=channels)
    said = await heard(transcriber, wav(SPEECH, rate), WAV)
    assert await heard(transcriber, raw(SPEECH, rate, channels, order), media) == said


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("form", LOSSY, ids=str)
async def test_what_loses_something_says_the_words(transcriber: Transcriber, form: Form) -> None:
    """With no more words wrong than stated, and without a warning."""
    media = Media(type=f"audio/{form.muxer}", rate=form.rate if form.muxer.endswith("law") else None)
    assert await errors(transcriber, encoded(SPEECH, form), media) <= LOSSY[form]


@pytest.mark.asyncio(loop_scope="module")
async def test_g729_is_understood(transcriber: Transcriber) -> None:
    """Eight kilobits a second are hard for the embedded engine: four of eleven words are wrong."""
    content = (AUDIO / "flite_rms_0.g729").read_bytes()
    assert await errors(transcriber, content, Media(type="audio/g729"), SENTENCE) <= 4
