"""Must show 2 of the callbacks: bad receivers, killed notifiers and a killed Redis lose no event (promise P6)."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import NamedTuple

import redis

from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.receivers import (
    SECRET,
    Behaviour,
    Receiver,
    answers,
    closes_early,
    drips,
    fails,
    hangs,
    well,
)
from tests.acceptance.remains import left_over
from tests.recognizers import CALLING, recording
from tests.stack import StartStack, wait_until

STARTED, COMPLETED = "recognitions.started", "recognitions.completed"
SETTINGS = {**CALLING, "jobs_at_once": "3", "lease": "3"}
ALONE = 60
EACH = 20


class Asked(NamedTuple):
    """A job, and who is to be told of it."""

    job: str
    receiver: Receiver


@asynccontextmanager
async def registered(client: Client, behaviours: dict[str, Behaviour]) -> AsyncIterator[dict[str, Receiver]]:
    """Give a receiver for each name, registered while it was well."""
    async with AsyncExitStack() as stack:
        receivers = {name: await stack.enter_async_context(Receiver()) for name in behaviours}
        for name, receiver in receivers.items():
            assert (await client.register(receiver.url, SECRET))[0] == 201
            receiver.behaviour = behaviours[name]
        yield receivers


async def submitted(client: Client, receivers: Sequence[Receiver]) -> list[Asked]:
    """Submit a job for each of these receivers."""
    audio = recording(0)
    return [Asked(await client.submit(audio, callback_url=receiver.url), receiver) for receiver in receivers]


def untold(asked: Sequence[Asked]) -> Iterator[str]:
    """Give the jobs of which not everything has arrived."""
    for each in asked:
        if set(each.receiver.events(each.job)) != {STARTED, COMPLETED}:
            yield each.job


async def all_told(asked: Sequence[Asked], *, within: float) -> None:
    """Return when everything has arrived, in order; print how much is missing."""

    async def nothing_missing() -> bool:
        return next(untold(asked), None) is None

    try:
        await wait_until(nothing_missing, within=within)
    finally:
        missing = len(list(untold(asked)))
        print(f"{2 * len(asked)} events, {missing} jobs not told")
    assert [each.receiver.events(each.job) for each in asked] == [[STARTED, COMPLETED]] * len(asked)


async def all_completed(client: Client, asked: Sequence[Asked]) -> None:
    """See that what receivers do has changed no job."""
    for each in asked:
        status, body = await client.look_up(each.job)
        assert (status, body["status"]) == (200, "completed")
        assert body["results"][0]["results"][0]["alternatives"][0]["transcript"] == "done "


async def delays(client: Client, asked: Sequence[Asked]) -> list[float]:
    """Return how long after its completion each job's was first told, in seconds, shortest first."""
    found = []
    for job, receiver in asked:
        _, body = await client.look_up(job)
        completed = datetime.fromisoformat(body["updated"]).timestamp()
        found.append(min(told.at for told in receiver.told if (told.id, told.event) == (job, COMPLETED)) - completed)
    return sorted(found)


def percentile(values: Sequence[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


async def test_bad_receivers_lose_nothing_and_delay_nobody(fresh_stack: StartStack) -> None:
    """Of 220 jobs, for eight bad receivers and a healthy one of the same tenant, every event arrives, in order.

    The healthy one is told as soon as when it was alone. None of this shows in the jobs.
    """
    stack = fresh_stack(workers=1, **SETTINGS)
    async with Receiver() as trap, Client(stack.url, stack.apikey) as client:
        behaviours: dict[str, Behaviour] = {
            "healthy": well,
            "204": answers(204),
            "down": well,
            "500": fails(6),
            "hangs": hangs,
            "drips": drips,
            "redirects": answers(302, Location=trap.url),
            "closes early": closes_early,
            "410": answers(410),
        }
        async with registered(client, behaviours) as receivers:
            healthy = receivers["healthy"]
            alone = await submitted(client, [healthy] * ALONE)
            await all_told(alone, within=100)

            await receivers["down"].close()
            bad = [receiver for name, receiver in receivers.items() if name != "healthy" for _ in range(EACH)]
            order = [healthy] * ALONE + bad
            random.shuffle(order)
            asked = await submitted(client, order)
            with_bad_ones = [each for each in asked if each.receiver is healthy]
            await all_told(with_bad_ones, within=100)
            await all_told([each for each in asked if each.receiver is receivers["204"]], within=100)

            for name in ("hangs", "drips", "redirects", "closes early"):
                assert receivers[name].told, f"{name} was tried while it was bad"
                receivers[name].behaviour = well
            await receivers["down"].open()
            await all_told(asked, within=100)
            await all_completed(client, asked)

            before, after = await delays(client, alone), await delays(client, with_bad_ones)
    p99 = [percentile(values, 0.99) for values in (before, after)]
    print(f"p99 of a healthy receiver: alone {p99[0] * 1000:.0f} ms, among bad ones {p99[1] * 1000:.0f} ms")
    print(f"p50: alone {percentile(before, 0.5) * 1000:.0f} ms, among bad ones {percentile(after, 0.5) * 1000:.0f} ms")
    assert p99[1] <= 3 * p99[0] + 0.5
    assert trap.told + trap.asked == []
    assert trap.others == []
    gone = receivers["410"]
    assert sorted(told.id for told in gone.told) == sorted(2 * [each.job for each in asked if each.receiver is gone])
    assert dead(stack) == 2 * EACH


def dead(stack: Stack) -> int:
    """Return how many notifications an operator is shown as dead."""
    with redis.Redis.from_url(stack.redis_url) as client:
        return sum(
            bool(client.hexists(key, f"dead.{place}"))
            for key in client.scan_iter("volant:job:*", count=1000)
            for place in ("started", "ended")
        )


async def test_kills_of_the_notifier_and_of_redis_lose_nothing(fresh_stack: StartStack) -> None:
    """SIGKILL of the only notifier while it sends, another after it; then SIGKILL of Redis: nothing is lost."""
    stack = fresh_stack(workers=1, **SETTINGS)
    async with Client(stack.url, stack.apikey) as client:
        behaviours: dict[str, Behaviour] = {"healthy": well, "500": fails(5), "hangs": hangs, "down": well}
        async with registered(client, behaviours) as receivers:
            await receivers["down"].close()
            everyone = list(receivers.values())
            asked = await submitted(client, everyone * 10)

            async def under_way() -> bool:
                return len(receivers["hangs"].told) > 0 and len(receivers["healthy"].told) >= 10

            await wait_until(under_way)
            stack.kill("notifier-1")
            receivers["hangs"].behaviour = well
            asked += await submitted(client, everyone * 10)
            await asyncio.to_thread(stack.start_notifier)
            begun = len(receivers["healthy"].told)

            async def goes_on() -> bool:
                return len(receivers["healthy"].told) >= begun + 5

            await wait_until(goes_on)
            stack.kill("redis")
            await receivers["down"].open()
            await asyncio.to_thread(stack.restart_redis)
            asked += await submitted(client, everyone * 5)
            await all_told(asked, within=100)
            await all_completed(client, asked)

    async def nothing_left() -> bool:
        return left_over(stack) == []

    await wait_until(nothing_left)
    assert [process.poll() for process in stack.notifiers][1:] == [None]
