"""What every administrator's command needs: the settings, all that keeps jobs, and errors as sentences."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import click

from retention import log
from retention.acting import act_as_operator
from retention.bootstrap import Retention, open_retention
from retention.cell_settings import HOME
from retention.errors import (
    AuditBroken,
    CellRefused,
    KeyDisabled,
    KeyRefused,
    KeyUnavailable,
    NotFound,
    RetentionError,
    SettingsError,
    Superseded,
    Unavailable,
)
from retention.settings import Settings, load

T = TypeVar("T")

one_cell = click.option("--cell", help="The one cell to look at, by its name in the settings. Default: all.")
"""The option of commands that concern all cells, unless one is named."""

at_cell = click.option("--cell", default=HOME, help=f"The cell, by its name in the settings. Default: {HOME}.")
"""The option of commands that concern one cell."""


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
        act_as_operator()
        async with _opened(configured) as retention:
            return await action(retention)

    return asyncio.run(_until_interrupted(run()))


async def _until_interrupted(work: Coroutine[Any, Any, T]) -> T:
    """Do this; Ctrl-C cancels it until it has ended: on Python 3.11 that may get lost where a time limit is awaited."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        if not task.cancelled():
            task.exception()  # asked for, lest asyncio say that nobody did
        raise


def sentence(error: RetentionError) -> str:
    """Return what an operator is told of what went wrong."""
    match error:
        case NotFound():
            return f"there is no {error}"
        case Superseded():
            return f"{error} was changed at the same moment: look at it, and try again"
        case KeyDisabled():
            return f"the key {error} is disabled"
        case Unavailable() | SettingsError() | KeyUnavailable() | KeyRefused() | CellRefused() | AuditBroken():
            return str(error)
        case _:
            return type(error).__name__


@asynccontextmanager
async def _opened(configured: Settings) -> AsyncIterator[Retention]:
    try:
        async with open_retention(configured, role="admin") as retention:
            yield retention
    except RetentionError as error:
        raise click.ClickException(sentence(error)) from error
