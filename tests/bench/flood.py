"""What a flood from one tenant, which stays at its limits, does to the submissions and polls of another.

The flood is ill-behaved: connections that ask again as soon as they are refused, whatever `Retry-After` says, some of
them each time anew. Its process takes only what processor time the service leaves it, as if it were on machines of
its own. Phases with and without it take turns, and what is compared are the medians of their 99th
percentiles, since the machine has moods. All of a request counts, from the moment at which it was to be sent.
Run it with `make bench-flood`; exits 1 when a ratio is above two.
"""

import asyncio
import base64
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
from argparse import ArgumentParser
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from deploy.processes import temporary_directory
from tests.stack import StackUnderTest, offer_without_a_worker

AUDIO = (Path(__file__).parent.parent / "audio/cards_001.wav").read_bytes()
A_MINUTE = AUDIO[:44] + AUDIO[44:] * (60 * 32000 // len(AUDIO))
"""Its header says less, which nobody looks at here."""

SUBMIT_EVERY, POLL_EVERY = 0.1, 0.02
"""Seconds between the requests of the tenant that is measured."""

AT_MOST = 2.0
"""How many times as long its slowest hundredth may take."""

UNKNOWN = "00000000-0000-4000-8000-000000000000"
"""A job that there is not."""

PHASES = ("alone", "flood")

Latencies = dict[str, list[float]]


@dataclass
class Client:
    """One connection that speaks just enough HTTP, and is opened when it is needed."""

    host: str
    port: int
    key: str
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = field(default=None)

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = "audio/wav") -> tuple[int, bytes]:
        """Return status and body."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        credentials = base64.b64encode(f"apikey:{self.key}".encode()).decode()
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {credentials}\r\n"
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(answer.split(" ", 2)[1])
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        content = await self.reader.readexactly(length)
        if "connection: close" in answer:
            self.close()
        return status, content

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def steadily(ask: Callable[[], Awaitable[None]], every: float, during: float) -> list[float]:
    """Ask at a steady pace; return how long each took from the moment at which it was to be asked."""
    clock = asyncio.get_running_loop().time
    took = []
    start = clock()
    for number in range(round(during / every)):
        due = start + number * every
        await asyncio.sleep(max(0.0, due - clock()))
        await ask()
        took.append(clock() - due)
    return took


class Neighbour:
    """The tenant that is measured: it submits over one connection, and polls over another."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._submitting, self._polling = Client(host, port, key), Client(host, port, key)
        self._job = ""

    async def submit(self) -> None:
        status, content = await self._submitting.ask("POST", "/v1/recognitions", AUDIO)
        assert status == 201, content
        self._job = json.loads(content)["id"]

    async def poll(self) -> None:
        status, content = await self._polling.ask("GET", f"/v1/recognitions/{self._job}")
        assert status == 200, content

    async def measure(self, during: float) -> Latencies:
        submits, polls = await asyncio.gather(
            steadily(self.submit, SUBMIT_EVERY, during), steadily(self.poll, POLL_EVERY, during)
        )
        return {"submit": submits, "poll": polls}


class Flood:
    """Connections of another tenant that never pause."""

    def __init__(self, host: str, port: int, key: str, connections: int) -> None:
        self.answers: Counter[str] = Counter()
        self.going = asyncio.Event()
        self._address = (host, port, key)
        self._jobs: deque[str] = deque(maxlen=1000)
        form = f"grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey={key}".encode()
        self._kinds = {
            "list": ("GET", "/v1/recognitions", b"", ""),
            "submit": ("POST", "/v1/recognitions", AUDIO, "audio/wav"),
            "poll": ("GET", "/v1/recognitions/{job}", b"", ""),
            "poll anew": ("GET", "/v1/models", b"", ""),
            "token": ("POST", "/identity/token", form, "application/x-www-form-urlencoded"),
            "delete": ("DELETE", "/v1/recognitions/{job}", b"", ""),
            "erase": ("DELETE", "/v1/user_data?customer_id=nobody", b"", ""),
            "submit a minute": ("POST", "/v1/recognitions", A_MINUTE, "audio/wav"),
        }
        names = [*self._kinds]
        self._tasks = [asyncio.create_task(self._flood(names[number % len(names)])) for number in range(connections)]

    async def _flood(self, name: str) -> None:
        client = Client(*self._address)
        method, path, body, kind = self._kinds[name]
        while await self.going.wait():
            try:
                status, content = await client.ask(
                    method, path.format(job=self._jobs[0] if self._jobs else UNKNOWN), body, kind
                )
                self.answers[f"{name} {status}"] += 1
                if status == 201:
                    self._jobs.append(json.loads(content)["id"])
                elif name == "delete" and self._jobs:
                    self._jobs.popleft()
                elif "anew" in name:
                    client.close()
            except (OSError, asyncio.IncompleteReadError):
                self.answers[f"{name} closed"] += 1
                client.close()


def flood(host: str, port: int, key: str, connections: int, parent: Connection) -> None:
    """Flood from a process of its own, while told to; tell at the end what was answered."""

    async def main() -> None:
        flooding = Flood(host, port, key, connections)
        while (told := await asyncio.to_thread(parent.recv)) != "end":
            (flooding.going.set if told == "go" else flooding.going.clear)()
        parent.send(dict(flooding.answers))
        for task in flooding._tasks:
            task.cancel()

    _step_back()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())


def _step_back() -> None:
    """Take only what processor time the others leave: a flood comes from machines that are not the service's.

    Where the kernel shares time among sessions first (autogroups, sched(7)), it is the session that has to be nice.
    """
    os.setsid()
    os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


async def compare(url: str, keys: tuple[str, str], *, connections: int, rounds: int, seconds: float) -> bool:
    """Print both tenants' figures; return whether the flood was felt too much."""
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 0
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    flooder = multiprocessing.get_context("spawn").Process(
        target=flood, args=(host, port, keys[0], connections, theirs), daemon=True
    )
    flooder.start()
    neighbour = Neighbour(host, port, keys[1])
    found: dict[tuple[str, str], list[float]] = {(phase, kind): [] for phase in PHASES for kind in ("submit", "poll")}
    try:
        await neighbour.submit()
        await neighbour.measure(2)
        for _ in range(rounds):
            for phase in PHASES:
                ours.send("go" if phase == "flood" else "rest")
                await asyncio.sleep(1)  # until the flood has risen, or run dry
                for kind, took in (await neighbour.measure(seconds)).items():
                    found[phase, kind].append(statistics.quantiles(took, n=100)[98] * 1000)
        ours.send("end")
        answers: dict[str, int] = await asyncio.to_thread(ours.recv)
    finally:
        flooder.kill()
        flooder.join()
    print(f"flood of {connections} connections for {rounds * (seconds + 1):g} s: {dict(sorted(answers.items()))}")
    failed = not any(name.endswith("429") for name in answers)
    for kind in ("submit", "poll"):
        alone, flooded = (statistics.median(found[phase, kind]) for phase in PHASES)
        pairs = zip(found["alone", kind], found["flood", kind], strict=True)
        shown = " ".join(f"{one:.1f}/{other:.1f}" for one, other in pairs)
        print(f"{kind:<7} p99 alone {alone:.1f} ms, in the flood {flooded:.1f} ms: x {flooded / alone:.2f} ({shown})")
        failed |= flooded > AT_MOST * alone
    return failed


def main() -> bool:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--unlimited", action="store_true", help="let the flood have no limits, to see what they do")
    asked = parser.parse_args()
    settings = {"limit_submits": "0", "limit_polls": "0", "limit_tokens": "0"} if asked.unlimited else {}
    with temporary_directory() as directory, StackUnderTest(directory, settings=settings, workers=0) as stack:
        offer_without_a_worker(stack.redis_url)
        keys = (stack.new_tenant("flood")[1], stack.new_tenant("neighbour")[1])
        return asyncio.run(
            compare(stack.url, keys, connections=asked.connections, rounds=asked.rounds, seconds=asked.seconds)
        )


if __name__ == "__main__":
    sys.exit(main())
