"""How fast the transcriber is, against as many bare engines as it has children.

Both recognise the same recording of some minutes. The bare processes get its segments ready-made and
take the next one as they become free; the transcriber gets the bytes, decodes, finds the segments and
makes the result. The machine may be shared: so the two take turns within each round, every other time in the
other order, and medians of the rounds are compared.
Run it with `make bench`.
"""

import asyncio
import io
import statistics
import sys
import time
import wave
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext

from retention.job import Media, Submission
from tests.speech import AUDIO, stream
from worker.media import RATE, Decoding
from worker.recognizers import find
from worker.segments import Segment, segments
from worker.transcriber import Transcriber

CHILDREN = 2
ROUNDS = 5
TURNS = 4
AT_LEAST = 0.9
"""The share of the bare engines' speed that the transcriber must reach."""

ASKED = Submission(media=Media(type="audio/wav"), model="en-US_BroadbandModel", timestamps=True, word_confidence=True)


def recording() -> bytes:
    """Return a WAV file of 46 s of real speech; a round takes it as often as there are turns."""
    samples = io.BytesIO()
    with wave.open(samples, "wb") as whole:
        whole.setparams((1, 2, RATE, 0, "NONE", ""))
        for _ in range(2):
            for path in sorted(AUDIO.glob("[cl]*.wav")):
                with wave.open(str(path)) as part:
                    whole.writeframes(part.readframes(part.getnframes()) + bytes(RATE))
    return samples.getvalue()


def bare(channel: Connection) -> None:
    """Recognise what comes, in a process that does nothing else."""
    engine = find("pocketsphinx")(None)
    channel.send(0)
    while pcm := channel.recv():
        channel.send(len(engine.recognize(pcm, language="en-US", alternatives=1).words))


class Bare:
    """As many bare engines as the transcriber has children, warm."""

    def __init__(self) -> None:
        self.channels: list[Connection] = []
        for _ in range(CHILDREN):
            ours, theirs = ForkServerContext().Pipe()
            ForkServerContext().Process(target=bare, args=(theirs,), daemon=True).start()
            self.channels.append(ours)
        for channel in self.channels:
            channel.recv()

    def close(self) -> None:
        """Let them end."""
        for channel in self.channels:
            channel.send(b"")
            channel.close()

    def recognize(self, parts: list[Segment]) -> None:
        """Return when all these segments are recognised."""
        ahead = iter(parts)
        busy = []
        for channel in self.channels:
            channel.send(next(ahead).pcm)
            busy.append(channel)
        while busy:
            for channel in [channel for channel in wait(busy) if isinstance(channel, Connection)]:
                channel.recv()
                if (part := next(ahead, None)) is not None:
                    channel.send(part.pcm)
                else:
                    busy.remove(channel)


async def measure() -> float:
    """Print a line for each round and the medians; return their ratio."""
    content = recording()
    parts = [
        part
        for part in segments(Decoding(io.BytesIO(content), ASKED.media, most=RATE * 3600))
        if isinstance(part, Segment)
    ]
    seconds = TURNS * len(content) / 2 / RATE
    print(f"{seconds:.0f} s of audio, {len(parts)} segments, {TURNS} turns, {CHILDREN} children; audio s per s:")
    transcriber = Transcriber(
        recognizer="pocketsphinx",
        children=CHILDREN,
        child_memory=2 << 30,
        stall=timedelta(minutes=1),
        max_audio=timedelta(hours=1),
    )
    await transcriber.start()
    engines = Bare()
    ours, theirs = [], []
    try:
        for number in range(1, ROUNDS + 1):
            spent = {"bare": 0.0, "transcriber": 0.0}
            for turn in range(TURNS):
                for which in sorted(spent, reverse=bool((number + turn) % 2)):
                    began = time.monotonic()
                    if which == "bare":
                        engines.recognize(parts)
                    else:
                        await transcriber.transcribe(stream(content), ASKED)
                    spent[which] += time.monotonic() - began
            theirs.append(seconds / spent["bare"])
            ours.append(seconds / spent["transcriber"])
            print(f"  round {number}: bare {theirs[-1]:6.2f}   transcriber {ours[-1]:6.2f}")
    finally:
        engines.close()
        await transcriber.close()
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"  median:  bare {statistics.median(theirs):6.2f}   transcriber {statistics.median(ours):6.2f}")
    print(f"  ratio {ratio:.3f}, at least {AT_LEAST} wanted")
    return ratio


if __name__ == "__main__":
    sys.exit(asyncio.run(measure()) < AT_LEAST)
