"""The workers' part of the command line."""

import click

from worker.recognizers import installed


@click.command()
def engines() -> None:
    """List the installed engines and the models that each serves."""
    for point in installed():
        try:
            models = " ".join(point.load().models)
        except ImportError as error:
            models = f"cannot be loaded: {error}"
        click.echo(f"{point.name}\t{models}")


commands: list[click.Command] = [engines]
