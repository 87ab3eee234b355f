"""Bytes that are no audio, or audio that is a trap: each ends soon, as documented, and tells nothing."""

import asyncio
import io
import random
import socket
import struct
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import av
import msgspec
import pytest
import pytest_asyncio

from retention.job import Media, Submission
from retention.offer import Feature, Offer
from tests.recognizers import recording
from tests.speech import AUDIO, IN_EVERY_FORMAT, media, stream
from tests.transcribing import transcribing
from worker import decoding
from worker.recognizers import Utterance, Word
from worker.transcriber import DAMAGED, EngineFailed, TooLong, Transcriber, Undecodable

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 30.0
"""Seconds within which anything of the below has ended, on a busy machine."""

CONTAINERS = ["audio/wav", "audio/flac", "audio/mp3", "audio/ogg", "audio/webm"]


class Prompt:
    """An engine that hears one word in everything, at once."""

    features: ClassVar[frozenset[Feature]] = frozenset()

    def __init__(self, model: Path | None) -> None:
        del model
        self.offer = Offer(engine="prompt", languages=("en-US",), features=self.features)

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `worker.recognizers.Recognizer`."""
        del pcm, language, alternatives
        return Utterance(words=(Word(text="done"),))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transcriber() -> AsyncIterator[Transcriber]:
    prompt = transcribing(
        f"{__name__}:Prompt", memory=1 << 30, stall=timedelta(seconds=5), max_audio=timedelta(minutes=1)
    )
    async with prompt as transcriber:
        yield transcriber
        told = await transcriber.transcribe(stream(recording(0)), asked(Media(type="audio/wav")))
        assert b'"done "' in told, "the transcriber does not work afterwards"


def asked(kind: Media) -> Submission:
    return Submission(media=kind, model="en-US_BroadbandModel")


async def end(transcriber: Transcriber, content: bytes, kind: Media) -> bytes | type[Exception]:
    """Return the result, or the type of the error, whose text must be empty: it could tell of the inside."""
    try:
        async with asyncio.timeout(SOON):
            return await transcriber.transcribe(stream(content), asked(kind))
    except (Undecodable, TooLong) as error:
        failed = error
    assert str(failed) == ""
    return type(failed)


@pytest.mark.parametrize("name", IN_EVERY_FORMAT)
async def test_truncated_files_give_what_is_there(transcriber: Transcriber, name: str) -> None:
    """Cut anywhere, a file gives its part of a result, perhaps with a warning, or is undecodable; never more."""
    content = (AUDIO / name).read_bytes()
    ends = [await end(transcriber, content[:size], media(name)) for size in (100, 500, len(content) // 2, -3)]
    for outcome in ends:
        assert outcome is Undecodable or (
            isinstance(outcome, bytes) and msgspec.json.decode(outcome).get("warnings") in (None, [DAMAGED])
        )
    assert all(isinstance(outcome, bytes) and b'"done "' in outcome for outcome in ends[2:])


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("seed", range(3))
async def test_random_bytes_are_no_audio(transcriber: Transcriber, kind: str, seed: int) -> None:
    """Noise in the place of a file is undecodable, also behind the format's own first bytes."""
    first = {"audio/wav": b"RIFF\xff\xff\xff\xffWAVE", "audio/flac": b"fLaC", "audio/mp3": b"ID3"}.get(kind, b"")
    noise = random.Random(seed).randbytes(100_000)
    for content in (noise, first + noise):
        assert await end(transcriber, content, Media(type=kind)) in (Undecodable, TooLong)


async def test_random_bytes_are_raw_samples(transcriber: Transcriber) -> None:
    """Raw samples have no form that could be wrong: even noise of odd length in odd channels ends with a result."""
    noise = random.Random(5).randbytes(100_001)
    for channels in (1, 2, 7, 9, 16):
        kind = Media(type="audio/l16", rate=44100, channels=channels)
        assert isinstance(await end(transcriber, noise, kind), bytes)


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("content", [b"", b"\0", bytes(100_000), b"<!DOCTYPE html><title>404</title>" * 50])
async def test_what_is_no_audio_at_all_is_undecodable(transcriber: Transcriber, kind: str, content: bytes) -> None:
    """Nothing, zeros, or a web page."""
    assert await end(transcriber, content, Media(type=kind)) is Undecodable


async def test_empty_raw_audio_is_undecodable(transcriber: Transcriber) -> None:
    """Not one sample."""
    assert await end(transcriber, b"\0", Media(type="audio/l16", rate=16000)) is Undecodable


async def test_hours_of_silence_in_few_bytes_are_too_long(transcriber: Transcriber) -> None:
    """A small file that decodes to an hour ends when the bound is reached, not after an hour."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        encoder = container.add_stream("flac", rate=16000, layout="mono")
        silence = av.AudioFrame(format="s16", layout="mono", samples=4096)
        silence.rate = 16000
        silence.planes[0].update(bytes(silence.planes[0].buffer_size))
        for _ in range(3600 * 16000 // 4096):
            silence.pts = None
            container.mux(encoder.encode(silence))
        container.mux(encoder.encode(None))
    assert len(file.getvalue()) < 1 << 20
    assert await end(transcriber, file.getvalue(), Media(type="audio/flac")) is TooLong


def wav(*, rate: int = 16000, channels: int = 1, bits: int = 16, form: int = 1, data: bytes = bytes(64000)) -> bytes:
    """Return a WAV file whose header claims what it likes."""
    align = channels * bits // 8 & 0xFFFF
    claims = struct.pack("<HHIIHH", form, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(claims)) + claims + b"data\xff\xff\xff\xff" + data


@pytest.mark.parametrize("rate", [0, 1, 999, 384_001, 4_000_000_000])
async def test_a_rate_that_nobody_records_at_is_undecodable(transcriber: Transcriber, rate: int) -> None:
    """At 1 Hz, a few kilobytes would be hours."""
    assert await end(transcriber, wav(rate=rate), Media(type="audio/wav")) is Undecodable


@pytest.mark.parametrize("channels", [0, 17, 255, 65535])
async def test_a_number_of_channels_that_nobody_records_is_undecodable(transcriber: Transcriber, channels: int) -> None:
    """Nor may one sample be many kilobytes."""
    assert await end(transcriber, wav(channels=channels), Media(type="audio/wav")) is Undecodable


@pytest.mark.parametrize("channels", [1, 2, 6, 9])
async def test_as_many_channels_as_the_contract_allows_are_mixed(transcriber: Transcriber, channels: int) -> None:
    """Up to nine channels in WAV become one (spec 5.1)."""
    noise = struct.pack("<16000h", *random.Random(3).choices((5000, -5000), k=16000))
    every = b"".join(noise[at : at + 2] * channels for at in range(0, len(noise), 2))
    told = await end(transcriber, wav(channels=channels, data=every), Media(type="audio/wav"))
    assert isinstance(told, bytes)
    assert b'"done "' in told


@pytest.mark.parametrize("kind", CONTAINERS)
async def test_playlists_and_descriptions_reach_nothing(transcriber: Transcriber, kind: str) -> None:
    """What makes other programs open files and connections is undecodable, at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port, song = server.getsockname()[1], AUDIO / "goforward.wav"
        for content in (
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {port} RTP/AVP 0\n",
            f"ffconcat version 1.0\nfile '{song}'\n",
            f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:{port}/a.wav\n#EXT-X-ENDLIST\n",
            f"[playlist]\nFile1=file://{song}\nNumberOfEntries=1\n",
        ):
            assert await end(transcriber, content.encode() + bytes(200), Media(type=kind)) is Undecodable
        with pytest.raises(BlockingIOError):
            server.accept()


def _repeats_itself(channel: socket.socket, *_: object) -> None:
    """Say, in the place of a decoder, the same progress for ever."""
    while True:
        channel.sendall(struct.pack("!cQI", b"P", 160_000, 0))


async def test_a_decoder_that_was_taken_over_cannot_pretend_progress(
    transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that reports the same moment again and again fails the recording; it does not hold it for ever."""
    monkeypatch.setattr(decoding, "_decode", _repeats_itself)
    with pytest.raises(EngineFailed):
        await end(transcriber, recording(0), Media(type="audio/wav"))
