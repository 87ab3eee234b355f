"""Keys that are disabled, enabled and destroyed while real processes work under them."""

import asyncio
import time
from urllib.parse import urlsplit

import aiohttp
import redis

from deploy.processes import environment
from deploy.stack import Stack
from retention import keyspace
from retention.job import JobId, Processing
from tests.acceptance.client import Client
from tests.acceptance.receivers import Receiver
from tests.acceptance.remains import at_work, busy, nothing_left_over, record, said
from tests.recognizers import CALLING, QUICK, recording
from tests.stack import StartStack, wait_until

READS_DENIED = 5.0
WORK_STOPPED = 30.0

DISABLED = "the key of this instance is disabled"


def queued(stack: Stack) -> list[str]:
    """Return the jobs in the queue."""
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        return list(client.zrange(keyspace.RECOGNITION.name, 0, -1))


async def run(stack: Stack, *arguments: str) -> str:
    """Run `volant key` while the test goes on."""
    return await asyncio.to_thread(stack.volant, "key", *arguments)


async def until_denied(client: Client, job: str, *, within: float) -> None:
    """Return when a read is denied; fail when that takes longer."""

    async def denied() -> bool:
        return (await client.look_up(job))[0] == 403

    await wait_until(denied, within=within)


async def test_disabling_a_key_bites_and_enabling_it_lets_work_go_on(fresh_stack: StartStack) -> None:
    """Reads within 5 s; a running job's child is killed and the job parked within 30 s, its attempt not counted.

    However long leases are. A waiting one is parked, too. Others' jobs go on meanwhile. After enabling both complete.
    """
    stack = fresh_stack(workers=1, lease="600", **QUICK)
    (tenant, apikey), (_, others) = stack.new_tenant(), stack.new_tenant()
    await run(stack, "create", tenant)
    async with Client(stack.url, apikey) as client, Client(stack.url, others) as other:
        done = await client.submit(recording(0))
        await wait_until(lambda: client.ended(done))
        running = await client.submit(recording(45))
        await wait_until(lambda: busy(stack))
        waiting = await client.submit(recording(0))
        children = at_work(stack.workers[0])
        await run(stack, "disable", tenant)
        began = time.monotonic()
        await until_denied(client, done, within=READS_DENIED)

        async def stopped() -> bool:
            found = record(stack, running)
            handed_back = isinstance(found, Processing) and (found.attempts, found.holder) == (0, "")
            return handed_back and not any(child.is_running() for child in children) and running not in queued(stack)

        await wait_until(stopped, within=began + WORK_STOPPED - time.monotonic())
        theirs = await other.submit(recording(0))
        await wait_until(lambda: other.ended(theirs))
        await refuses_everything_but_erasure(stack, client, apikey, running)

        async def parked() -> bool:
            return queued(stack) == []

        await wait_until(parked)
        mark = len(said(stack, "parked: its key is disabled"))
        last = theirs
        for _ in range(2):  # rounds of the caretaker, which looks at unfinished jobs every 2 seconds
            last = await other.submit(recording(0))
            await wait_until(lambda last=last: other.ended(last))  # type: ignore[misc]
            await asyncio.sleep(3)
        assert len(said(stack, "parked: its key is disabled")) == mark
        assert not at_work(stack.workers[0])
        assert said(stack, "job completed", job=running) == said(stack, "job completed", job=waiting) == []
        assert [await other.status(job) for job in (theirs, last)] == ["completed"] * 2

        await run(stack, "enable", tenant)
        await wait_until(lambda: client.ended(waiting), within=90)
        assert await client.status(waiting) == "completed"
        await wait_until(lambda: client.ended(running), within=90)
        assert await client.status(running) == "completed"
        assert [line["attempt"] for line in said(stack, "job completed", job=running)] == [1]
    await nothing_left_over(stack)


async def refuses_everything_but_erasure(stack: Stack, client: Client, apikey: str, job: str) -> None:
    """Ask for all that there is, as the tenant whose key is disabled."""
    for code, body in (
        await client.look_up(job),
        await client.try_to_submit(recording(0)),
        await client._ask("GET", "/recognitions"),
        await client.register("http://127.0.0.1:9/"),
    ):
        assert (code, body["error"], body["code"]) == (403, DISABLED, 403)
    assert (await client.erase("nobody"))[0] == 200
    assert (await client.delete("00000000-0000-4000-8000-000000000000"))[0] == 404
    assert await client.unregister("http://127.0.0.1:9/") == 404
    # Before the body is invited, and without reading any of it.
    address = urlsplit(stack.url)
    for head in ("Expect: 100-continue\r\nContent-Length: 1000000", "Content-Length: 1000000"):
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        credentials = aiohttp.encode_basic_auth("apikey", apikey)
        writer.write(
            f"POST /v1/recognitions HTTP/1.1\r\nHost: x\r\nAuthorization: {credentials}\r\n"
            f"Content-Type: audio/wav\r\n{head}\r\n\r\n".encode()
        )
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 403 ")
        writer.close()


async def test_callbacks_wait_for_the_key(fresh_stack: StartStack) -> None:
    """Nothing is told while it is disabled; after enabling all is, in order."""
    stack = fresh_stack(workers=1, **CALLING)
    async with Receiver() as receiver, Client(stack.url, stack.apikey) as client:
        assert (await client.register(receiver.url))[0] == 201
        stack.notifiers[0].kill()  # what there is to tell is pending when the key is disabled
        job = await client.submit(recording(0), callback_url=receiver.url, user_token="mine")
        await wait_until(lambda: client.ended(job))
        await run(stack, "disable", "common")
        stack.start_notifier()
        await until_denied(client, job, within=READS_DENIED)
        await asyncio.sleep(5)
        assert receiver.events(job) == []
        await run(stack, "enable", "common")

        async def told() -> bool:
            return len(receiver.events(job)) == 2

        await wait_until(told, within=90)
        assert receiver.events(job) == ["recognitions.started", "recognitions.completed"]


async def test_a_destroyed_key_takes_everything_with_it(fresh_stack: StartStack) -> None:
    """Within a minute no field of Redis and no file is left of the tenant's; with a new key it works again."""
    stack = fresh_stack(workers=1, **{**CALLING, "request_log": "true"})
    (tenant, apikey), (_, others) = stack.new_tenant(), stack.new_tenant()
    await run(stack, "create", tenant)
    async with Receiver() as receiver, Client(stack.url, apikey) as client, Client(stack.url, others) as other:
        assert (await client.register(receiver.url))[0] == 201
        theirs = await other.submit(recording(0))
        done = await client.submit(recording(0), callback_url=receiver.url, customer="c")
        await wait_until(lambda: client.ended(done))
        await wait_until(lambda: other.ended(theirs))
        running = await client.submit(recording(100), customer="c")
        await wait_until(lambda: busy(stack))
        waiting = await client.submit(recording(0))
        with redis.Redis.from_url(stack.redis_url) as behind:
            destroying = await asyncio.create_subprocess_exec(
                *("volant", "key", "destroy", tenant, "--now", "--yes"),
                env=environment(stack._settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            printed, _ = await destroying.communicate(f"{tenant}\n".encode())
            assert (destroying.returncode, printed) == (0, b"destroyed, and its data erased\n")
            for job in (done, running, waiting):
                assert (await client.look_up(job))[0] == 404
            assert await client.listed() == []
            assert (await client.try_to_submit(recording(0)))[0] == 403

            async def gone() -> bool:
                jobs = [key for job in (done, running, waiting) for key in behind.scan_iter(f"*{job}*", count=1000)]
                own = [key for prefix in ("job", "jobs", "log", "logs", "callbacks", "customer")
                       for key in behind.scan_iter(f"volant:{prefix}:{tenant}*", count=1000)]  # fmt: skip
                files = [path for path in (stack.data / "audio").rglob("*") if path.is_file() and tenant in str(path)]
                return not (jobs or own or files or at_work(stack.workers[0]))

            await wait_until(gone, within=60)
        await run(stack, "create", tenant)
        again = await client.submit(recording(0))
        await wait_until(lambda: client.ended(again))
        assert await client.status(again) == "completed"
        assert await client.listed() == [again]
        assert await other.status(theirs) == "completed"
    assert record(stack, JobId(done)) is None
