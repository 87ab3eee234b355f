"""Redis gone or silent, and a worker that was away for longer than its lease (promises P1 and P3)."""

import asyncio
import signal
from itertools import chain
from typing import Any, NamedTuple

import psutil
import pytest
import redis

from deploy.stack import Stack
from retention import keyspace
from retention.job import Processing
from tests.acceptance.client import Client
from tests.acceptance.remains import (
    at_work,
    busy,
    completions,
    family,
    given_up,
    held_up,
    nothing_left_over,
    record,
    said,
)
from tests.recognizers import QUICK, recording
from tests.stack import StartStack, wait_until


async def test_a_killed_redis_loses_nothing_and_costs_no_attempt(fresh_stack: StartStack) -> None:
    """A completed job, a waiting one, one that ends in the outage, one whose lease ends in it: all are as they were.

    The lease that lapsed is left to its owner, although the other worker is back first.
    """
    stack = fresh_stack(workers=2, lease="6", **QUICK)
    async with Client(stack.url, stack.apikey) as client:
        jobs = await every_kind(stack, client, short=7)
        owner = next(worker for worker in stack.workers if jobs.long_child in family(worker))
        before = await client.look_up(jobs.completed)
        stack.kill("redis")
        assert (await client.look_up(jobs.completed))[0] == 503
        await wait_until(lambda: waits_for_the_store(stack))
        owner.send_signal(signal.SIGSTOP)
        stack.restart_redis()
        await wait_until(lambda: client.ended(jobs.waiting))
        owner.send_signal(signal.SIGCONT)
        await all_end_at_the_first_attempt(stack, client, jobs)
        assert await client.look_up(jobs.completed) == before


async def test_a_frozen_redis_loses_nothing_and_costs_no_attempt(fresh_stack: StartStack) -> None:
    """Silent for longer than a lease, and than a worker waits for a reply."""
    stack = fresh_stack(workers=2, lease="3", **QUICK)
    async with Client(stack.url, stack.apikey) as client:
        jobs = await every_kind(stack, client, short=4)
        before = await client.look_up(jobs.completed)
        stack.redis.send_signal(signal.SIGSTOP)
        await wait_until(lambda: waits_for_the_store(stack))
        stack.redis.send_signal(signal.SIGCONT)
        await all_end_at_the_first_attempt(stack, client, jobs)
        assert await client.look_up(jobs.completed) == before


async def test_a_redis_killed_under_uploads_has_exactly_the_jobs_that_were_accepted(fresh_stack: StartStack) -> None:
    """Every 201 is a job that completes; every other answer is a 503, and means that there is none."""
    stack = fresh_stack(workers=1, lease="3", **QUICK)
    audio = recording(0)
    answers: list[tuple[int, Any]] = []
    async with Client(stack.url, stack.apikey) as client:

        async def go_on_submitting() -> None:
            while not (answers and answers[-1][0] != 201):
                answers.append(await client.try_to_submit(audio))

        async def several_are_accepted() -> bool:
            return len(answers) > 10

        uploads = [asyncio.create_task(go_on_submitting()) for _ in range(4)]
        await wait_until(several_are_accepted)
        stack.kill("redis")
        await asyncio.gather(*uploads)
        stack.restart_redis()
        assert {code for code, _ in answers} == {201, 503}
        accepted = sorted(body["id"] for code, body in answers if code == 201)

        async def all_completed() -> bool:
            return all([await client.status(job) == "completed" for job in accepted])

        async def no_others() -> bool:
            return sorted(await client.listed()) == accepted

        await wait_until(all_completed)
        await wait_until(no_others)
    await nothing_left_over(stack)


@pytest.mark.parametrize("slots", ["1", "2"])
async def test_a_worker_frozen_past_its_lease_finds_itself_superseded(fresh_stack: StartStack, slots: str) -> None:
    """The other one finishes the job; what the first makes of it afterwards is dropped."""
    stack = fresh_stack(workers=1, lease="3", **QUICK | {"jobs_at_once": slots})
    frozen = stack.workers[0]
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(recording(2))
        async with held_up(stack):
            frozen.send_signal(signal.SIGSTOP)
        stack.start_worker()

        async def reclaimed() -> bool:
            found = record(stack, job)
            return isinstance(found, Processing) and found.attempts == 2

        await wait_until(reclaimed)
        await wait_until(lambda: client.ended(job))
        result = await client.look_up(job)
        frozen.send_signal(signal.SIGCONT)

        await wait_until(lambda: given_up(stack, job))
        await nothing_left_over(stack)
        assert await client.look_up(job) == result
    assert await completions(stack, job) == [2]
    assert frozen.poll() is None


@pytest.mark.parametrize("slots", ["1", "2"])
async def test_a_worker_frozen_alone_goes_on_with_its_job(fresh_stack: StartStack, slots: str) -> None:
    """A machine that was suspended: the lease has lapsed, and is the same worker's again, also with a slot free."""
    stack = fresh_stack(workers=1, lease="3", **QUICK | {"jobs_at_once": slots})
    (worker,) = stack.workers
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(recording(3))
        async with held_up(stack):  # it is at work when the worker wakes up
            worker.send_signal(signal.SIGSTOP)
            await wait_until(lambda: lapsed(stack, job))
            worker.send_signal(signal.SIGCONT)
        await wait_until(lambda: client.ended(job))
        assert await client.status(job) == "completed"
    assert await completions(stack, job) == [1]
    await nothing_left_over(stack)


async def lapsed(stack: Stack, job: str) -> bool:
    """Tell whether nobody holds the lease on a job."""
    with redis.Redis.from_url(stack.redis_url) as client:
        return not client.exists(keyspace.IN_PROGRESS_PREFIX + job)


class Jobs(NamedTuple):
    """One of each kind. `long_child` recognises `long`, and is suspended: it takes as long as the test wants."""

    completed: str
    long: str
    long_child: psutil.Process
    short: str
    waiting: str


async def every_kind(stack: Stack, client: Client, *, short: float) -> Jobs:
    """Submit a job of each kind; the shorter one of the two that run takes so many seconds."""
    completed = await client.submit(recording(0))
    await wait_until(lambda: client.ended(completed))
    long_job = await client.submit(recording(7))
    await wait_until(lambda: busy(stack))
    child = next(chain.from_iterable(map(at_work, stack.workers)))
    child.suspend()
    short_job = await client.submit(recording(short))

    async def both_are_busy() -> bool:
        return all(at_work(worker) for worker in stack.workers)

    await wait_until(both_are_busy)
    waiting = await client.submit(recording(0))
    assert await client.status(waiting) == "waiting"
    return Jobs(completed, long_job, child, short_job, waiting)


async def waits_for_the_store(stack: Stack) -> bool:
    """Tell whether a worker has a result and cannot write it."""
    return bool(said(stack, "waiting for the store"))


async def all_end_at_the_first_attempt(stack: Stack, client: Client, jobs: Jobs) -> None:
    assert await busy(stack)  # the outage was over before the long one
    jobs.long_child.resume()
    for job in (jobs.short, jobs.waiting, jobs.long):
        await wait_until(lambda job=job: client.ended(job))  # type: ignore[misc]
        assert await completions(stack, job) == [1]
    assert sorted(await client.listed()) == sorted([jobs.completed, jobs.short, jobs.waiting, jobs.long])
    assert not said(stack, "lease lost")
    assert [worker.poll() for worker in stack.workers] == [None, None]
    await nothing_left_over(stack)
