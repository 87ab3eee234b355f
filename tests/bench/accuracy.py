"""How many words are wrong, next to the bare engine with its own defaults.

The recordings of `tests/audio` of which it is known what is said, as they are (16 kHz), as a telephone has them
(8 kHz, mu-law), in white noise 20 and 10 dB below the speech, and 20 dB quieter. The bare engine gets each recording
whole, as one utterance of 16 kHz, and forgets the one before; the transcriber gets it as a file. (A bare engine that
remembers does a little better in noise, which it has then heard before: 7 words of 340. One tenant's audio must not
change another's words, so ours forgets.) So few words rank settings and show what noise does; they are no measure of
accuracy.
Run it with `make bench`.
"""

import asyncio
import io
import math
import os
import random
import sys
import wave
from array import array
from collections.abc import Callable

import av
import pocketsphinx

from retention.job import Media, Submission
from tests.speech import AUDIO, SENTENCE, stream, transcript, word_errors
from tests.transcribing import transcribing
from worker.media import RATE, Decoding

SAID = {
    "cards_001": "ten of clubs",
    "cards_002": "four queen of clubs",
    "cards_003": "seven of clubs",
    "goforward": "go forward ten meters",
    "flite_rms_0": SENTENCE,
    **{path.stem: path.read_text() for path in sorted(AUDIO.glob("*.txt"))},
}
WAV = Media(type="audio/wav")


def samples(name: str) -> "array[int]":
    """Return the samples of a recording."""
    with wave.open(str(AUDIO / f"{name}.wav")) as file:
        return array("h", file.readframes(file.getnframes()))


def as_wav(pcm: "array[int]") -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setparams((1, 2, RATE, 0, "NONE", ""))
        audio.writeframes(pcm.tobytes())
    return file.getvalue()


def by_telephone(pcm: "array[int]") -> bytes:
    """Return a WAV file of 8 kHz in mu-law."""
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_mulaw", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm))
        frame.sample_rate = RATE
        frame.planes[0].update(pcm.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        for encoded in (frame, None):
            for packet in stream.encode(encoded):
                container.mux(packet)
    return file.getvalue()


def in_noise(decibels: float) -> Callable[["array[int]"], bytes]:
    """Return what adds white noise so far below the speech."""

    def add(pcm: "array[int]") -> bytes:
        power = math.sqrt(sum(value * value for value in pcm) / len(pcm))
        level = power * 10 ** (-decibels / 20)
        noise = random.Random(1)
        return as_wav(array("h", (max(-32768, min(32767, round(value + noise.gauss(0, level)))) for value in pcm)))

    return add


def quiet(pcm: "array[int]") -> bytes:
    return as_wav(array("h", (round(value / 10) for value in pcm)))


CONDITIONS: dict[str, Callable[["array[int]"], bytes]] = {
    "16 kHz": as_wav,
    "8 kHz, mu-law": by_telephone,
    "noise at -20 dB": in_noise(20),
    "noise at -10 dB": in_noise(10),
    "20 dB quieter": quiet,
}


def bare(engine: pocketsphinx.Decoder, content: bytes) -> str:
    """Return what the engine hears in the whole recording."""
    engine.reinit_feat()
    engine.start_utt()
    whole = b"".join(Decoding(io.BytesIO(content), WAV, most=RATE * 3600))
    engine.process_raw(whole, no_search=False, full_utt=True)
    engine.end_utt()
    heard = engine.hyp()
    return heard.hypstr if heard else ""


async def measure() -> bool:
    """Print a line for each condition; tell whether the transcriber has no more errors in all than the bare engine."""
    engine = pocketsphinx.Decoder(loglevel="FATAL", logfn=os.devnull)
    words = sum(len(said.split()) for said in SAID.values())
    print(f"word errors in {words} words of {len(SAID)} recordings:")
    total = {"bare": 0, "transcriber": 0}
    async with transcribing(children=2) as transcriber:
        for name, change in CONDITIONS.items():
            errors = dict.fromkeys(total, 0)
            for recording, said in SAID.items():
                content = change(samples(recording))
                asked = Submission(media=WAV, model="en-US")
                heard = {
                    "bare": bare(engine, content),
                    "transcriber": transcript(await transcriber.transcribe(stream(content), asked)),
                }
                for which, text in heard.items():
                    errors[which] += word_errors(text.split(), said.split())
            total = {which: total[which] + errors[which] for which in total}
            shares = "   ".join(f"{which} {count:3} ({count / words:4.0%})" for which, count in errors.items())
            print(f"  {name:<16} {shares}")
    print(f"  in all           bare {total['bare']:3}   transcriber {total['transcriber']:3}, no more wanted")
    return total["transcriber"] <= total["bare"]


if __name__ == "__main__":
    sys.exit(not asyncio.run(measure()))
