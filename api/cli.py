"""`volant transcribe`: from a recording to its words on the screen, with any server that keeps the contract."""

import asyncio
import os
import stat
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from api.client import SNIFF, Client, ServiceError


@click.command()
@click.argument("recording", metavar="FILE", type=click.File("rb"))
@click.option("--url", envvar="VOLANT_URL", required=True, show_envvar=True, help="Base URL of the service.")
@click.option(
    "--apikey-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file that holds the API key; else it is taken from the environment, VOLANT_APIKEY.",
)
@click.option("--results-ttl", type=click.IntRange(min=1), metavar="MIN", help="Minutes to keep the result.")
@click.option("--model", help="The model to recognise with.")
@click.option("--content-type", default=SNIFF, help='What the recording is, for raw audio: "audio/l16;rate=16000".')
@click.option("--timestamps", is_flag=True, help="Print each word with its begin and end in seconds.")
@click.option("--keep", is_flag=True, help="Leave the job on the server until it expires, and print its id.")
def transcribe(
    *,
    recording: BinaryIO,
    url: str,
    apikey_file: Path | None,
    results_ttl: int | None,
    model: str | None,
    content_type: str,
    timestamps: bool,
    keep: bool,
) -> None:
    """Print what is said in FILE.

    The transcript goes to standard output, everything else to standard error. The job is deleted afterwards, unless
    --keep is given. Exits 1 when the service refuses, cannot be reached, or the recording cannot be recognised.
    """
    apikey = apikey_file.read_text().strip() if apikey_file else os.environ.get("VOLANT_APIKEY", "")
    if not apikey:
        raise click.UsageError("Give an API key: --apikey-file FILE, or VOLANT_APIKEY in the environment.")
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("The base URL must begin with http:// or https://.")
    if not stat.S_ISREG(os.fstat(recording.fileno()).st_mode):
        raise click.UsageError("FILE must be a regular file, not a pipe: its size is told first.")
    asked = {"results_ttl": results_ttl, "model": model, "timestamps": "true" if timestamps else None}
    parameters = {name: str(value) for name, value in asked.items() if value is not None}

    async def work() -> dict[str, Any]:
        async with Client(url, apikey) as client:
            return await _transcribe(client, recording, parameters, content_type, keep=keep)

    try:
        result = asyncio.run(work())
    except ServiceError as error:
        raise click.ClickException(str(error)) from error
    if "error" in result:
        raise click.ClickException(f"the recording could not be recognised: {result['error']}")
    for line in _lines(result, timestamps=timestamps):
        click.echo(line)


commands: list[click.Command] = [transcribe]
"""What this package adds to the command line."""


async def _transcribe(
    client: Client, recording: BinaryIO, parameters: dict[str, str], content_type: str, *, keep: bool
) -> dict[str, Any]:
    size = os.fstat(recording.fileno()).st_size
    with click.progressbar(length=size, label="uploading", file=sys.stderr) as bar:
        created = await client.submit(recording, parameters=parameters, content_type=content_type, sent=bar.update)
    for warning in created.get("warnings", []):
        click.echo(f"warning: {warning}", err=True)
    finished: dict[str, Any] = {}
    try:
        async for job in client.follow(created["id"]):
            if job["status"] != finished.get("status"):
                click.echo(job["status"], err=True)
            finished = job
    except BaseException:
        click.echo(f"job {created['id']} is left on the server", err=True)
        raise
    if keep:
        click.echo(f"job {created['id']} is kept", err=True)
    else:
        await client.delete(created["id"])
    result: dict[str, Any] = finished["results"][0]
    return result


def _lines(result: dict[str, Any], *, timestamps: bool) -> list[str]:
    best = [utterance["alternatives"][0] for utterance in result["results"]]
    if not timestamps:
        return [alternative["transcript"].strip() for alternative in best]
    return [
        f"{begin:9.2f} {end:9.2f}  {word}"
        for alternative in best
        for word, begin, end in alternative.get("timestamps", [])
    ]
