"""`make contract`: the document of a stack of its own, tried out. Exits 1 when anything is not as the document says."""

import asyncio
import sys

import click

from deploy.processes import StackError, interrupt_on_signals, temporary_directory
from deploy.stack import Stack
from tests.contract.trial import SETTINGS, trial


@click.command()
@click.option("--cases", type=click.IntRange(min=1), required=True, help="How many there must be at least.")
@click.option("--seed", default="", help="Of a run that is to be repeated.")
def contract(cases: int, seed: str) -> None:
    """Try the document out."""
    interrupt_on_signals()
    try:
        with temporary_directory() as directory, Stack(directory / "stack", settings=SETTINGS) as stack:
            outcome = asyncio.run(trial(stack, directory, cases=cases, seed=seed))
    except StackError as error:
        raise click.ClickException(str(error)) from error
    click.echo(outcome.said)
    if outcome.cases < cases:
        raise click.ClickException(f"there were {outcome.cases} cases only, and not {cases}")
    sys.exit(outcome.status)


contract()
