"""A transcriber of one's own, for as long as a block lasts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from worker.transcriber import Transcriber


@asynccontextmanager
async def transcribing(
    recognizer: str = "pocketsphinx",
    *,
    model: Path | None = None,
    plain_text: bool = False,
    children: int = 1,
    memory: int = 2 << 30,
    stall: timedelta = timedelta(minutes=1),
    max_audio: timedelta = timedelta(hours=1),
) -> AsyncIterator[Transcriber]:
    """Run a transcriber; `memory` is that of a child, in bytes. Raises EngineUnusable."""
    transcriber = Transcriber(
        recognizer=recognizer,
        model=model,
        plain_text=plain_text,
        children=children,
        child_memory=memory,
        stall=stall,
        max_audio=max_audio,
    )
    try:
        await transcriber.start()
        yield transcriber
    finally:
        await transcriber.close()
