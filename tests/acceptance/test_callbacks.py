"""What clients are told of their jobs, by real processes and to real receivers (spec 1.1, 1.2 and 3)."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.receivers import SECRET, Receiver, Told, answers, fails_at_first, reply, well
from tests.acceptance.remains import left_over, traces
from tests.recognizers import recording
from tests.stack import wait_until

STARTED, COMPLETED, WITH_RESULTS, FAILED = (
    f"recognitions.{event}" for event in ("started", "completed", "completed_with_results", "failed")
)
BROKEN = b"RIFF\x00\x10\x00\x00WAVE\x00" + os.urandom(50_000)


@pytest.fixture
async def client(calling: Stack) -> AsyncIterator[Client]:
    """Give a client of a new tenant: only so many registrations an hour are allowed to one."""
    async with Client(calling.url, calling.new_tenant("callbacks")[1]) as client:
        yield client


@pytest.fixture
async def receiver(client: Client) -> AsyncIterator[Receiver]:
    """Give a receiver that the tenant has registered."""
    async with Receiver() as receiver:
        assert await client.register(receiver.url, SECRET) == (201, {"status": "created", "url": receiver.url})
        yield receiver


async def tells(receiver: Receiver, job: str, *events: str) -> list[Told]:
    """Wait until the receiver was told the last of these events; return all that it was told of the job."""

    async def told() -> bool:
        return events[-1] in receiver.events(job)

    await wait_until(told)
    assert receiver.in_full(job) == list(events)
    return [each for each in receiver.told if each.id == job]


async def nothing_left_of(stack: Stack, *jobs: str) -> None:
    """Wait until no queue names the jobs: those of other tests, whose receivers are gone, may wait for an hour."""

    async def nothing() -> bool:
        return not any(job in line for job in jobs for line in left_over(stack))

    await wait_until(nothing, within=70)


async def test_a_job_tells_that_it_started_and_that_it_completed(client: Client, receiver: Receiver) -> None:
    """Once each, in this order, at the URL as it was registered, with an empty token when there is none."""
    job = await client.submit(recording(0), callback_url=receiver.url)
    with_token = await client.submit(recording(0), callback_url=receiver.url, user_token='Nr. 25 "Grüße"')
    for id_, token in ((job, ""), (with_token, 'Nr. 25 \\"Grüße\\"')):
        told = await tells(receiver, id_, STARTED, COMPLETED)
        assert [each.body.decode() for each in told] == [
            f'{{"id":"{id_}","event":"{event}","user_token":"{token}"}}' for event in (STARTED, COMPLETED)
        ]
        assert all(each.is_signed() and each.target == "/told?by=volant" for each in told)
        assert all(each.headers["content-type"] == "application/json" for each in told)
        assert len({each.headers["webhook-id"] for each in told}) == 2
    assert receiver.others == []


async def test_results_are_told_as_they_are_read(client: Client, receiver: Receiver) -> None:
    """The same array as GET gives, with whole numbers as integers."""
    asked = {"callback_url": receiver.url, "events": WITH_RESULTS, "timestamps": "true"}
    job = await client.submit(recording(0), **asked)
    [told] = await tells(receiver, job, WITH_RESULTS)
    _, read = await client.look_up(job)
    assert json.loads(told.body)["results"] == read["results"]
    assert b"1.0" not in told.body


async def test_who_asked_for_some_events_is_told_no_others(client: Client, receiver: Receiver) -> None:
    """A failure is not told to who asked for completions, nor a beginning to who asked for failures."""
    silent = await client.submit(BROKEN, callback_url=receiver.url, events=COMPLETED)
    failed = await client.submit(BROKEN, callback_url=receiver.url)
    only_failed = await client.submit(BROKEN, callback_url=receiver.url, events=FAILED)
    last = await client.submit(recording(0), callback_url=receiver.url, events=f"{FAILED},{WITH_RESULTS}")
    await tells(receiver, failed, STARTED, FAILED)
    await tells(receiver, only_failed, FAILED)
    await tells(receiver, last, WITH_RESULTS)
    assert receiver.in_full(silent) == []
    assert await client.status(silent) == "failed"


async def test_the_state_can_be_read_before_it_is_told(client: Client, receiver: Receiver) -> None:
    """A receiver that looks the job up while it is being told finds at least what it is told (spec 3.2)."""
    seen: list[tuple[str, str | None]] = []

    async def look_up(told: Told, writer: asyncio.StreamWriter) -> None:
        seen.append((told.event, await client.status(told.id)))
        await reply(writer, 200)

    receiver.behaviour = look_up
    jobs = [await client.submit(recording(0), callback_url=receiver.url) for _ in range(10)]
    for job in jobs:
        await tells(receiver, job, STARTED, COMPLETED)
    assert {status for event, status in seen if event == STARTED} <= {"processing", "completed"}
    assert {status for event, status in seen if event == COMPLETED} == {"completed"}


async def test_a_refused_notification_comes_again_as_it_was(calling: Stack, client: Client, receiver: Receiver) -> None:
    """The same bytes under the same id, signed as of then; what comes after it waits; and nothing is left over."""
    receiver.behaviour = fails_at_first(2)
    job = await client.submit(recording(0), callback_url=receiver.url, events=f"{STARTED},{WITH_RESULTS}")

    async def told() -> bool:
        return len(receiver.in_full(job)) == 6

    await wait_until(told)
    assert receiver.in_full(job) == [STARTED] * 3 + [WITH_RESULTS] * 3
    for event in (STARTED, WITH_RESULTS):
        tries = [each for each in receiver.told if each.event == event]
        assert len({each.body for each in tries}) == len({each.headers["webhook-id"] for each in tries}) == 1
        assert all(each.is_signed() for each in tries)
        waits = [after.at - before.at for before, after in pairwise(tries)]
        assert waits[0] >= 0.8
        assert waits[1] >= 4

    await nothing_left_of(calling, job)


async def test_a_receiver_that_is_gone_is_not_asked_twice(calling: Stack, client: Client, receiver: Receiver) -> None:
    """410 makes a notification dead; an operator sees it, and may have it sent again."""
    receiver.behaviour = answers(410)
    job = await client.submit(recording(0), callback_url=receiver.url, user_token="kept")
    await tells(receiver, job, STARTED, COMPLETED)

    async def dead() -> str:
        return await asyncio.to_thread(calling.volant, "callbacks", "dead")

    async def both_dead() -> bool:
        return COMPLETED in await dead()

    await wait_until(both_dead)
    receiver.behaviour = well
    tenant, found, *_ = (await dead()).split()
    assert found == job
    assert await asyncio.to_thread(calling.volant, "callbacks", "replay", tenant, job) == "2 to be sent"

    async def told_again() -> bool:
        return len(receiver.in_full(job)) == 4

    await wait_until(told_again)
    assert receiver.in_full(job) == [STARTED, COMPLETED] * 2
    assert receiver.told[0].body == receiver.told[2].body
    assert await dead() == ""


async def test_what_is_taken_back_is_not_told(calling: Stack, client: Client, receiver: Receiver) -> None:
    """A deleted job, an erased customer's, and all of a URL that is unregistered: dropped while they were pending.

    The receiver refuses everything at first; of what is taken back it never hears again, of the rest it does.
    """
    receiver.behaviour = answers(500)
    async with Receiver(answers(500)) as other:
        assert (await client.register(other.url, customer="Ada"))[0] == 201
        deleted, kept = [await client.submit(recording(0), callback_url=receiver.url) for _ in range(2)]
        erased = await client.submit(recording(0), callback_url=receiver.url, customer="Ada")
        orphaned = await client.submit(recording(0), callback_url=other.url)
        jobs = {deleted, kept, erased, orphaned}

        async def all_refused() -> bool:
            told = {each.id for each in receiver.told + other.told}
            return told == jobs and all([await client.ended(job) for job in jobs])

        await wait_until(all_refused)
        assert (await client.delete(deleted))[0] == 204
        assert await client.erase("Ada") == (200, None)  # with the registration of the other receiver
        receiver.behaviour = other.behaviour = well
        before = len(receiver.told), len(other.told)
        await wait_until(lambda: _told(receiver, kept, COMPLETED))

        await nothing_left_of(calling, deleted, erased, orphaned, kept)
        assert {each.id for each in receiver.told[before[0] :]} == {kept}
        assert other.told[before[1] :] == []
        assert traces(calling, deleted) == traces(calling, erased) == []
        assert await client.status(orphaned) == "completed"


async def test_unregistering_stops_what_is_pending(calling: Stack, client: Client, receiver: Receiver) -> None:
    """And so it stays when the URL is registered again; the job is finished all the same."""
    receiver.behaviour = answers(500)
    job = await client.submit(recording(0), callback_url=receiver.url)
    await wait_until(lambda: _told(receiver, job, STARTED))
    await wait_until(lambda: client.ended(job))
    assert await client.unregister(receiver.url) == 200
    receiver.behaviour = well
    assert (await client.register(receiver.url, SECRET))[0] == 201
    before = len(receiver.told)

    await nothing_left_of(calling, job)
    again = await client.submit(recording(0), callback_url=receiver.url)
    await tells(receiver, again, STARTED, COMPLETED)
    assert {each.id for each in receiver.told[before:]} == {again}
    assert await client.status(job) == "completed"


async def _told(receiver: Receiver, job: str, event: str) -> bool:
    return event in receiver.events(job)
