"""`make load`: users of several tenants against VOLANT_URL with VOLANT_APIKEYS, or else against a stack of its own.

The keys are separated by commas; what `make run` writes to `var/run.env` will do, too.
The report is `var/load.html`. Exits 1 when a bound is broken.
"""

import os
import subprocess
import sys

import click

from deploy.processes import ROOT, StackError, interrupt_on_signals, temporary_directory
from deploy.stack import Stack
from tests.load import target

_UNLIMITED = {"limit_submits": "0", "limit_polls": "0"}
"""Users are in a hurry, and many of them share a tenant."""

_TENANTS = 3


@click.command()
@click.option("--users", type=click.IntRange(min=1), required=True, help="Users at the same time.")
@click.option("--seconds", type=click.IntRange(min=5), required=True, help="For how long.")
@click.option("--max-errors", type=click.FloatRange(0, 1), required=True, help="The share of requests that may fail.")
@click.option("--max-p95", type=float, required=True, help="What 95 of 100 requests must stay below, in ms.")
def load(users: int, seconds: int, max_errors: float, max_p95: float) -> None:
    """Submit, poll, read and delete."""
    try:
        url, keys = target(os.environ)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    interrupt_on_signals()
    bounds = ["--max-errors", str(max_errors), "--max-p95", str(max_p95)]
    size = ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"]
    if url:
        sys.exit(_locust(url, keys, size + bounds))
    try:
        with temporary_directory() as directory, Stack(directory, settings=_UNLIMITED) as stack:
            keys = ",".join(stack.new_tenant(f"load {n}")[1] for n in range(_TENANTS))
            sys.exit(_locust(stack.url, keys, size + bounds))
    except StackError as error:
        raise click.ClickException(str(error)) from error


def _locust(url: str, keys: str, options: list[str]) -> int:
    """Run locust in a process of its own, since it replaces the standard library's sockets."""
    report = ROOT / "var/load.html"
    report.parent.mkdir(mode=0o700, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(ROOT / "tests/load/locustfile.py"), "--headless", "--only-summary",
         "--host", url, "--html", str(report), "--stop-timeout", "30", *options],
        env={**os.environ, "VOLANT_APIKEYS": keys},
        check=False,
    )  # fmt: skip
    click.echo(f"report: {report}")
    return done.returncode


load()
