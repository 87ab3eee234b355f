"""No answer tells another tenant's id from one that nobody has."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from api.routes import SERVICE
from retention.errors import NotFound, NotRegistered
from retention.job import JobId, TenantId, new_job_id
from tests.integration.installation import URL, Installation, finish, installed
from tests.security.strangers import SAME_FOR_ALL, Question, compare, houses

PAIRS = 20


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[str, list[Question]]]:
    """Give what is asked, by whom, of which service."""
    with houses() as found:
        yield found


def test_every_answer_is_the_same(asked: tuple[str, list[Question]]) -> None:
    """Status, headers and body; for every route that takes something of a tenant's, moved to another cell or not."""
    url, questions = asked
    for question in questions:
        seen = compare(url, question, pairs=PAIRS)
        there, nowhere = ({answer for is_there, answer in seen.answers if is_there is kind} for kind in (True, False))
        assert there == nowhere, f"{question.method} {question.path}, {question.about}"
        assert len(there) == 1, f"{question.method} {question.path}, {question.about}"


def test_no_route_is_left_out(asked: tuple[str, list[Question]]) -> None:
    """A new one has to be asked about, or has to say why not."""
    _, questions = asked
    served = {(path, method) for path, operations in SERVICE.items() for method in operations}
    named = {(question.path, question.method) for question in questions}
    assert served == named | SAME_FOR_ALL.keys()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Give how many messages were sent to each Redis."""
    counted: Counter[str] = Counter()
    send = AbstractConnection.send_packed_command

    async def count(connection: Any, *arguments: Any, **options: Any) -> Any:
        counted[connection.path] += 1
        return await send(connection, *arguments, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", count)
    return counted


async def test_no_question_takes_more_messages_to_redis(
    redis: Redis, other_redis: Redis, tmp_path: Path, sent: Counter[str]
) -> None:
    """For what is another's, in either cell, than for what is nowhere: by one at home, and by one who has left it."""
    async with installed(redis, other_redis, tmp_path) as installation:
        moved, tenancy = installation.tenant, installation.retention.tenancy
        stranger, owner = [(await tenancy.create(name)).id for name in ("stranger", "owner")]
        began = await installation.home.jobs.now()
        for tenant in (owner, moved):
            await installation.home.registrations.keep(tenant, URL + tenant, None, customer=tenant, began=began)
        theirs = [await installation.submit(tenant, customer=tenant) for tenant in (owner, moved)]
        await finish(installation.home, theirs[0])
        await installation.move("acme")
        theirs.append(await installation.submit(moved, customer=moved))
        for who, others in ((stranger, theirs), (moved, theirs[:1])):
            nowhere = new_job_id(), f"{URL}{stranger}", stranger
            for there in ((job.id, URL + job.tenant, job.tenant) for job in others):
                asked = [await questions(installation, who, *what) for what in (nowhere, there, nowhere)]
                for alike in zip(*asked, strict=True):
                    _, *counted = [await counts(sent, ask) for ask in alike]  # the first time a script is unknown yet
                    assert counted[0] == counted[1]
                    assert len(counted[0]) == (1 if who == stranger else 2)


async def questions(
    installation: Installation, who: TenantId, job: JobId, url: str, customer: str
) -> list[Callable[[], Awaitable[object]]]:
    """Return all that a tenant can do with these."""
    jobs, callbacks = installation.retention.jobs, installation.retention.callbacks
    at = await installation.retention.of(who)
    return [
        partial(jobs.look_up, who, job),
        partial(jobs.delete, who, job),
        partial(jobs.erase_customer, who, customer),
        partial(callbacks.subscribe, who, url, ("recognitions.started",), at=at),
        partial(callbacks.unregister, who, url),
    ]


async def counts(sent: Counter[str], ask: Callable[[], Awaitable[object]]) -> Counter[str]:
    """Return how many messages it takes."""
    sent.clear()
    with suppress(NotFound, NotRegistered):
        await ask()
    return Counter(sent)
