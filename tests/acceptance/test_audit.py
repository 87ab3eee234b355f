"""The audit log of a whole service: it tells of all that it must, in whose name, and has nothing of anybody's in it."""

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from deploy.processes import environment
from deploy.stack import Stack
from retention import keyspace
from tests.acceptance.canary import Canary, hits, in_redis
from tests.acceptance.receivers import Receiver, answers
from tests.speech import AUDIO
from tests.stack import StartStack, wait_until

JOB = "speech-to-text.async-recognition-job"
URL = "speech-to-text.async-recognition-notification-url"
ERASE = "speech-to-text.gdpr-user-data.delete"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Give a receiver that takes everything."""
    async with Receiver(answers(204), path="") as listening:
        yield listening


def volant(stack: Stack, *arguments: str) -> str:
    """Run the command and return all that it prints."""
    done = subprocess.run(
        ["volant", *arguments],  # noqa: S607 - the PATH is ours
        env=environment(stack._settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def exported(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in volant(stack, "audit", "export").splitlines()]


async def test_the_log_tells_everything_and_holds_nothing(fresh_stack: StartStack, receiver: Receiver) -> None:
    """A tenant's whole life, with an erasure, wrong keys and an API that is killed: events in order, no marker."""
    stack = fresh_stack(callback_loopback="true", children="1")
    begin = len(exported(stack))
    name = f"canary{base64.b16encode(os.urandom(9)).decode()}"
    tenant = volant(stack, "tenant", "create", name).strip()
    apikey = volant(stack, "apikey", "create", tenant).strip()
    spare = volant(stack, "apikey", "create", tenant).strip()
    canary = Canary(stack, apikey)
    canary.markers |= {"tenant's name": name.encode(), "secret": apikey.split("_", 2)[2].encode()}
    await canary.buy()
    await canary.register(receiver.url)
    deleted, erased = [await canary.submit((AUDIO / "cards_001.wav").read_bytes(), "audio/wav") for _ in range(2)]
    for job in (deleted, erased):
        await wait_until(lambda job=job: canary.ended(job))  # type: ignore[misc]
    assert (await canary.ask("DELETE", f"/{deleted}"))[0] == 204
    assert (await canary.ask("DELETE", f"/{deleted}"))[0] == 404
    stack.kill("api")
    stack.start_api()
    await canary.erase()
    volant(stack, "apikey", "revoke", spare.split("_")[1])
    for wrong in (canary.word("wrong key"), spare):
        headers = {"Authorization": Canary._basic("apikey", wrong)}
        assert (await canary.ask("GET", headers=headers))[0] == 401
    volant(stack, "tenant", "delete", "--yes", tenant)

    told = exported(stack)[begin:]
    both = ["pending", "success"]
    assert [(line["event"], line["outcome"]) for line in told] == [
        *(("volant.tenant.create", outcome) for outcome in both),
        *(("volant.credential.create", outcome) for outcome in both * 2),
        *((f"{URL}.create", outcome) for outcome in both),
        *((f"{JOB}.delete", outcome) for outcome in both),
        *((ERASE, outcome) for outcome in both),
        *(("volant.credential.revoke", outcome) for outcome in both),
        *[("volant.access.deny", "denied")] * 2,
        *(("volant.tenant.delete", outcome) for outcome in both),
    ]
    actors = [line.get("actor", "") for line in told]
    ours = f"apikey:{apikey.split('_')[1]}"
    assert all(actor.startswith("operator:") for actor in actors[:6] + actors[12:14] + actors[16:])
    assert actors[6:12] == [ours] * 6
    assert actors[14:16] == ["", ""]
    assert [line.get("target", "") for line in told[8:10]] == [deleted] * 2
    assert told[11]["count"] == 1
    assert "target" not in told[14]
    assert told[15]["target"] == spare.split("_")[1]
    assert {line["source"] for line in told[14:16]} == {"127.0.0.0/24"}
    assert all(line.get("tenant") == tenant for line in told[:14])
    assert erased not in json.dumps(told)

    log = [place for place in in_redis(stack.redis_url) if "volant:audit" in place[0]]
    assert len(log) == 2
    lists = [("list", volant(stack, "audit", "list").encode()), ("export", json.dumps(told).encode())]
    assert hits([*log, *lists], canary.markers) == []
    assert hits(lists, {"its tenant": tenant.encode()}) != []  # what may be seen is seen
    assert volant(stack, "audit", "verify").startswith("whole, from record 1 to ")


async def test_nothing_is_deleted_while_the_log_is_broken(fresh_stack: StartStack) -> None:
    """503, and the job is there; a wrong key is not told so either; once the log is begun anew all goes on."""
    stack = fresh_stack(workers=0)
    canary = Canary(stack, stack.apikey)
    job = await canary.submit((AUDIO / "cards_001.wav").read_bytes(), "audio/wav")
    with redis.Redis.from_url(stack.redis_url) as client:
        client.hdel(keyspace.AUDIT_ENDS, "head")
    assert (await canary.ask("DELETE", f"/{job}"))[0] == 503
    assert (await canary.ask("DELETE", "/../user_data", params={"customer_id": "x"}))[0] == 503
    assert (await canary.ask("GET", f"/{job}"))[0] == 200
    assert (await canary.ask("GET", headers={"Authorization": "Bearer x"}))[0] == 503
    assert "AuditBroken" in stack.logs("api")
    volant(stack, "audit", "restart", "--yes")
    assert (await canary.ask("DELETE", f"/{job}"))[0] == 204
    assert (await canary.ask("GET", headers={"Authorization": "Bearer x"}))[0] == 401


async def test_a_flood_of_wrong_keys_leaves_a_handful_of_records(fresh_stack: StartStack) -> None:
    """Ten, one that says that the source is refused, and one at the stop for the rest."""
    stack = fresh_stack(workers=0)
    canary = Canary(stack, stack.apikey)
    wrong = {"Authorization": Canary._basic("apikey", "x")}
    answered = [await canary.ask("GET", headers=wrong) for _ in range(10)]
    answered += await asyncio.gather(*(canary.ask("GET", headers=wrong) for _ in range(200)))
    assert [status for status, _ in answered[:10]] == [401] * 10
    assert {status for status, _ in answered[10:]} == {429}
    stack.api.ask_to_stop()
    stack.api.wait()
    denied = [line for line in exported(stack) if line["event"] == "volant.access.deny"]
    assert [(line["detail"], line["count"]) for line in denied] == [
        *[("credential", 1)] * 10,
        ("backoff", 1),
        ("backoff", 199),
    ]
