"""`make run`: the whole of Volant in the foreground, with a tenant to try it with.

Its data stays in `var/`. The development tenant is made once and remembered in `var/tenant`, so its jobs are there
again at the next start; its API key is new at every start, since none is kept, and is revoked at the stop.
"""

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from deploy import certificates
from deploy.processes import ROOT, StackError, interrupt_on_signals
from deploy.stack import Stack
from retention.settings import Settings

_SAMPLE = "tests/audio/goforward.wav"


def main(data: Path = ROOT / "var") -> int:
    """Run until a signal. Returns 0 after a stop in good order, 1 when something could not be started or ended."""
    interrupt_on_signals()
    try:
        _run(os.environ, data)
    except KeyboardInterrupt:
        click.echo("Stopped. What is stored stays in var/ for the next start.")
    except StackError as error:
        click.echo(str(error), err=True)
        return 1
    return 0


def _run(environ: Mapping[str, str], data: Path) -> None:
    port = _number(environ, "PORT", 8080, 65535)
    workers = _number(environ, "WORKERS", 1, 64)
    _check_that_free(port)
    settings = {
        "callback_loopback": "true",
        "children": str(max(1, len(os.sched_getaffinity(0)) // workers)),
        "cors_origins": "*",  # a page that is being written may be anywhere, and needs a key all the same
        **_inherited(environ),
        "port": str(port),
    }
    ca = _tls(data / "tls", settings) if environ.get("TLS") else None
    click.echo("Starting Redis, the API and the worker …")
    with Stack(data, settings=settings, redis_url=environ.get("REDIS_URL", ""), workers=workers, ca=ca) as stack:
        apikey = _development_key(stack)
        try:
            with _run_env(data / "run.env", stack, apikey, ca):
                click.echo(_welcome(stack.url, apikey, ca))
                _watch(stack)
        except KeyboardInterrupt:
            click.echo("Stopping … Jobs under way have some seconds to end; the others go on at the next start.")
            raise
        finally:
            with suppress(StackError):  # Redis may be what has ended
                stack.volant("apikey", "revoke", apikey.split("_")[1])


def _tls(directory: Path, settings: dict[str, str]) -> Path:
    """Have the API use certificates of an authority for development; return the authority's own."""
    certificates.make(directory)
    settings["certificate"], settings["certificate_key"] = str(directory / "server.pem"), str(directory / "server.key")
    return directory / "ca.pem"


def _number(environ: Mapping[str, str], name: str, default: int, largest: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= largest:
        raise StackError(f"{name}={text} will not do: give a whole number from 1 to {largest}")
    return int(text)


def _check_that_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(f"port {port} cannot be had ({error.strerror}): choose another, make run PORT=…") from None


def _inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the caller's own VOLANT_* variables give."""
    names = ["config", *Settings.__struct_fields__]
    return {name: environ[f"VOLANT_{name.upper()}"] for name in names if f"VOLANT_{name.upper()}" in environ}


def _development_key(stack: Stack) -> str:
    remembered = stack.data / "tenant"
    if remembered.exists():
        try:
            return stack.volant("apikey", "create", remembered.read_text())
        except StackError:
            click.echo("The development tenant is not in this Redis; making a new one.")
    tenant, apikey = stack.new_tenant()
    remembered.write_text(tenant)
    return apikey


@contextmanager
def _run_env(path: Path, stack: Stack, apikey: str, ca: Path | None) -> Iterator[None]:
    """Keep in a file of our own, as long as it holds, what clients and the `volant` command must be told."""
    path.unlink(missing_ok=True)
    variables = {
        "VOLANT_URL": stack.url,
        "VOLANT_APIKEY": apikey,
        **({"SSL_CERT_FILE": str(ca)} if ca else {}),
        **{f"VOLANT_{name.upper()}": value for name, value in stack.places.items()},
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _watch(stack: Stack) -> None:
    """Return never; raise StackError when a process has ended by itself."""
    processes = stack.processes()
    while True:
        time.sleep(0.5)
        for process in processes:
            if process.poll() is not None:
                raise StackError(f"{process.name} ended with {process.returncode}; its last words are in {process.log}")


def _welcome(url: str, apikey: str, ca: Path | None) -> str:
    trust = f" --cacert {ca.relative_to(ROOT) if ca.is_relative_to(ROOT) else ca}" if ca else ""
    return f"""
Volant is running.

  base URL   {url}
  API key    {apikey}
  read on    {url}/docs

Submit a recording, look at the job, delete it (ID is the "id" of the first reply):

  curl{trust} -u apikey:{apikey} --data-binary @{_SAMPLE} \\
    -H 'Content-Type: audio/wav' '{url}/v1/recognitions?timestamps=true'
  curl{trust} -u apikey:{apikey} {url}/v1/recognitions/ID
  curl{trust} -u apikey:{apikey} -X DELETE {url}/v1/recognitions/ID

This is in var/run.env for scripts, and so is where the `volant` command finds all: `set -a; . var/run.env` in another
shell, and there .venv/bin/volant tenant list. Logs and data are in var/. Ctrl-C stops it.
"""


if __name__ == "__main__":
    sys.exit(main())
