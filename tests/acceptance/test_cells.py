"""Two cells of real processes: one for everybody, one for a tenant of Premium."""

import json
import signal
from typing import Any

import aiohttp
import pytest
import redis as blocking

from deploy.processes import StackError
from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.recognizers import QUICK, recording
from tests.stack import StartStack, wait_until


def premium(stack: Stack) -> tuple[str, str]:
    """Create a tenant of Premium in the cell acme. Returns its id and a key of it."""
    tenant = stack.volant("tenant", "create", "Acme", "--plan", "premium", "--cell", "acme")
    return tenant, stack.volant("apikey", "create", tenant)


async def completes(client: Client, audio: bytes) -> str:
    """Submit, and wait for the end; return the id."""
    job = await client.submit(audio)
    await wait_until(lambda: client.ended(job))
    assert await client.status(job) == "completed"
    return job


async def is_ready(stack: Stack) -> bool:
    async with aiohttp.ClientSession() as session, session.get(f"{stack.url}/health/ready") as response:
        return response.status == 200


def said_by_the_api(stack: Stack, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stack.logs("api").splitlines() if f'"{event}"' in line]
    return [line for line in lines if line.get("cell") == "acme"]


async def test_a_cell_has_its_own_workers_and_its_own_outages(fresh_stack: StartStack) -> None:
    """Its jobs are done there; while its Redis is killed, or silent, its tenant gets 503, and nobody else notices."""
    stack = fresh_stack(workers=1, cells=["acme"], **QUICK)
    _, key = premium(stack)
    async with Client(stack.url, stack.apikey) as client, Client(stack.url, key) as acme:
        status, body = await acme.try_to_submit(recording(0))
        assert (status, body["error"]) == (503, "No recognition engine has started yet; try again.")
        assert [(await each.models())[0] for each in (client, acme)] == [200, 503]
        stack.start_worker(cell="acme")
        mine, theirs = await completes(client, recording(0)), await completes(acme, recording(0))
        with (
            blocking.Redis.from_url(stack.redis_url) as home,
            blocking.Redis.from_url(stack.cells["acme"].url) as other,
        ):
            assert [list(each.scan_iter(f"volant:job:*:{theirs}")) != [] for each in (home, other)] == [False, True]
            assert [list(each.scan_iter(f"volant:job:*:{mine}")) != [] for each in (home, other)] == [True, False]
        assert (await acme.look_up(mine))[0] == (await client.look_up(theirs))[0] == 404

        stack.cells["acme"].process.kill()
        stack.cells["acme"].process.wait()
        for answer in (acme.look_up(theirs), acme.delete(theirs), acme.try_to_submit(recording(0)), acme.erase("c")):
            assert (await answer)[0] == 503
        await completes(client, recording(0))
        assert await is_ready(stack)

        async def told() -> bool:
            return bool(said_by_the_api(stack, "cell not ready"))

        await wait_until(told)
        stack.api.stop(patience=20)
        stack.start_api()  # it waits until the API is ready
        assert await client.status(mine) == "completed"
        assert (await acme.look_up(theirs))[0] == 503

        stack.cells["acme"].restart()
        await wait_until(lambda: acme.ended(theirs))
        await completes(acme, recording(0))

        stack.cells["acme"].process.send_signal(signal.SIGSTOP)
        try:
            assert (await acme.look_up(theirs))[0] == 503
            await completes(client, recording(0))
            assert await is_ready(stack)
        finally:
            stack.cells["acme"].process.send_signal(signal.SIGCONT)
        await wait_until(lambda: acme.ended(theirs))


async def test_a_tenant_moves_under_way(fresh_stack: StartStack) -> None:
    """What runs completes in the old cell, what comes after runs in the new one; deleted, nothing is left in either."""
    stack = fresh_stack(workers=1, cells=["acme"], **QUICK)
    stack.start_worker(cell="acme")
    tenant, key = stack.new_tenant("moves")
    async with Client(stack.url, key) as client:
        running, waiting = await client.submit(recording(4)), await client.submit(recording(0))
        assert stack.volant("tenant", "update", tenant, "--cell", "acme", "--plan", "premium") == "updated"
        new = await client.submit(recording(0))
        assert await client.listed() == [new, waiting, running]
        for job in (new, waiting, running):
            await wait_until(lambda job=job: client.ended(job))  # type: ignore[misc]
            assert await client.status(job) == "completed"
        with blocking.Redis.from_url(stack.cells["acme"].url) as other:
            assert [key.decode().rpartition(":")[2] for key in other.scan_iter("volant:job:*")] == [new]
        _, plan, cell, name = stack.volant("tenant", "list").rsplit(maxsplit=3)
        assert (plan, cell, name) == ("premium", "acme", "moves")
        with pytest.raises(StackError, match="premium needs one of its own"):
            stack.volant("tenant", "create", "late", "--cell", "acme")
        assert (await client.delete(waiting))[0] == 204
        assert stack.volant("tenant", "delete", "--yes", tenant) == "deleted, with 2 jobs"
        for url in (stack.redis_url, stack.cells["acme"].url):
            with blocking.Redis.from_url(url) as redis:
                assert list(redis.scan_iter(f"*{tenant}*")) == []
                assert not redis.hexists("volant:tenants", tenant)
        assert [path for path in stack.data.rglob(f"{tenant}/*") if path.is_file()] == []
