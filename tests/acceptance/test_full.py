"""A full Redis, on whole processes within `deploy/users.acl`: 503 for what is new, and everything is erased as ever."""

import pytest
import redis

from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.receivers import Receiver
from tests.acceptance.remains import held_up, nothing_left_over, said
from tests.recognizers import CALLING, recording
from tests.stack import StartStack, wait_until


def give(stack: Stack, memory: int) -> None:
    """Let Redis have so many bytes; 0: as many as it wants."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.config_set("maxmemory", memory)


@pytest.mark.timeout(180)
async def test_a_full_redis_refuses_what_is_new_and_nothing_else(fresh_stack: StartStack) -> None:
    """Jobs, callback URLs and work wait for room; reading, denying, deleting, erasing and results do not."""
    stack = fresh_stack(workers=1, **CALLING | {"limit_polls": "1000"})
    tenant, apikey = stack.new_tenant("someone")
    async with Client(stack.url, apikey) as client, Receiver() as receiver, Receiver(path="/other") as other:
        assert (await client.register(receiver.url))[0] == 201
        deleted, erased = await client.submit(recording(0)), await client.submit(recording(0), customer="c")
        for job in (deleted, erased):
            await wait_until(lambda job=job: client.ended(job))  # type: ignore[misc]
        running = await client.submit(recording(1))
        async with held_up(stack):
            waiting = await client.submit(recording(0))
            give(stack, 1)
            assert (await client.try_to_submit(recording(0)))[0] == 503
            assert (await client.register(other.url))[0] == 503
            assert (await client.delete(deleted))[0] == 204
            assert (await client.erase("c"))[0] == 200
            assert await client.unregister(receiver.url) == 200
            async with Client(stack.url, f"{apikey}?") as stranger:
                assert (await stranger.look_up(running))[0] == 401
        await wait_until(lambda: client.ended(running))
        stack.start_worker()
        stack.volant("key", "disable", "common")
        assert (await client.look_up(running))[0] == 403
        stack.volant("key", "enable", "common")
        assert await client.listed() == [waiting, running]
        assert (await client.status(waiting), await client.status(running)) == ("waiting", "completed")
        give(stack, 0)
        await wait_until(lambda: client.ended(waiting))
        assert await client.status(waiting) == "completed"
        give(stack, 1)
        stack.volant("tenant", "delete", "--yes", tenant)
        assert (await client.look_up(running))[0] == 401
        assert stack.volant("audit", "verify").startswith("whole")
    assert not said(stack, "round put off")
    assert not said(stack, "leases not renewed")
    await nothing_left_over(stack)
