"""Bytes to samples: formats, channels, byte order, bounds. What is hostile is in the integration tests."""

import io
import random
import struct
import wave
from array import array

import pytest

from retention.job import Media
from tests.formats import ORDERS, Order, raw, speech
from tests.speech import AUDIO, IN_EVERY_FORMAT, media
from worker.errors import TooLong, Undecodable
from worker.media import RATE, Decoding

HOUR = 3600 * RATE


def decoded(content: bytes, kind: Media, *, most: int = HOUR) -> "array[int]":
    """Return all samples of a recording."""
    return array("h", b"".join(Decoding(io.BytesIO(content), kind, most=most)))


def l16(rate: int, channels: int = 1, order: Order | None = None) -> Media:
    return Media(type="audio/l16", rate=rate, channels=channels, endianness=order)


@pytest.mark.parametrize("name", IN_EVERY_FORMAT)
def test_every_format_is_decoded_to_its_length(name: str) -> None:
    """The sentence lasts 3.57 seconds in each format, give or take what a codec adds."""
    samples = decoded((AUDIO / name).read_bytes(), media(name))
    assert len(samples) / RATE == pytest.approx(3.57, abs=0.1)


def test_samples_of_our_own_form_are_not_touched() -> None:
    """16 kHz mono WAV and FLAC come out bit by bit."""
    with wave.open(str(AUDIO / "flite_rms_0.wav")) as file:
        expected = array("h", file.readframes(file.getnframes()))
    assert decoded((AUDIO / "flite_rms_0.wav").read_bytes(), Media(type="audio/wav")) == expected
    assert decoded((AUDIO / "flite_rms_0.flac").read_bytes(), Media(type="audio/flac")) == expected


@pytest.mark.parametrize("channels", [2, 3, 8, 9, 16])
@pytest.mark.parametrize("order", ORDERS)
def test_channels_are_averaged(channels: int, order: Order) -> None:
    """However many channels there are, one comes out, as long and as loud as their mean."""
    one = [100 * (channel + 1) for channel in range(channels)]
    content = struct.pack((">" if order == "big-endian" else "<") + f"{channels}h", *one) * RATE
    samples = decoded(content, l16(RATE, channels, order))
    assert len(samples) == RATE
    assert set(samples[100:-100]) <= {50 * (channels + 1), 50 * (channels + 1) - 1}


@pytest.mark.parametrize("rate", [1000, 8000, 44100, 384_000])
def test_other_rates_are_resampled(rate: int) -> None:
    """A second stays a second."""
    kind = l16(rate, order="little-endian")
    assert len(decoded(bytes(rate * 2), kind)) == pytest.approx(RATE, abs=20)


@pytest.mark.parametrize(
    ("rate", "channels", "silent"),
    [(16000, 1, 0), (8000, 1, 60), (8000, 16, 0), (44100, 3, 1), (48000, 2, 0), (48000, 16, 1)],
)
def test_the_byte_order_of_speech_is_told(rate: int, channels: int, silent: int) -> None:
    """Without a declared order, the right one is found, also behind a minute of silence (spec 5.1)."""
    sentence = speech("flite_rms_0.wav")[: 2 * RATE]
    big, little = (raw(sentence, rate, channels, order) for order in ORDERS)
    nothing = bytes(2 * channels * rate * silent)
    expected = decoded(little, l16(rate, channels, "little-endian"))
    for content in (little, big):
        samples = decoded(nothing + content, l16(rate, channels))
        # The resampler's phase may be another after the silence.
        assert len(samples) == pytest.approx(silent * RATE + len(expected), abs=1)
        assert max(samples) == pytest.approx(max(expected), rel=0.1)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_cut_sample_is_left_out(order: Order, missing: int) -> None:
    """Raw audio of any length is taken, as far as its samples are whole in every channel."""
    content = raw(speech("flite_rms_0.wav")[:RATE], RATE, 2, order)
    whole = decoded(content, l16(RATE, 2, order))
    assert decoded(content[:-missing], l16(RATE, 2, order)) == whole[:-1]
    assert decoded(content[:-missing], l16(RATE, 2)) == whole[:-1]


def test_g729_and_its_annex_d_are_told_apart() -> None:
    """Frames of ten bytes are known by their parity; whatever has it by chance only is of eight (spec 5.1)."""
    tens = (AUDIO / "flite_rms_0.g729").read_bytes()
    eights = random.Random(1).randbytes(len(tens) // 10 * 8)
    for silent in (0, 40_000):
        nothing = bytes(silent)
        assert len(decoded(nothing + tens, Media(type="audio/g729"))) == (silent + len(tens)) / 10 * RATE / 100
        assert len(decoded(nothing + eights, Media(type="audio/g729"))) == (silent + len(eights)) / 8 * RATE / 100


@pytest.mark.parametrize("order", ORDERS)
def test_channels_that_differ_do_not_mislead_about_the_byte_order(order: Order) -> None:
    """A channel of nothing but an offset, which is smaller in the wrong order, beside one of speech."""
    both = array("h", bytes(4 * RATE))
    both[::2] = speech("flite_rms_0.wav")[:RATE]
    both[1::2] = array("h", [0x6020]) * RATE
    content = struct.pack((">" if order == "big-endian" else "<") + f"{len(both)}h", *both)
    assert decoded(content, l16(RATE, 2)) == decoded(content, l16(RATE, 2, order))


def test_the_declared_byte_order_is_believed() -> None:
    """Also for audio that would look smoother the other way round."""
    content = (AUDIO / "flite_rms_0.l16be").read_bytes()
    kind = l16(RATE, order="little-endian")
    assert decoded(content, kind).tobytes() == content


def test_the_bound_is_met_to_the_sample() -> None:
    """As many samples as allowed are decoded; one more is too long."""
    kind = l16(RATE, order="little-endian")
    assert len(decoded(bytes(2000), kind, most=1000)) == 1000
    with pytest.raises(TooLong):
        decoded(bytes(2002), kind, most=1000)


@pytest.mark.parametrize(("rate", "channels"), [(999, 1), (384_001, 1), (16000, 0), (16000, 17)])
def test_raw_audio_outside_the_bounds_is_undecodable(rate: int, channels: int) -> None:
    """Declared rates and channels are bounded like those of headers."""
    with pytest.raises(Undecodable):
        decoded(bytes(2000), l16(rate, channels))


def test_damage_is_skipped() -> None:
    """What precedes and follows a damaged part of a FLAC file is decoded."""
    content = bytearray((AUDIO / "flite_rms_0.flac").read_bytes())
    content[30000:34000] = random.Random(1).randbytes(4000)
    decoding = Decoding(io.BytesIO(bytes(content)), Media(type="audio/flac"), most=HOUR)
    assert 2.5 * RATE < sum(len(run) // 2 for run in decoding) <= 3.6 * RATE


def test_a_broken_end_is_noticed() -> None:
    """A FLAC file that ends within a frame is decoded up to there, and known to be damaged."""
    content = (AUDIO / "flite_rms_0.flac").read_bytes()
    decoding = Decoding(io.BytesIO(content[:40000]), Media(type="audio/flac"), most=HOUR)
    assert sum(len(run) // 2 for run in decoding) > RATE
    assert decoding.damaged


@pytest.mark.parametrize(
    "content",
    [
        b"ffconcat version 1.0\nfile goforward.wav\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 49170 RTP/AVP 0\n",
    ],
)
def test_what_names_other_sources_is_not_followed(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demuxer is forced: a list of files that calls itself WAV opens none, though it is there; nor a stream."""
    monkeypatch.chdir(AUDIO)
    with pytest.raises(Undecodable):
        decoded(content, Media(type="audio/wav"))
