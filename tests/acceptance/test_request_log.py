"""The request log on whole processes: exactly what may be kept is there, sealed, and goes when it must (spec 6.3)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.stack import Stack
from tests.acceptance.canary import Canary, files, hits, places
from tests.acceptance.client import Client
from tests.acceptance.persistence import hide_nothing, save
from tests.acceptance.remains import busy, completions, held_up, traces
from tests.acceptance.test_canary import titled
from tests.recognizers import QUICK, recording
from tests.speech import AUDIO
from tests.stack import StartStack, running_stack, wait_until


@pytest.fixture(scope="module")
def logging() -> Iterator[Stack]:
    """Give a stack that keeps a request log, and works on one job at a time."""
    with running_stack(QUICK | {"request_log": "true"}) as running:
        yield running


class Customer(Client):
    """A client that can send headers."""

    async def send(self, audio: bytes, **headers: str) -> str:
        """Create a job; `X_Watson_Metadata` becomes a header. Return its id."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, body = await self._ask(
            "POST", "/recognitions", data=audio, headers={"Content-Type": "audio/wav"} | named
        )
        assert status == 201, body
        return str(body["id"])

    async def complete(self, stack: Stack, audio: bytes, **headers: str) -> str:
        """Create a job, wait until the worker has done with it, and return its id."""
        job = await self.send(audio, **headers)
        await completions(stack, job)
        return job


def listed(stack: Stack, tenant: str) -> list[str]:
    """Return the jobs of a tenant of which there is anything in the log: every key and every file is looked at."""
    with redis.Redis.from_url(stack.redis_url) as client:
        keys = [key.decode() for key in client.scan_iter("volant:log*", count=1000) if tenant in key.decode()]
        names = {key.rpartition(":")[2] for key in keys if key.startswith("volant:log:")}
        members = {
            member.decode().split("/")[1]
            for key in keys
            if key.startswith("volant:logs:")
            for member in client.zrange(key, 0, -1)
        }
    recordings = {path.name for path in (stack.data / "audio" / ".log" / tenant).glob("*")}
    assert names == members == recordings
    return sorted(recordings)


async def test_a_log_that_is_off_keeps_nothing(fresh_stack: StartStack) -> None:
    """By default there is no key and no file of it, whatever clients say."""
    stack = fresh_stack(workers=1, **QUICK)
    tenant, apikey = stack.new_tenant()
    async with Customer(stack.url, apikey) as client:
        for said in ({}, {"X_Watson_Learning_Opt_Out": "false"}, {"X_Watson_Learning_Opt_Out": "true"}):
            await client.complete(stack, recording(0), **said)
    assert listed(stack, tenant) == []
    assert not (stack.data / "audio" / ".log").exists()
    assert stack.volant("request-log", "list") == ""
    assert "request log" not in stack.logs("worker-1")  # nobody tried


async def test_what_is_exported_is_what_was_sent_and_told(logging: Stack, tmp_path: Path) -> None:
    """The audio to the byte, and the results that GET shows."""
    tenant, apikey = logging.new_tenant()
    sent = recording(0)
    async with Customer(logging.url, apikey) as client:
        job = await client.complete(logging, sent, X_Watson_Learning_Opt_Out="false")
        _, body = await client.look_up(job)
    logging.volant("request-log", "export", tenant, job, "--to", str(tmp_path / "export"))
    assert (tmp_path / "export" / f"{job}.audio").read_bytes() == sent
    assert [json.loads((tmp_path / "export" / f"{job}.results.json").read_text())] == body["results"]
    line = logging.volant("request-log", "list", tenant).split("  ")
    assert line[1:3] == [tenant, job]


async def test_exactly_what_may_be_kept_is_there(logging: Stack) -> None:
    """Opted out by header, by its old name, by the tenant, by both, while the job was being worked on: no trace."""
    tenant, apikey = logging.new_tenant()
    async with Customer(logging.url, apikey) as client:
        kept = [await client.complete(logging, recording(0))]
        out = [
            await client.complete(logging, recording(0), X_Watson_Learning_Opt_Out="true"),
            await client.complete(logging, recording(0), X_WDC_PL_OPT_OUT="1"),
        ]
        kept.append(await client.complete(logging, recording(0), X_Watson_Learning_Opt_Out="false"))
        running = await client.send(recording(2))
        async with held_up(logging):
            logging.volant("tenant", "update", tenant, "--learning-opt-out")
        await completions(logging, running)
        out += [
            running,
            await client.complete(logging, recording(0)),
            await client.complete(logging, recording(0), X_Watson_Learning_Opt_Out="true"),
        ]
        assert listed(logging, tenant) == sorted(kept)
        logging.volant("tenant", "update", tenant, "--no-learning-opt-out")
        kept.append(await client.complete(logging, recording(0)))
        assert listed(logging, tenant) == sorted(kept)
        for job in [*kept, *out]:
            assert await client.status(job) == "completed"
        for job in out:
            assert [trace for trace in traces(logging, job) if "log" in trace] == []


async def test_whatever_is_erased_leaves_nothing(logging: Stack) -> None:
    """DELETE, the erasure of a customer, a purge, the deletion of the tenant: no key and no file."""
    tenant, apikey = logging.new_tenant()
    other = logging.new_tenant()
    async with Customer(logging.url, apikey) as client, Customer(logging.url, other[1]) as neighbour:
        foreign = await neighbour.complete(logging, recording(0), X_Watson_Metadata="customer_id=c")
        deleted, theirs, kept = [
            await client.complete(logging, recording(0), X_Watson_Metadata=f"customer_id={customer}")
            for customer in ("a", "c", "b")
        ]
        assert listed(logging, tenant) == sorted([deleted, theirs, kept])
        assert await client.delete(deleted) == (204, None)
        assert traces(logging, deleted) == []
        assert (await client.erase("c"))[0] == 200
        assert traces(logging, theirs) == []
        assert listed(logging, tenant) == [kept]
        assert logging.volant("request-log", "purge", tenant, "--yes") == "purged 1 entries"
        assert listed(logging, tenant) == []
        assert await client.status(kept) == "completed"
        late = await client.send(recording(2), X_Watson_Metadata="customer_id=c")
        await wait_until(lambda: busy(logging))
        assert (await client.erase("c"))[0] == 200
        after = await client.complete(logging, recording(0))
        assert listed(logging, tenant) == [after]
        assert traces(logging, late) == []
        logging.volant("tenant", "delete", tenant, "--yes")
        assert listed(logging, tenant) == traces(logging, after) == []
        assert listed(logging, other[0]) == [foreign]


async def test_the_log_outlives_the_job_and_ends_by_itself(fresh_stack: StartStack) -> None:
    """A minute of retention, the least: gone within another, while the result is still there for its hour."""
    stack = fresh_stack(workers=1, request_log="true", request_log_retention="60", **QUICK)
    tenant, apikey = stack.new_tenant()
    async with Customer(stack.url, apikey) as client:
        job = await client.complete(stack, recording(0))
        assert listed(stack, tenant) == [job]

        async def gone() -> bool:
            return not [trace for trace in traces(stack, job) if "log" in trace]

        assert not await gone()
        await wait_until(gone, within=120)
        assert await client.status(job) == "completed"


async def test_nothing_of_it_is_kept_in_clear(fresh_stack: StartStack) -> None:
    """Audio, title, customer, parameters and transcript are in no key and no file: of audio, of Redis, of logs."""
    stack = fresh_stack(workers=1, request_log="true", children="1")
    hide_nothing(stack)
    canary = Canary(stack, stack.apikey)
    speech = (AUDIO / "librivox_0880.wav").read_bytes()
    job = await canary.submit(titled(speech[44:], canary.word("title")), "audio/wav")
    await completions(stack, job)
    _, body = await canary.ask("GET", f"/{job}")
    words = [word for result in body["results"][0]["results"] for word, *_ in result["alternatives"][0]["timestamps"]]
    assert len(words) > 3
    canary.markers |= {"samples": speech[60000:60024], "transcript": " ".join(words[:3]).encode()}
    kept = [path for path in (stack.data / "audio" / ".log").rglob("*") if path.is_file()]
    assert [path.name for path in kept] == [job]
    await save(stack)
    assert hits(places([stack.data], stack.redis_url), canary.markers) == []
    stack.volant("request-log", "purge", "--yes")
    await save(stack)
    stack.stop()
    assert hits(files([stack.data]), canary.markers) == []
