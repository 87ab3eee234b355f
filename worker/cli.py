"""The workers' part of the command line."""

import click

from retention.settings import load
from worker.recognizers import installed


@click.command()
def engines() -> None:
    """List the installed engines: the languages of each, and what it can do beyond words.

    Every engine is loaded, the one that is set with its model.
    """
    settings = load()
    for point in installed():
        model = settings.recognizer_model if point.name == settings.recognizer else None
        try:
            offer = point.load()(model).offer
        except (ImportError, ValueError) as error:
            click.echo(f"{point.name}\tcannot be used: {error}")
        else:
            click.echo(f"{point.name}\t{' '.join(offer.languages)}\t{' '.join(sorted(offer.features))}")


commands: list[click.Command] = [engines]
