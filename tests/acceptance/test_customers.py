"""A customer is erased at once and for good, with everything in every state, and nobody else (promises P3 and P6)."""

import asyncio
import functools
import json
import secrets
import signal
import time
from contextlib import AsyncExitStack

import psutil
import pytest
import redis

from deploy.stack import Stack
from retention import keyspace
from retention.job import CustomerTag, TenantId
from tests.acceptance.canary import files, hits
from tests.acceptance.client import Client
from tests.acceptance.customers import Customer
from tests.acceptance.persistence import hide_nothing, save
from tests.acceptance.receivers import Receiver, answers, well
from tests.acceptance.remains import at_work, busy, given_up, held_up, is_alive, nothing_left_over, uploading
from tests.recognizers import CALLING, recording
from tests.stack import StartStack, wait_until

LEASE = 9.0
IN_FLIGHT = 2.0
"""Seconds in which a notification may still arrive that was on its way when its customer was erased."""

EVENTS = {
    "completed": ["started", "completed"],
    "failed": ["started", "failed"],
    "running": ["started", "completed"],
    "waiting": ["started", "completed"],
    "uploaded": ["started", "completed"],
}


class People:
    """Three customers of one tenant, and one of another tenant that has the same id as the first."""

    def __init__(self, stack: Stack, one: Client, other: Client, tenants: tuple[str, str], receiver: Receiver) -> None:
        self.erased = Customer(one, receiver, tenants[0], "Zoë Müller, 7")
        self.neighbour = Customer(one, receiver, tenants[0], "Zoë Müller, 77")
        self.third = Customer(one, receiver, tenants[0], "somebody else")
        self.namesake = Customer(other, receiver, tenants[1], "Zoë Müller, 7")
        self.all = (self.erased, self.neighbour, self.third, self.namesake)
        self.others = self.all[1:]
        self.stack = stack

    async def have_jobs(self) -> None:
        """Have everybody's jobs: completed, failed, waiting; running, of two of them; and begin two uploads."""
        for each in self.all:
            await each.register()
        await asyncio.gather(*(each.end_two() for each in self.all))
        await self.neighbour.submit("running", recording(20))
        await wait_until(lambda: busy(self.stack))
        self.neighbours = children(self.stack)
        await self.erased.submit("running", recording(200))
        await wait_until(self._both_are_busy)
        for each in self.all:
            await each.submit("waiting", recording(0))

    async def _both_are_busy(self) -> bool:
        return all(at_work(worker) for worker in self.stack.workers)


async def test_one_customer_is_erased_and_three_are_not(fresh_stack: StartStack) -> None:
    """With jobs waiting, running, completed, failed and uploading, a URL and notifications that nobody took yet."""
    stack = fresh_stack(workers=2, lease=str(LEASE), **CALLING)
    tenants = [stack.new_tenant() for _ in range(2)]
    async with AsyncExitStack() as opened:
        one, other = [await opened.enter_async_context(Client(stack.url, key)) for _, key in tenants]
        receiver = await opened.enter_async_context(Receiver(answers(500), path=""))
        people = People(stack, one, other, (tenants[0][0], tenants[1][0]), receiver)
        await people.have_jobs()
        erased, others = people.erased, people.others
        uploads = {each: each.upload() for each in (erased, people.neighbour)}
        await wait_until(lambda: uploading(stack, 2))
        found = "".join(await erased.traces(stack))
        for kind in ("tag", "tag of the URL", *(f"id of the {name} job" for name in erased.jobs)):
            assert f"{kind}, raw: " in found, kind  # the search sees what is there
        [child] = [child for child in children(stack) if child not in people.neighbours]

        assert await one.erase(erased.id) == (200, None)
        moment = time.time()
        assert await erased.traces(stack) == []
        for job in erased.jobs.values():
            assert (await one.look_up(job))[0] == 404
        theirs = {job for each in (people.neighbour, people.third) for job in each.jobs.values()}
        assert (len(theirs), set(await one.listed())) == (7, theirs)
        assert set(await other.listed()) == set(people.namesake.jobs.values())
        assert said_to_be_erased(stack) == [4]
        await wait_until(lambda: has_ended(child), within=LEASE)

        for each in uploads:
            each.go_on()
        refusal = await uploads[erased]
        accepted = await uploads[people.neighbour]
        assert (refusal[0], "erased" in refusal[1]["error"]) == (400, True)
        assert accepted[0] == 201, accepted
        people.neighbour.jobs["uploaded"] = accepted[1]["id"]
        code, body = await one.try_to_submit(recording(0), callback_url=erased.url)
        assert (code, "is not registered" in body["error"]) == (400, True)
        assert await erased.traces(stack) == []

        await all_are_told_everything(receiver, others)
        assert late(receiver, erased, since=moment + IN_FLIGHT) == []
        await nothing_left_over(stack)
        assert await erased.traces(stack) == []
        assert await one.erase(erased.id) == (200, None)
        assert await one.erase("nobody") == (200, None)
        assert said_to_be_erased(stack) == [4, 0, 0]
        assert len(await one.listed()) == 8
        await not_in_any_file(stack, erased)
        assert fences(stack) == [True, True]


async def test_a_worker_that_finishes_after_the_erasure_leaves_nothing(fresh_stack: StartStack) -> None:
    """A real late writer, frozen across the erasure: its result is ready, and there is nothing to add it to.

    Unless it has looked before whether it may go on, as it does every five seconds.
    """
    stack = fresh_stack(workers=1, lease="60", **CALLING)
    [worker] = stack.workers
    tenant, apikey = stack.new_tenant()
    async with Client(stack.url, apikey) as client, Receiver(answers(500), path="") as receiver:
        customer = Customer(client, receiver, tenant, secrets.token_hex(9))
        await customer.register()
        await customer.submit("running", recording(3))
        async with held_up(stack):
            worker.send_signal(signal.SIGSTOP)
        await wait_until(lambda: idle(stack))
        assert await client.erase(customer.id) == (200, None)
        assert await customer.traces(stack) == []
        worker.send_signal(signal.SIGCONT)
        job = customer.jobs["running"]
        await wait_until(lambda: given_up(stack, job))
        await nothing_left_over(stack)
        assert await customer.traces(stack) == []
        await customer.register()
        receiver.behaviour, refused = well, len(receiver.told)
        await customer.submit("another", recording(0))
        another = customer.jobs["another"]
        events = [(another, "started"), (another, "completed")]
        await wait_until(lambda: has_events(customer, events, receiver, refused))
        assert customer.heard(receiver.told[refused:]) == events


@pytest.mark.parametrize(
    "metadata", ["customer_id=", "customer_id", "Customer_id=a", "customer_id=a;b", "id=7", "", "a=b=c"]
)
async def test_a_malformed_label_is_400(stack: Stack, metadata: str) -> None:
    """On a job and on a callback URL; neither is made."""
    async with Client(stack.url, stack.new_tenant()[1]) as client:
        for code, body in (
            await client.try_to_submit(recording(0), metadata=metadata),
            await client.register("http://127.0.0.1:9/", metadata=metadata),
        ):
            assert (code, "X-Watson-Metadata" in body["error"]) == (400, True)
        assert await client.listed() == []


async def all_are_told_everything(receiver: Receiver, customers: tuple[Customer, ...]) -> None:
    """Take notifications from now on, and return when every job of these customers ended and was told of in order."""
    receiver.behaviour, refused = well, len(receiver.told)
    for each in customers:
        events = [(job, event) for name, job in each.jobs.items() for event in EVENTS[name]]
        await wait_until(functools.partial(has_events, each, events, receiver, refused))
        told = each.heard(receiver.told[refused:])
        assert sorted(told) == sorted(events)
        for name, job in each.jobs.items():
            assert [event for id_, event in told if id_ == job] == EVENTS[name]
            assert await each.client.status(job) == ("failed" if name == "failed" else "completed")


async def has_events(customer: Customer, events: list[tuple[str, str]], receiver: Receiver, since: int) -> bool:
    """Tell whether the customer was told these events, by notifications from this one on."""
    return set(events) <= set(customer.heard(receiver.told[since:]))


def late(receiver: Receiver, customer: Customer, *, since: float) -> list[str]:
    """Return what was told of the customer's jobs, or at their URL, after this moment."""
    jobs = set(customer.jobs.values())
    return [
        told.target for told in receiver.told if told.at > since and (told.target == customer.target or told.id in jobs)
    ]


def children(stack: Stack) -> list[psutil.Process]:
    """Return the recognising children that are at work."""
    return [child for worker in stack.workers for child in at_work(worker)]


async def has_ended(child: psutil.Process) -> bool:
    return not is_alive(child)


def said_to_be_erased(stack: Stack) -> list[int]:
    """Return how many jobs each erasure took, by what the API says."""
    lines = [json.loads(line) for line in stack.logs("api").splitlines() if '"customer erased"' in line]
    return [line["jobs"] for line in lines]


def fences(stack: Stack) -> list[bool]:
    """Return of every fence whether it expires."""
    with redis.Redis.from_url(stack.redis_url) as client:
        return [client.ttl(key) > 0 for key in client.scan_iter(keyspace.erased(TenantId("*"), CustomerTag("*")))]


async def not_in_any_file(stack: Stack, customer: Customer) -> None:
    """Look into all files, once Redis has rewritten its log. Our own logs may name jobs; the fence bears the tag."""
    markers = await customer.markers(stack)
    del markers["tag"]
    hide_nothing(stack)
    await save(stack)
    found = hits(files([stack.data]), markers)
    assert [line for line in found if not (line.startswith("id of") and line.endswith(".log"))] == []


async def idle(stack: Stack) -> bool:
    return not await busy(stack)
