"""`make demo`: one recording, from its submission until nothing of it is left, with a look at what is stored.

Everything runs in a temporary directory, on a free port, with a Redis of its own, and is checked on the way: exit
status 1 and a sentence when something is not as promised.
"""

import signal
import sys
import time
import wave
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from api.client import Client, JobGone, ServiceError
from deploy.processes import ROOT, StackError, interrupt_on_signals, run_interruptibly, temporary_directory
from deploy.stack import Stack
from deploy.storage import Stored, everything_stored, files_holding

RECORDING = ROOT / "tests/audio/librivox_0870.wav"
_MINUTES = 5
_SHOWN = 12
"""Bytes of stored data that are shown."""


class BrokenPromiseError(Exception):
    """Something is not as promised; the text says what."""


def main() -> int:
    """Run the demonstration. Returns 0 when all was as promised."""
    interrupt_on_signals()
    try:
        with temporary_directory() as directory:
            _title("Volant: a recording, its words, and nothing left of either")
            _say("Starting a Redis, the API and a worker, which is then halted: the job waits.")
            with Stack(directory, notifiers=0) as stack:
                stack.workers[0].send_signal(signal.SIGSTOP)
                run_interruptibly(_demonstrate(stack))
    except (BrokenPromiseError, StackError, ServiceError) as error:
        click.secho(f"\nNot as promised: {error}", fg="red", err=True)
        return 1
    except KeyboardInterrupt:
        click.echo("\nStopped.", err=True)
        return 130
    return 0


async def _demonstrate(stack: Stack) -> None:
    async with Client(stack.url, stack.apikey) as client:
        id_ = await _submit(client)
        await _look_at_rest(stack, id_, audio=True)
        _search(stack)
        transcript = await _recognize(stack, client, id_)
        await _look_at_rest(stack, id_, audio=False)
        _search(stack, transcript)
        await _delete(stack, client, id_)
    _say("All as promised.")


async def _submit(client: Client) -> str:
    with wave.open(str(RECORDING)) as recording:
        seconds = recording.getnframes() / recording.getframerate()
    size = RECORDING.stat().st_size
    _title(f"1. Submit {RECORDING.relative_to(ROOT)}: {seconds:.1f} s of speech, {size:,} bytes")
    with RECORDING.open("rb") as audio, click.progressbar(length=size, label="   uploading") as bar:
        job = await client.submit(
            audio, parameters={"results_ttl": str(_MINUTES), "timestamps": "true"}, sent=bar.update
        )
    _say(f"201: job {job['id']} is {job['status']}.", f"Its result is to be kept for {_MINUTES} minutes.")
    return str(job["id"])


async def _look_at_rest(stack: Stack, id_: str, *, audio: bool) -> None:
    _title(f"{2 if audio else 4}. What is stored, {'while it waits' if audio else 'now that it is completed'}")
    stored = everything_stored(stack, id_)
    for item in stored:
        _show(item)
    _promise(any(item.place.startswith("Redis hash") for item in stored), "the job is not in Redis")
    if audio:
        _promise(any(item.place.startswith("file") for item in stored), "the audio is in no file")
        return
    _promise(not any(item.place.startswith("file") for item in stored), "the audio outlived its recognition")
    for item in stored:
        if item.place.startswith("Redis hash"):
            _promise(item.expires_in is not None, "the result has no expiry")
            _promise(
                (item.expires_in or timedelta()) <= timedelta(minutes=_MINUTES), "the result is kept longer than asked"
            )


async def _recognize(stack: Stack, client: Client, id_: str) -> str:
    _title("3. Let the worker go on, and watch the job")
    steps = ["waiting", "processing", "completed"]
    began = time.monotonic()
    seen: list[tuple[str, float]] = []
    job: dict[str, Any] = {}
    with click.progressbar(steps, label="   recognising", item_show_func=lambda status: status, show_eta=False) as bar:
        async for job in client.follow(id_):
            if not seen or seen[-1][0] != job["status"]:
                seen.append((job["status"], time.monotonic() - began))
                bar.update(1, job["status"])
            stack.workers[0].send_signal(signal.SIGCONT)
            _promise(stack.workers[0].poll() is None, "the worker has ended")
    _say(", ".join(f"{status} at {after:.1f} s" for status, after in seen))
    _promise(job["status"] == "completed", f"the job {job['status']}: {job.get('results')}")
    words = [word for utterance in job["results"][0]["results"] for word in utterance["alternatives"][0]["timestamps"]]
    transcript = " ".join(str(word) for word, _, _ in words)
    _promise("leisure to consider" in transcript, f"the words are not those of the recording: {transcript}")
    click.echo()
    click.echo(click.wrap_text(f"“{transcript}”", 78, "   ", "    "))
    click.echo()
    for row in range(0, len(words), 4):
        click.echo("   " + "".join(f"{begin:5.2f} {word:<13}" for word, begin, _ in words[row : row + 4]))
    left = datetime.fromisoformat(job["updated"]) + timedelta(minutes=_MINUTES) - datetime.now(UTC)
    _say("", f"It expires in {left.total_seconds():.1f} s, unless it is deleted before.")
    _promise(timedelta(0) < left <= timedelta(minutes=_MINUTES), "the expiry is not what was asked for")
    return transcript


def _search(stack: Stack, transcript: str = "") -> None:
    sound = RECORDING.read_bytes()
    samples = {"sound": sound[len(sound) // 2 :], "transcript": transcript.encode()}
    for what, sample in samples.items():
        found = files_holding(stack.data, sample[:24]) if sample else []
        _promise(not found, f"the {what} is in clear in {found}")
    count = sum(1 for path in stack.data.rglob("*") if path.is_file())
    absent = " and no ".join(what for what, sample in samples.items() if sample)
    _say("", f"Searched all {count} files: no {absent} in clear in any of them.")


async def _delete(stack: Stack, client: Client, id_: str) -> None:
    _title("5. Delete it")
    await client.delete(id_)
    _say("204: deleted.")
    try:
        await client.job(id_)
    except JobGone as error:
        _say(f"404: {error}")
    else:
        raise BrokenPromiseError("the job can be read after its deletion")
    left = everything_stored(stack, id_)
    _promise(not left, f"this is left: {[item.place for item in left]}")
    _say(
        "No key, no list entry and no file of the job is left. Sealed bytes stay in",
        "Redis's log until it is rewritten.",
    )


def _show(item: Stored) -> None:
    click.echo(f"   {item.place}{_expiry(item.expires_in)}")
    for name, value in item.values.items():
        text = value[: _SHOWN * 3]
        clear = text.isascii() and text.decode().isprintable()
        start, shown = (text, text.decode()) if clear else (value[:_SHOWN], value[:_SHOWN].hex(" "))
        click.echo(f"     {name:<12}{len(value):>9,} bytes  {shown}{' …' if start != value else ''}")


def _expiry(left: timedelta | None) -> str:
    if left is None:
        return ""
    days = round(left / timedelta(days=1))
    return f", expires in {days} days" if days else f", expires in {left.seconds} s"


def _title(text: str) -> None:
    click.secho(f"\n{text}\n", bold=True)


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(f"   {line}" if line else "")


def _promise(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise BrokenPromiseError(otherwise)


if __name__ == "__main__":
    sys.exit(main())
