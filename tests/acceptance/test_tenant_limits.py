"""Limits on whole processes, as an operator sets them and a client meets them."""

import asyncio

from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.recognizers import recording
from tests.stack import StartStack, wait_until


async def test_limits_are_set_met_and_shown(stack: Stack) -> None:
    """Of a tenant and of a key, while everything runs; what was decoded is counted by the worker."""
    tenant, key = stack.new_tenant("limited")
    async with Client(stack.url, key) as client:
        job = await client.submit(recording(0, lasts=2.0))
        await wait_until(lambda: client.ended(job))
        last = (await asyncio.to_thread(stack.volant, "tenant", "limits", tenant)).split()
        assert last[:3] == [key.split("_")[1], "audio", "none"]
        assert 2.0 <= float(last[3]) <= 3.0
        await asyncio.to_thread(stack.volant, "apikey", "update", key.split("_")[1], "--limit", "audio=1")
        status, refused = await client.try_to_submit(recording(0))
        assert (status, refused["error"]) == (429, "The limit of audio a day is reached; wait.")
        await asyncio.to_thread(stack.volant, "apikey", "update", key.split("_")[1], "--limit", "audio=default")
        await wait_until(lambda: accepted(client))


async def accepted(client: Client) -> bool:
    return (await client.try_to_submit(recording(0)))[0] == 201


async def test_what_waits_is_limited_until_it_is_deleted(fresh_stack: StartStack) -> None:
    """Without a worker everything waits; a killed API has lost count of nothing."""
    stack = fresh_stack(workers=0, limit_waiting="2")
    async with Client(stack.url, stack.apikey) as client:
        jobs = [await client.submit(recording(0)) for _ in range(2)]
        assert (await client.try_to_submit(recording(0)))[0] == 429
    stack.kill("api")
    stack.start_api()
    async with Client(stack.url, stack.apikey) as client:
        assert (await client.try_to_submit(recording(0)))[0] == 429
        assert (await client.delete(jobs[0]))[0] == 204
        await wait_until(lambda: accepted(client))
        assert (await client.try_to_submit(recording(0)))[0] == 429
