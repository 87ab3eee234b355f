"""Who may ask, how errors become answers, what health tells, and what the log says of it all."""

import base64
from datetime import timedelta
from typing import get_args

import pytest
from structlog.testing import capture_logs

from api.auth import presented_key
from api.problems import ANSWERS
from api.responses import FAILURES
from retention.errors import RetentionError, Unavailable
from retention.job import FailureReason, TenantId, accept, new_job_id
from tests.unit.fake_retention import ALICE, KEY, NOW, WAV, serving


def basic(pair: bytes) -> str:
    """Encode credentials as a client does."""
    return base64.b64encode(pair).decode()


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (f"Basic {basic(b'apikey:k')}", "k"),
        (f"bAsIc   {basic(b'somebody:k:with:colons')}", "k:with:colons"),
        (f"Basic {basic(b':k')}", "k"),
        (f"Basic {basic('apikey:clé'.encode())}", "clé"),
        (f"Basic {basic(b'apikey:')}", None),
        (f"Basic {basic(b'apikey')}", None),
        (f"Basic {basic(bytes([255, 58, 255]))}", None),
        ("Basic not*base64", None),
        ("Basic", None),
        ("Basic YQ", None),
        (f"Bearer {basic(b'apikey:k')}", None),
        ("", None),
    ],
)
def test_the_key_is_the_password_of_basic_credentials(header: str, key: str | None) -> None:
    """Whatever the user is called."""
    assert presented_key(header) == key


@pytest.mark.parametrize("auth", [None, ("apikey", "wrong"), ("apikey", ""), (KEY, "apikey")])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/recognitions"),
        ("POST", "/v1/recognitions?results_ttl=rubbish"),
        ("GET", "/v1/recognitions/x"),
        ("DELETE", "/instances/i/v1/recognitions/x"),
    ],
)
async def test_without_a_valid_key_nothing_is_said_but_401(
    method: str, path: str, auth: tuple[str, str] | None
) -> None:
    """Before anything else is looked at, and with the challenge that some clients wait for."""
    async with serving() as api:
        answer = await api.ask(method, path, auth=auth)
        assert answer.body == {"code": 401, "code_description": "Unauthorized", "error": "Unauthorized"}
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="Speech to Text"'


async def test_when_keys_cannot_be_looked_up_it_is_503() -> None:
    """An outage is not taken for a wrong key."""
    async with serving() as api:
        api.tenants.trouble = Unavailable()
        assert (await api.ask("GET", "/v1/recognitions")).status == 503


def test_every_error_of_the_domain_has_an_answer() -> None:
    """A new one must be entered into the table."""
    assert set(ANSWERS) == set(RetentionError.__subclasses__())
    assert all(not error.__subclasses__() for error in ANSWERS)


def test_every_reason_of_failure_has_words() -> None:
    """A new one must be entered into the table."""
    assert set(FAILURES) == set(get_args(FailureReason))


async def test_health_tells_its_status_and_whether_redis_binds_it() -> None:
    """And nothing else: anybody may ask. Being alive does not depend on being ready."""
    async with serving() as api:
        assert [(await api.ask("GET", f"/health/{kind}", auth=None)).status for kind in ("live", "ready")] == [200, 200]
        api.jobs.trouble = Unavailable("redis://10.0.0.7 evicts")
        live, ready = [await api.ask("GET", f"/health/{kind}", auth=None) for kind in ("live", "ready")]
        assert [(await api.ask("HEAD", f"/health/{kind}", auth=None)).status for kind in ("live", "ready")] == [
            200,
            503,
        ]
        assert (live.status, live.body, ready.status, ready.body) == (200, {}, 503, {"least_privilege": "held"})


async def test_a_request_is_one_line_in_the_log_without_anything_that_a_client_sent() -> None:
    """The template of the path stands for the path, and there is no query."""
    async with serving() as api:
        with capture_logs() as lines:
            answer = await api.submit("?user_token=canary&canary=1", X_Watson_Metadata="customer_id=canary")
            await api.ask("GET", "/instances/canary/v1/recognitions/canary")
            await api.ask("PROPFIND", "/canary", auth=None)
        [created, looked, lost] = lines
        assert {name for line in lines for name in line} <= {
            *("event", "log_level", "method", "route", "status", "duration_ms", "bytes_in"),
            *("tenant", "job", "transaction"),
        }
        assert {**created, "duration_ms": 0, "transaction": ""} == {
            "event": "request",
            "log_level": "info",
            "method": "POST",
            "route": "/v1/recognitions",
            "status": 201,
            "duration_ms": 0,
            "bytes_in": len(WAV),
            "tenant": "alice",
            "job": answer.body["id"],
            "transaction": "",
        }
        assert created["transaction"] == answer.headers["X-Global-Transaction-ID"]
        assert (looked["status"], lost["status"], lost["method"]) == (404, 404, "other")
        assert "canary" not in str(lines)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_the_log_names_a_job_only_if_it_is_the_tenants_own(method: str) -> None:
    """An id that was invented, or is another's, is something that a client sent."""
    async with serving() as api:
        own, foreign, invented = new_job_id(), new_job_id(), new_job_id()
        for owner, id_ in ((ALICE, own), (TenantId("bob"), foreign)):
            api.jobs.keep(accept(id_, owner, now=NOW, results_ttl=timedelta(hours=1), patience=timedelta(days=7)))
        with capture_logs() as lines:
            for id_ in (foreign, invented, own):
                await api.ask(method, f"/v1/recognitions/{id_}")
        assert [line.get("job") for line in lines] == [None, None, own]
        assert {line["route"] for line in lines} == {"/v1/recognitions/{id}"}
        assert foreign not in str(lines)
        assert invented not in str(lines)


async def test_an_unexpected_error_is_logged_by_class_and_place() -> None:
    """Its text may quote what was being worked on."""
    async with serving() as api:
        api.jobs.trouble = ZeroDivisionError("canary")
        with capture_logs() as lines:
            await api.ask("GET", "/v1/recognitions")
        assert [(line["log_level"], line["error"], line["status"]) for line in lines] == [
            ("error", "ZeroDivisionError", 500)
        ]
        assert lines[0]["where"].startswith("tests/unit/fake_retention.py:")
        assert "canary" not in str(lines)
