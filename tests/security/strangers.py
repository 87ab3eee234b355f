"""Whether an answer tells another tenant's id from one that nobody has: in status, headers, body, or time.

Every route that takes something of a tenant's is asked, by another tenant, for what is there and for what is not, one
after the other in random order over one connection, each always by the same name, since libraries take less time for
what they have seen before; also for what is a tenant's that has moved to another cell, and by that tenant, whose
earlier cell is the others'. Times are compared by Welch's t-test as dudect does it (Reparaz,
Balasch, Verbauwhede 2017, "Dude, is my code constant time?"): of both kinds together the slowest tenth, which is the
machine's noise, is left out; |t| below 4.5 is no evidence of a difference.

`make strangers` compares 20,000 pairs for each; the tests a few, without their times.
"""

import argparse
import asyncio
import base64
import itertools
import random
import secrets
import socket
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from api.identity import GRANT
from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.receivers import Receiver
from tests.recognizers import CALLING, recording
from tests.stack import running_stack, wait_until

BOUND = 4.5
"""The greatest |t| that is no evidence."""

CUSTOMER = "4d1c07ab9e52"

_KEPT = 0.9
_AT_ONCE = 100
_SOURCE_LASTS = 8  # wrong credentials from one address before they are answered differently

_sources = itertools.count()

SAME_FOR_ALL = {
    ("/v1/recognitions", "GET"): "names nothing: the list is the credential's own",
    ("/v1/models", "GET"): "the same for every tenant",
    ("/v1/models/{model}", "GET"): "the same for every tenant",
}
"""Operations that take nothing of a tenant's."""


class Request(Struct, frozen=True):
    """One request, but for the credential."""

    target: str
    headers: dict[str, str] = {}
    body: bytes = b""
    names: str = "-"
    """What it asks for, which an answer may repeat."""


class Question(Struct, frozen=True, kw_only=True):
    """One way to ask for what another tenant has, or for what nobody has."""

    path: str
    method: str
    about: str
    key: str
    """The API key of who asks; "": it is a wrong one that is asked about, and each few come from another address."""
    ask: Callable[[bool], Request]
    """Return the request; True: for what is there."""
    padded: bool = False
    """Whether every answer takes a second, so that many are asked for at a time."""


class Answer(Struct, frozen=True):
    """What a client sees, but for the moment, the request's own id, and what it had asked for."""

    status: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Seen(Struct, kw_only=True):
    """What the answers to one question were, and how long each took, in seconds."""

    there: list[float] = []
    nowhere: list[float] = []
    answers: set[tuple[bool, Answer]] = set()

    def t(self) -> float:
        """Return Welch's t of the two kinds, without the slowest tenth of both together."""
        most = sorted(self.there + self.nowhere)[int(len(self.there + self.nowhere) * _KEPT) - 1]
        a, b = ([each for each in times if each <= most] for times in (self.there, self.nowhere))
        spread = (statistics.variance(a) / len(a) + statistics.variance(b) / len(b)) ** 0.5
        return float((statistics.fmean(a) - statistics.fmean(b)) / spread)


class House(Struct, frozen=True):
    """A tenant, a key of it, and what it has: jobs, each by what it is, and a callback URL."""

    tenant: str
    key: str
    jobs: dict[str, str]
    url: str


class Connection:
    """HTTP over one blocking socket, which costs the least noise."""

    def __init__(self, url: str, source: str = "") -> None:
        address = urlsplit(url)
        self._host = address.netloc
        self._socket = socket.create_connection(
            (address.hostname, address.port), timeout=30, source_address=(source, 0) if source else None
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[Answer, float]:
        """Return the answer, and the seconds until its last byte."""
        lines = [f"{name}: {value}" for name, value in {"Host": self._host, **headers}.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        request = (
            f"{method} {target} HTTP/1.1\r\n{chr(10).join(line + chr(13) for line in lines)}\n\r\n".encode() + body
        )
        began = time.perf_counter()
        self._socket.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, rest = received.partition(b"\r\n\r\n")
        status, *found = head.split(b"\r\n")
        named = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in found)]
        length = int(dict(named).get(b"content-length", b"0"))
        while len(rest) < length:
            rest += self._more()
        took = time.perf_counter() - began
        rest = rest.replace(dict(named)[b"x-global-transaction-id"], b"")
        kept = tuple(sorted(each for each in named if each[0] not in {b"date", b"x-global-transaction-id"}))
        return Answer(status, kept, rest), took

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> bytes:
        if not (piece := self._socket.recv(65536)):
            raise ConnectionError("closed in the middle of an answer")
        return piece


@contextmanager
def houses() -> Iterator[tuple[str, list[Question]]]:
    """Give a service with a tenant that has all there is to have, and one that has moved, and what is to be asked."""
    with running_stack({**CALLING, "challenges_per_hour": "10000000"}, cells=["acme"]) as stack:
        stack.start_worker(cell="acme")
        _, key = stack.new_tenant("stranger")
        movers, owners = stack.new_tenant("moved"), stack.new_tenant("owner")
        moved = House(*movers, *asyncio.run(_move(stack, *movers)))
        owner = House(*owners, *asyncio.run(_furnish(stack, owners[1])))
        yield (
            stack.url,
            [
                *_questions(owner, key),
                *_anonymous_questions(owner, "the id of an API key"),
                *_questions(moved, key, ", of one who has moved"),
                *_anonymous_questions(moved, "the id of a key of one who has moved"),
                *_questions(owner, moved.key, ", by one who has moved"),
            ],
        )


async def _furnish(stack: Stack, key: str) -> tuple[dict[str, str], str]:
    """Give a tenant a job in each state, a customer and a callback URL."""
    async with Client(stack.url, key) as client, Receiver() as receiver:
        assert (await client.register(receiver.url, customer=CUSTOMER))[0] == 201
        jobs = {
            "completed": await client.submit(recording(0), customer=CUSTOMER),
            "failed": await client.submit(b"RIFF\0\0\0\0WAVE" + bytes(200)),
        }
        for job in jobs.values():
            await wait_until(partial(client.ended, job))
        jobs["processing"] = await client.submit(recording(200))
        await wait_until(lambda: _is(client, jobs["processing"], "processing"))
        jobs["waiting"] = await client.submit(recording(0))
        for state, job in jobs.items():
            assert await client.status(job) == state
        return jobs, receiver.url


async def _move(stack: Stack, tenant: str, key: str) -> tuple[dict[str, str], str]:
    """Give a tenant a job, a customer and a callback URL in the one cell, and then a job in another."""
    jobs = {}
    async with Client(stack.url, key) as client, Receiver() as receiver:
        assert (await client.register(receiver.url, customer=CUSTOMER))[0] == 201
        for about in ("in the old cell", "in the new cell"):
            jobs[about] = job = await client.submit(recording(0), customer=CUSTOMER)
            await wait_until(partial(client.ended, job))
            if len(jobs) == 1:
                stack.volant("tenant", "update", tenant, "--cell", "acme", "--plan", "premium")
        return jobs, receiver.url


async def _is(client: Client, job: str, state: str) -> bool:
    return await client.status(job) == state


def _questions(house: House, key: str, who: str = "") -> Iterator[Question]:
    for about, job in house.jobs.items():
        for method in ("GET", "DELETE"):
            yield Question(
                path="/v1/recognitions/{id}",
                method=method,
                about=f"a job, {about}{who}",
                key=key,
                ask=partial(_about_a_job, job, str(uuid.uuid4())),
            )
    instances = (secrets.token_hex(8), uuid.uuid4()), (house.tenant, next(iter(house.jobs.values())))
    yield Question(
        path="/v1/recognitions/{id}",
        method="GET",
        about=f"a job, under its tenant's instance{who}",
        key=key,
        ask=lambda there: Request("/instances/{}/v1/recognitions/{}".format(*instances[there])),
    )
    audio = Request("", {"Content-Type": "audio/wav"}, recording(0))
    for path, body in (
        ("/v1/recognitions", audio),
        ("/v1/register_callback", Request("")),
        ("/v1/unregister_callback", Request("")),
    ):
        yield Question(
            path=path,
            method="POST",
            about=f"a callback URL{who}",
            key=key,
            # As long as what is registered.
            ask=partial(
                _about_a_url, path, body, house.url, f"{house.url.partition('?')[0]}?by={secrets.token_hex(3)}"
            ),
            padded=path == "/v1/register_callback",
        )
    customers = secrets.token_hex(6), CUSTOMER
    yield Question(
        path="/v1/user_data",
        method="DELETE",
        about=f"a customer{who}",
        key=key,
        ask=lambda there: Request(f"/v1/user_data?customer_id={customers[there]}"),
    )


def _anonymous_questions(house: House, about: str) -> Iterator[Question]:
    key_ids = secrets.token_hex(6), house.key.split("_")[1]

    def wrong(*, there: bool) -> str:
        return f"volant_{key_ids[there]}_{secrets.token_urlsafe(32)}"

    for path, method, ask in (
        ("/v1/recognitions", "GET", lambda there: Request("/v1/recognitions", _basic(wrong(there=there)))),
        (
            "/v1/authorize",
            "POST",
            lambda there: Request("/v1/authorize", {}, msgspec.json.encode({"password": wrong(there=there)})),
        ),
        (
            "/identity/token",
            "POST",
            lambda there: Request(
                "/identity/token",
                {"Content-Type": "application/x-www-form-urlencoded"},
                urlencode({"grant_type": GRANT, "apikey": wrong(there=there)}).encode(),
            ),
        ),
    ):
        yield Question(path=path, method=method, about=about, key="", ask=ask)


def _about_a_job(job: str, nobodys: str, there: bool) -> Request:  # noqa: FBT001 - a question's own argument
    return Request(f"/v1/recognitions/{job if there else nobodys}")


def _about_a_url(path: str, body: Request, url: str, nobodys: str, there: bool) -> Request:  # noqa: FBT001 - the same
    asked = url if there else nobodys
    return replace(body, target=f"{path}?callback_url={quote(asked)}", names=asked)


def _basic(key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'apikey:{key}'.encode()).decode()}"}


def compare(url: str, question: Question, *, pairs: int) -> Seen:
    """Ask so many times for each kind, in random order."""
    if not question.padded:
        return _compare(url, question, pairs)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        share = -(-pairs // _AT_ONCE)
        parts = list(threads.map(lambda _: _compare(url, question, share), range(min(pairs, _AT_ONCE))))
    return Seen(
        there=[took for part in parts for took in part.there],
        nowhere=[took for part in parts for took in part.nowhere],
        answers=set().union(*(part.answers for part in parts)),
    )


def _new_source() -> str:
    """Return an address that no other question comes from: too many wrong credentials of two would be another's."""
    number = next(_sources)
    return f"127.2.{number // 250 % 250}.{number % 250 + 1}"


def _compare(url: str, question: Question, pairs: int) -> Seen:
    seen = Seen()
    connection = Connection(url, _new_source())
    for number in range(pairs):
        if not question.key and number % (_SOURCE_LASTS // 2) == 0:
            connection.close()
            connection = Connection(url, _new_source())
            connection.ask("GET", "/health/live", {}, b"")  # the first request of a connection takes longer
        for there in random.sample((True, False), 2):
            request = question.ask(there)
            headers = {**_basic(question.key), **request.headers} if question.key else request.headers
            answer, took = connection.ask(question.method, request.target, headers, request.body)
            (seen.there if there else seen.nowhere).append(took)
            seen.answers.add((there, replace(answer, body=answer.body.replace(request.names.encode(), b"-"))))
    connection.close()
    return seen


def main() -> int:
    """Compare so many pairs for every question; print what was seen. Returns 1 when something was to be told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--only", default="", help="words in what is asked about")
    asked = parser.parse_args()
    pairs = asked.pairs
    told = 0
    with houses() as (url, questions):
        for question in questions:
            if asked.only not in question.about:
                continue
            seen = compare(url, question, pairs=pairs)
            different = {answer for there, answer in seen.answers if there} ^ {
                answer for there, answer in seen.answers if not there
            }
            t = seen.t()
            told += bool(different) or abs(t) >= BOUND
            microseconds = statistics.median(seen.there) * 1e6
            line = f"{question.method:<6} {question.path:<26} {question.about:<58} {pairs} pairs"
            sys.stdout.write(f"{line}  {microseconds:7.0f} us  t {t:6.2f}  {'DIFFERENT' if different else 'equal'}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{'told apart' if told else 'nothing can be told'}; |t| below {BOUND} is no evidence\n")
    return int(told > 0)


if __name__ == "__main__":
    sys.exit(main())
