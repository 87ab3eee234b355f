"""A recording in, a result out: decode, find the speech, recognise its segments side by side.

Every stage waits for the next one, so memory stays flat whatever the length: the decoder for the
reader of its segments, that one for a free place among this recording's segments, a segment for a
free child.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec

from retention.job import Recognition, Submission
from retention.offer import NEEDS, Offer, language_of
from worker import sandbox
from worker.decoding import Decoder, Limits, Order
from worker.errors import EngineFailed, EngineUnusable, NotServed, RecognitionError, TooLong, Undecodable
from worker.media import RATE
from worker.phrases import Phrases
from worker.plain import plain
from worker.pool import RecognizerPool
from worker.recognizers import Utterance
from worker.results import Presenter
from worker.segments import Segment

__all__ = ["EngineFailed", "EngineUnusable", "NotServed", "RecognitionError", "TooLong", "Transcriber", "Undecodable"]

DAMAGED = "Parts of the audio could not be decoded and were skipped."
"""The warning of a result from damaged audio. A recording fails only when nothing of it can be decoded."""


@dataclass
class Tally:
    """How much of a recording was decoded, in samples; of several tries, in the longest."""

    samples: int = 0

    def heard(self) -> timedelta:
        """Return that as a time."""
        return timedelta(seconds=self.samples / RATE)


class Transcriber:
    """Owns the pool of recognising children, and starts a decoding child per recording."""

    def __init__(
        self,
        *,
        recognizer: str,
        children: int,
        child_memory: int,
        stall: timedelta,
        max_audio: timedelta,
        model: Path | None = None,
        plain_text: bool = False,
    ) -> None:
        self._limits = Limits(memory=child_memory, stall=stall, max_audio=max_audio)
        self._pool = RecognizerPool(
            recognizer=recognizer, model=model, children=children, memory=child_memory, stall=stall
        )
        self._plain = plain_text
        # One more than there are children: a segment is at hand when a child becomes free.
        self._at_once = children + 1

    @property
    def isolation(self) -> sandbox.Isolation:
        """What confines the children, as they report it. Empty before the start."""
        return self._pool.isolation

    @property
    def offer(self) -> Offer:
        """What is served. Nothing before the start."""
        offer = self._pool.offer
        return msgspec.structs.replace(offer, features=offer.features - {"punctuation"}) if self._plain else offer

    async def start(self) -> None:
        """Start the children; return when every one is warm. Raises EngineUnusable when they cannot be."""
        sandbox.start_forkserver(["worker.preload"])
        await self._pool.start()

    async def close(self) -> None:
        """Kill all children."""
        await self._pool.close()

    async def transcribe(
        self,
        audio: AsyncIterator[bytes],
        submission: Submission,
        *,
        age: timedelta = timedelta(0),
        tally: Tally | None = None,
    ) -> bytes:
        """Return the results object of spec 4 as JSON, from the bytes of a recording.

        `age` is how long ago the first byte came; `tally` learns what was decoded, also of what fails. Raises
        NotServed, Undecodable, TooLong, EngineFailed, or what `audio` raises. Cancelling kills the decoder and drops
        the segments; nothing of the recording stays.
        """
        began = time.monotonic()
        tally = tally or Tally()
        language = language_of(submission.model, self.offer)
        if language is None:
            raise NotServed
        submission = _honourable(submission, self.offer)
        phrases = Phrases(
            pause=submission.end_of_phrase_silence_time,
            # An engine that does not punctuate may still write "mr." and "p.m.".
            sentences=submission.split_transcript_at_phrase_end and "punctuation" in self.offer.features,
            most_readings=submission.max_alternatives,
        )
        presenter = Presenter(submission)
        order = Order(
            media=submission.media,
            sensitivity=submission.speech_detector_sensitivity,
            metrics=submission.audio_metrics,
        )
        unfinished: deque[asyncio.Task[tuple[Segment, Utterance]]] = deque()
        places = asyncio.Semaphore(self._at_once)

        async def recognize(segment: Segment) -> tuple[Segment, Utterance]:
            try:
                utterance = await self._pool.recognize(
                    segment.pcm, language=language, alternatives=submission.max_alternatives
                )
                return segment, plain(utterance) if self._plain else utterance
            finally:
                places.release()

        async def keep(task: asyncio.Task[tuple[Segment, Utterance]]) -> None:
            segment, utterance = await task
            for phrase in phrases.add(segment.start, len(segment.pcm) // 2, utterance):
                presenter.add(phrase)

        decoder = Decoder(audio, order, self._limits)
        try:
            async with decoder:
                async for segment in decoder:
                    await places.acquire()
                    unfinished.append(asyncio.create_task(recognize(segment)))
                    while unfinished and unfinished[0].done():
                        await keep(unfinished.popleft())
            while unfinished:
                await keep(unfinished[0])
                del unfinished[0]
        finally:
            tally.samples = max(tally.samples, decoder.samples)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        for phrase in phrases.end(decoder.samples):
            presenter.add(phrase)
        return presenter.encode(
            heard=decoder.samples / RATE,
            took=age.total_seconds() + time.monotonic() - began,
            metrics=decoder.metrics,
            warnings=[DAMAGED] if decoder.damaged else [],
        )


def _honourable(submission: Submission, offer: Offer) -> Submission:
    """Return what can be honoured of a job, with a warning of the rest: it may be from before a change of engines."""
    plain = Recognition(model=submission.model)
    lacking = {
        name: getattr(plain, name)
        for name, needs in NEEDS.items()
        if getattr(submission, name) != getattr(plain, name) and not needs <= offer.features
    }
    if not lacking:
        return submission
    warning = f"Unsupported arguments: {', '.join(lacking)}."
    return msgspec.structs.replace(submission, **lacking, warnings=(*submission.warnings, warning))
