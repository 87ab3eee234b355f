"""The endpoints of jobs, as a client sees them."""

import re
from datetime import timedelta
from typing import get_args

import pytest

from api.responses import FAILURES
from retention.errors import TenantGone, Unavailable
from retention.job import FailureReason, TenantId, Waiting, accept, claim, complete, fail, new_job_id
from tests.unit.fake_retention import ALICE, NOW, WAV, serving

LATER = NOW + timedelta(seconds=74)
HOSTILE_IDS = [
    "..",
    "%2e%2e",
    "%00",
    "a%2Fb",
    "a/b",
    "%ff%fe",
    "*",
    "x" * 10_000,
    "4BD734C0-E575-41F3-8E03-F932AA0468A0",
    "4bd734c0e57541f38e03f932aa0468a0",
    "{4bd734c0-e575-41f3-8e03-f932aa0468a0}",
    "4bd734c0-e575-41f3-8e03-f932aa0468a0%0a",
    "%D9%A4bd734c0-e575-41f3-8e03-f932aa0468a0",
    "",
]


def job_of(tenant: TenantId = ALICE) -> Waiting:
    """Return a fresh job."""
    return accept(new_job_id(), tenant, now=NOW, results_ttl=timedelta(minutes=5), patience=timedelta(days=7))


async def test_an_accepted_job_is_presented_as_the_contract_says() -> None:
    """A 201 has id, status, created and url, and no other key."""
    async with serving() as api:
        answer = await api.submit(Content_Type="audio/wav")
        [id_] = [id_ for _, id_ in api.jobs.kept]
        assert answer.status == 201
        assert answer.body == {
            "id": id_,
            "status": "waiting",
            "created": "2026-08-17T19:15:17.926Z",
            "url": f"{api.url}/v1/recognitions/{id_}",
        }


async def test_wishes_audio_and_customer_reach_the_service_whole() -> None:
    """What the client sent is what is kept, to the byte."""
    async with serving() as api:
        query = "?timestamps=true&word_confidence=TRUE&max_alternatives=3&results_ttl=5&model=en-US_Telephony&foo=1"
        answer = await api.submit(query, WAV * 4000, X_Watson_Metadata="customer_id=Zoë 7")
        [taken] = api.jobs.accepted
        assert answer.status == 201
        assert answer.body["warnings"] == ["Unknown arguments: foo."]
        assert taken.audio == WAV * 4000
        assert taken.submission.began == NOW
        assert taken.results_ttl == timedelta(minutes=5)
        assert taken.customer == "Zoë 7"
        wanted = taken.submission
        assert (wanted.media.type, wanted.model, wanted.timestamps, wanted.word_confidence) == (
            "audio/wav",
            "en-US_Telephony",
            True,
            True,
        )
        assert (wanted.max_alternatives, wanted.warnings) == (3, ("Unknown arguments: foo.",))


async def test_a_url_keeps_the_instance_and_prefers_what_the_operator_says() -> None:
    """The address of a job is under the path that the client used, at the public address if there is one."""
    async with serving(public_url="https://speech.example/") as api:
        answer = await api.ask("POST", "/instances/a%20b/v1/recognitions", WAV)
        assert answer.body["url"] == f"https://speech.example/instances/a%20b/v1/recognitions/{answer.body['id']}"
        assert (await api.ask("GET", f"/instances/other/v1/recognitions/{answer.body['id']}")).status == 200


async def test_a_list_shows_the_tenants_jobs_in_the_order_given() -> None:
    """Rows have id, created, updated and status; other tenants' jobs are not there."""
    async with serving() as api:
        waiting = api.jobs.keep(job_of())
        api.jobs.keep(job_of(TenantId("bob")))
        processing = api.jobs.keep(claim(job_of(), now=LATER, holder="worker"))
        assert (await api.ask("GET", "/v1/recognitions")).body == {
            "recognitions": [
                {
                    "id": processing.id,
                    "created": "2026-08-17T19:15:17.926Z",
                    "updated": "2026-08-17T19:16:31.926Z",
                    "status": "processing",
                },
                {
                    "id": waiting.id,
                    "created": "2026-08-17T19:15:17.926Z",
                    "updated": "2026-08-17T19:15:17.926Z",
                    "status": "waiting",
                },
            ]
        }


async def test_an_empty_list_is_a_list() -> None:
    """A tenant without jobs gets an empty array."""
    async with serving() as api:
        assert (await api.ask("GET", "/v1/recognitions")).body == {"recognitions": []}


async def test_a_completed_job_shows_its_results_in_an_array_of_one() -> None:
    """What the worker stored is embedded unchanged."""
    async with serving() as api:
        held = claim(job_of(), now=NOW, holder="worker")
        job = api.jobs.keep(complete(held, now=LATER), b'{"result_index":0,"results":[]}')
        answer = await api.ask("GET", f"/v1/recognitions/{job.id}")
        assert answer.body == {
            "id": job.id,
            "results": [{"result_index": 0, "results": []}],
            "created": "2026-08-17T19:15:17.926Z",
            "updated": "2026-08-17T19:16:31.926Z",
            "status": "completed",
        }


@pytest.mark.parametrize("reason", get_args(FailureReason))
async def test_a_failed_job_says_why(reason: FailureReason) -> None:
    """Every reason has a sentence, in results[0].error."""
    async with serving() as api:
        job = api.jobs.keep(fail(job_of(), reason, now=LATER))
        answer = await api.ask("GET", f"/v1/recognitions/{job.id}")
        assert answer.body["status"] == "failed"
        assert answer.body["results"] == [{"error": FAILURES[reason]}]


async def test_a_waiting_job_has_no_results() -> None:
    """The key is missing, never null."""
    async with serving() as api:
        job = api.jobs.keep(job_of())
        assert "results" not in (await api.ask("GET", f"/v1/recognitions/{job.id}")).body


async def test_a_deleted_job_is_gone() -> None:
    """A delete answers 204 without a body; afterwards every look and another delete are misses."""
    async with serving() as api:
        path = f"/v1/recognitions/{api.jobs.keep(job_of()).id}"
        gone = await api.ask("DELETE", path)
        assert (gone.status, gone.body) == (204, None)
        assert [(await api.ask(method, path)).status for method in ("GET", "DELETE")] == [404, 404]


async def test_a_processing_job_is_not_deleted() -> None:
    """A worker holds it: 400, and the job stays."""
    async with serving() as api:
        job = api.jobs.keep(claim(job_of(), now=NOW, holder="worker"))
        answer = await api.ask("DELETE", f"/v1/recognitions/{job.id}")
        assert answer.status == 400
        assert answer.body["error"] == "job is being processed and cannot be deleted"
        assert (ALICE, job.id) in api.jobs.kept


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("id_", HOSTILE_IDS)
async def test_what_is_no_id_is_a_job_that_does_not_exist(method: str, id_: str) -> None:
    """Whatever the path ends in, the answer is the same as for an unknown job, and the service is not asked."""
    async with serving() as api:
        api.jobs.trouble = AssertionError("asked")
        path = f"{method} /v1/recognitions/{id_} HTTP/1.1\r\n".encode()
        credentials = b"Authorization: Basic YXBpa2V5OnZvbGFudF9hbGljZV9zZWNyZXQ=\r\n"
        answer = await api.talk(path + b"Host: x\r\nConnection: close\r\n" + credentials + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert answer.endswith(b'{"code":404,"code_description":"Not Found","error":"job not found"}')


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_foreign_job_does_not_exist(method: str) -> None:
    """Somebody else's job is the same miss as none."""
    async with serving() as api:
        job = api.jobs.keep(job_of(TenantId("bob")))
        answer = await api.ask(method, f"/v1/recognitions/{job.id}")
        assert answer.body == {"code": 404, "code_description": "Not Found", "error": "job not found"}


async def test_an_unreachable_store_is_503_and_worth_another_try() -> None:
    """The client is told when to come back, and nothing of the cause."""
    async with serving() as api:
        api.jobs.trouble = Unavailable("redis://10.0.0.7 refused")
        for answer in (await api.submit(), await api.ask("GET", "/v1/recognitions")):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert "redis" not in answer.body["error"]


async def test_the_credentials_of_a_tenant_that_went_are_no_good() -> None:
    """A tenant deleted in mid-request gets 401."""
    async with serving() as api:
        api.jobs.trouble = TenantGone()
        assert (await api.submit()).status == 401


async def test_our_own_errors_tell_nothing() -> None:
    """An unexpected error is a 500 with a fixed sentence."""
    async with serving() as api:
        api.jobs.trouble = ZeroDivisionError("transcript of the board meeting")
        answer = await api.ask("GET", "/v1/recognitions")
        assert answer.status == 500
        assert answer.body["error"] == "The service met an error of its own."


async def test_every_answer_has_the_headers_of_the_contract() -> None:
    """An id for support, no caching, JSON, and no versions of anything."""
    async with serving() as api:
        answers = [
            await api.submit(),
            await api.ask("GET", "/v1/recognitions"),
            await api.ask("GET", "/v1/recognitions", auth=None),
            await api.ask("GET", "/v1/nothing"),
            await api.ask("PUT", "/v1/recognitions"),
        ]
        assert [answer.status for answer in answers] == [201, 200, 401, 404, 405]
        for answer in answers:
            assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Global-Transaction-ID"])
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Server"] == "volant"
        assert len({answer.headers["X-Global-Transaction-ID"] for answer in answers}) == len(answers)
        assert answers[-1].headers["Allow"] == "GET, POST"
