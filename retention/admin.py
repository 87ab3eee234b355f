"""What every administrator's command needs: the settings, all that keeps jobs, and errors as sentences."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import click

from retention import log
from retention.bootstrap import Retention, open_retention
from retention.errors import CellRefused, KeyUnavailable, NotFound, RetentionError, SettingsError, Unavailable
from retention.settings import Settings, load

T = TypeVar("T")

one_cell = click.option("--cell", help="The one cell to look at, by its name in the settings. Default: all.")
"""The option of commands that concern all cells, unless one is named."""


def loaded() -> Settings:
    """Return the settings. What is wrong with them is a sentence, and exit 1."""
    try:
        return load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def with_retention(action: Callable[[Retention], Awaitable[T]]) -> T:
    """Return what comes of an action on all that keeps jobs. What goes wrong is a sentence, and exit 1."""
    log.configure("warning")
    configured = loaded()

    async def run() -> T:
        async with _opened(configured) as retention:
            return await action(retention)

    return asyncio.run(run())


@asynccontextmanager
async def _opened(configured: Settings) -> AsyncIterator[Retention]:
    try:
        async with open_retention(configured, role="admin") as retention:
            yield retention
    except NotFound as error:
        raise click.ClickException(f"there is no {error}") from error
    except Unavailable as error:
        raise click.ClickException(f"Redis cannot be reached, or refuses: {error}") from error
    except (SettingsError, KeyUnavailable, CellRefused) as error:
        raise click.ClickException(str(error)) from error
    except RetentionError as error:
        raise click.ClickException(type(error).__name__) from error
