"""An engine that does what the audio tells it, and the audio that tells it.

It stands in for a real one where a test needs a job that lasts as long as it says, without the work.
Nothing but the samples reaches an engine, so they carry the script: how loud the noise is, is how long
recognising it takes.
"""

import ctypes
import io
import random
import time
import wave
from array import array
from pathlib import Path
from typing import ClassVar

from retention.offer import Feature, Offer
from worker.recognizers import Utterance, Word
from worker.recognizers.pocketsphinx import Pocketsphinx

QUICK = {
    "recognizer": "tests.recognizers:Scripted",
    "children": "1",
    "jobs_at_once": "1",
    "sweep_every": "1",
    "rescue_after": "2",
    "orphan_after": "20",
}
"""Settings of a stack with this engine that works on one job at a time and repairs soon."""

CALLING = {**QUICK, "callback_loopback": "true"}
"""The same, and receivers on this machine may be called."""

EMBEDDED = Offer(engine="pocketsphinx", languages=("en-US",), features=Pocketsphinx.features)
"""What the embedded engine serves."""

AT_WORK = b"at-work"
"""What a child is called in the process table while it recognises what takes time."""

_PR_SET_NAME = 15

_HEARD = 5000
"""Noise of this amplitude passes for speech, and takes no time. Each further step is a hundredth of a second."""


class Scripted:
    """Sleeps through its segment, then returns one word."""

    features: ClassVar[frozenset[Feature]] = frozenset({"times", "confidences"})

    def __init__(self, model: Path | None = None) -> None:
        del model
        self.offer = Offer(engine="scripted", languages=("en-US",), features=self.features)
        self._libc = ctypes.CDLL(None)

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `worker.recognizers.Recognizer`."""
        del language, alternatives
        takes = max(0, max(map(abs, array("h", pcm))) - _HEARD) / 100
        if takes:  # else it may be the silence that a child begins with, which is no work
            self._libc.prctl(_PR_SET_NAME, AT_WORK, 0, 0, 0)
            time.sleep(takes)
            self._libc.prctl(_PR_SET_NAME, b"idle", 0, 0, 0)
        return Utterance(words=(Word(text="done", start=0.0, end=min(0.5, len(pcm) / 32000), confidence=1.0),))


def recording(takes: float, *, lasts: float = 0.6) -> bytes:
    """Return a WAV file of noise, of which `Scripted` takes so many seconds (0 to 270) for every segment.

    A segment is everything, up to 20 seconds of audio; `lasts` is in seconds.
    """
    loud = _HEARD + round(takes * 100)
    samples = array("h", random.choices((loud, -loud), k=round(16000 * lasts)))
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setparams((1, 2, 16000, 0, "NONE", ""))
        audio.writeframes(samples.tobytes())
    return file.getvalue()
