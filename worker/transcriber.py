"""A recording in, a result out: decode, find the speech, recognise its segments side by side.

Every stage waits for the next one, so memory stays flat whatever the length: the decoder for the
reader of its segments, that one for a free place among this recording's segments, a segment for a
free child.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta

from msgspec import Raw

from retention.job import Submission
from worker import results, sandbox
from worker.decoding import Decoder, Limits
from worker.errors import EngineFailed, RecognitionError, TooLong, Undecodable
from worker.pool import RecognizerPool
from worker.segments import Segment

__all__ = ["EngineFailed", "RecognitionError", "TooLong", "Transcriber", "Undecodable"]

DAMAGED = "Parts of the audio could not be decoded and were skipped."
"""The warning of a result from damaged audio. A recording fails only when nothing of it can be decoded."""


class Transcriber:
    """Owns the pool of recognising children, and starts a decoding child per recording."""

    def __init__(
        self, *, recognizer: str, children: int, child_memory: int, stall: timedelta, max_audio: timedelta
    ) -> None:
        self._limits = Limits(memory=child_memory, stall=stall, max_audio=max_audio)
        self._pool = RecognizerPool(recognizer=recognizer, children=children, memory=child_memory, stall=stall)
        # One more than there are children: a segment is at hand when a child becomes free.
        self._at_once = children + 1

    @property
    def isolation(self) -> sandbox.Isolation:
        """What confines the children, as they report it. Empty before the start."""
        return self._pool.isolation

    async def start(self) -> None:
        """Start the children; return when every one is warm. Raises EngineFailed when they cannot be."""
        sandbox.start_forkserver(["worker.preload"])
        await self._pool.start()

    async def close(self) -> None:
        """Kill all children."""
        await self._pool.close()

    async def transcribe(self, audio: AsyncIterator[bytes], submission: Submission) -> bytes:
        """Return the results object of spec 4 as JSON, from the bytes of a recording.

        Raises Undecodable, TooLong, EngineFailed, or what `audio` raises. Cancelling kills the decoder
        and drops the segments; nothing of the recording stays.
        """
        finished: list[Raw] = []
        unfinished: deque[asyncio.Task[Raw | None]] = deque()
        places = asyncio.Semaphore(self._at_once)

        async def recognize(segment: Segment) -> Raw | None:
            try:
                utterance = await self._pool.recognize(segment.pcm, alternatives=submission.max_alternatives)
                return results.result(utterance, segment, submission)
            finally:
                places.release()

        try:
            async with Decoder(audio, submission.media, self._limits) as decoder:
                async for segment in decoder:
                    await places.acquire()
                    unfinished.append(asyncio.create_task(recognize(segment)))
                    while unfinished and unfinished[0].done():
                        _keep(finished, await unfinished.popleft())
            while unfinished:
                _keep(finished, await unfinished[0])
                del unfinished[0]
        finally:
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        return results.encode(finished, [*submission.warnings, *([DAMAGED] if decoder.damaged else [])])


def _keep(finished: list[Raw], result: Raw | None) -> None:
    if result is not None:
        finished.append(result)
