"""What DELETE does in each state, and what a tenant's deletion does to work under way (promise P3)."""

import signal
from collections.abc import Iterator

import pytest

from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.remains import at_work, busy, given_up, held_up, is_alive, nothing_left_over, traces
from tests.recognizers import QUICK, recording
from tests.stack import StartStack, running_stack, wait_until


@pytest.fixture(scope="module")
def one_at_a_time() -> Iterator[Stack]:
    """Give a stack whose worker holds one job at a time, so that a second one waits."""
    with running_stack(QUICK) as running:
        yield running


async def test_a_deleted_waiting_job_never_runs(one_at_a_time: Stack) -> None:
    """204; gone from every view, its audio too; and no worker ever hears of it."""
    stack = one_at_a_time
    async with Client(stack.url, stack.new_tenant()[1]) as client:
        running = await client.submit(recording(3))
        async with held_up(stack):
            waiting = await client.submit(recording(0))
            assert await client.delete(waiting) == (204, None)
            assert (await client.look_up(waiting))[0] == 404
            assert await client.listed() == [running]
            assert traces(stack, waiting) == []
        later = await client.submit(recording(0))
        await wait_until(lambda: client.ended(later))
        assert (await client.delete(waiting))[0] == 404
    assert waiting not in stack.logs("worker-1")
    await nothing_left_over(stack)


async def test_a_processing_job_cannot_be_deleted(one_at_a_time: Stack) -> None:
    """400 in the contract's words; the job is whole, and ends with its result."""
    stack = one_at_a_time
    async with Client(stack.url, stack.new_tenant()[1]) as client:
        job = await client.submit(recording(3))
        async with held_up(stack):
            assert await client.delete(job) == (
                400,
                {
                    "code": 400,
                    "code_description": "Bad Request",
                    "error": "job is being processed and cannot be deleted",
                },
            )
            assert await client.status(job) == "processing"
        await wait_until(lambda: client.ended(job))
        _, body = await client.look_up(job)
        assert body["results"][0]["results"][0]["alternatives"][0]["transcript"] == "done "
    await nothing_left_over(stack)


async def test_a_deleted_completed_job_is_gone(one_at_a_time: Stack) -> None:
    """204 and no trace left at the moment of the reply; afterwards 404."""
    stack = one_at_a_time
    async with Client(stack.url, stack.new_tenant()[1]) as client:
        job = await client.submit(recording(0))
        await wait_until(lambda: client.ended(job))
        await nothing_left_over(stack)
        assert await client.delete(job) == (204, None)
        assert traces(stack, job) == []
        code, body = await client.look_up(job)
        assert (code, body["code"]) == (404, 404)
        assert "job not found" in body["error"]
        assert (await client.delete(job))[0] == 404
        assert await client.listed() == []


async def test_a_tenants_deletion_stops_the_work_under_way(fresh_stack: StartStack) -> None:
    """The child is killed with the next renewal; of the running job and the waiting one nothing is left."""
    stack = fresh_stack(workers=1, lease="3", **QUICK)
    tenant, apikey = stack.new_tenant()
    async with Client(stack.url, apikey) as client:
        running = await client.submit(recording(200))
        await wait_until(lambda: busy(stack))
        waiting = await client.submit(recording(0))
        children = at_work(stack.workers[0])
        stack.volant("tenant", "delete", tenant, "--yes")
        assert (await client.look_up(running))[0] == 401

        async def stopped() -> bool:
            return not any(is_alive(child) for child in children)

        await wait_until(stopped)
    await nothing_left_over(stack)
    assert traces(stack, running) + traces(stack, waiting) + traces(stack, tenant) == []
    assert waiting not in stack.logs("worker-1")
    async with Client(stack.url, stack.apikey) as client:
        job = await client.submit(recording(0))
        await wait_until(lambda: client.ended(job))


async def test_a_worker_that_finishes_after_an_erase_leaves_nothing(fresh_stack: StartStack) -> None:
    """A real late writer: its result is ready, and the job is not there any more, which it may also see as it looks."""
    stack = fresh_stack(workers=1, lease="60", **QUICK)
    worker = stack.workers[0]
    tenant, apikey = stack.new_tenant()
    async with Client(stack.url, apikey) as client:
        job = await client.submit(recording(3))
    async with held_up(stack):
        worker.send_signal(signal.SIGSTOP)
    await wait_until(lambda: idle(stack))
    stack.volant("tenant", "delete", tenant, "--yes")
    worker.send_signal(signal.SIGCONT)

    await wait_until(lambda: given_up(stack, job))
    await nothing_left_over(stack)
    assert traces(stack, job) == []


async def idle(stack: Stack) -> bool:
    return not await busy(stack)
