"""The administrator's command line, run in the test's own process."""

import logging
from typing import Protocol

import structlog
from click.testing import CliRunner, Result

from retention import cli


class Run(Protocol):
    """Run `volant` with settings of its own."""

    def __call__(self, *arguments: str, input: str | None = None, **settings: str) -> Result: ...  # noqa: A002


def volant(*arguments: str, input: str | None = None, **settings: str) -> Result:  # noqa: A002 - click's word
    """Run `volant` with settings by name, and answers to its questions; logging is as it was afterwards."""
    for command in cli.commands:
        cli.volant.add_command(command)
    environment = {f"VOLANT_{name.upper()}": value for name, value in settings.items()}
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        return CliRunner().invoke(cli.volant, arguments, input=input, env=environment)
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
