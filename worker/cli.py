"""The workers' part of the command line."""

import asyncio
from collections.abc import Iterator

import click

from retention.offer import Offer
from retention.settings import Settings, load
from worker.recognizers import installed
from worker.transcriber import EngineUnusable, Transcriber


@click.command()
def engines() -> None:
    """List the installed engines: the languages of each, and what it can do beyond words.

    Every engine is loaded as a worker would load it, the one that is set with its model.
    """
    settings = load()
    for name in _names(settings):
        try:
            offer = asyncio.run(_offer(name, settings))
        except EngineUnusable as error:
            click.echo(f"{name}\tcannot be used: {error}")
        else:
            click.echo(f"{name}\t{' '.join(offer.languages)}\t{' '.join(sorted(offer.features))}")


def _names(settings: Settings) -> Iterator[str]:
    """Yield the installed engines, and the one that is set when it is none of them."""
    names = [point.name for point in installed()]
    yield from names
    if settings.recognizer not in names:
        yield settings.recognizer


async def _offer(name: str, settings: Settings) -> Offer:
    transcriber = Transcriber(
        recognizer=name,
        model=settings.recognizer_model if name == settings.recognizer else None,
        plain_text=settings.plain_text,
        children=1,
        child_memory=settings.child_memory,
        stall=settings.stall,
        max_audio=settings.max_audio,
    )
    try:
        await transcriber.start()
    finally:
        await transcriber.close()
    return transcriber.offer


commands: list[click.Command] = [engines]
