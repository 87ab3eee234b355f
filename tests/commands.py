"""The administrator's command line, run in the test's own process."""

import logging

import structlog
from click.testing import CliRunner, Result

from retention import cli


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
