"""What pages of other origins are told: preflights, answers and errors, and nothing while the setting is off."""

from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from api import app
from api.responses import HEADERS
from retention.errors import Unavailable
from tests.unit.fake_retention import KEY, WAV, Answer, Api, hang_up, serving

PAGE = "https://page.example:8443"
LISTED = f"https://a.example {PAGE}"
PATHS = [
    "/v1/recognitions",
    "/v1/recognitions/x",
    "/instances/i/v1/recognitions",
    "/instances/i/v1/recognitions/x",
    "/v1/authorize",
    "/v1/nothing%0a",
    "/identity/token",
    "/openapi.json",
    "/instances/i/identity/token",
]
CLOSED = ["/health/live", "/health/ready", "/", "/metrics", "/v1", "/v10/recognitions", "/instances/i/health/live"]
ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
GRANTED = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Content-Encoding, X-Watson-Metadata, "
    "X-Watson-Learning-Opt-Out, X-IBMCloud-SDK-Analytics",
    "Access-Control-Max-Age": "600",
}
EXPOSED = {"Access-Control-Expose-Headers": "X-Global-Transaction-ID, Retry-After"}
ANY = {"Access-Control-Allow-Origin": "*"}
ECHOED = {"Access-Control-Allow-Origin": PAGE, "Vary": "Origin"}


def told(answer: Answer) -> dict[str, str]:
    """Return what the answer says about origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")} | {
        name: value for name, value in answer.headers.items() if name == "Vary"
    }


async def preflight(api: Api, path: str, origin: str = PAGE) -> Answer:
    """Ask as a browser does, without credentials."""
    return await api.ask("OPTIONS", path, auth=None, headers={"Origin": origin, **ASKED})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("setting", "allowed"), [("*", ANY), (LISTED, ECHOED), (PAGE, ECHOED)])
async def test_a_preflight_is_granted_to_anybody_without_looking_at_jobs(
    setting: str, allowed: dict[str, str], path: str
) -> None:
    """On every path of the service, before the path, the key or the state of the service matters."""
    async with serving(cors_origins=setting) as api:
        api.jobs.trouble = api.tenants.trouble = Unavailable()
        answer = await preflight(api, path)
        assert (answer.status, answer.body) == (204, None)
        assert told(answer) == {**allowed, **GRANTED}
        assert HEADERS.items() <= answer.headers.items()
        assert len(answer.headers["X-Global-Transaction-ID"]) == 32


@pytest.mark.parametrize(
    "origin",
    ["https://b.example", "https://page.example", "http://page.example:8443", f"{PAGE}0", "https://page", "null", ""],
)
async def test_another_origin_than_those_listed_is_granted_nothing(origin: str) -> None:
    """Neither by a preflight nor by an answer; both tell caches that it depends on the origin."""
    async with serving(cors_origins=LISTED) as api:
        asked = await preflight(api, "/v1/recognitions", origin)
        assert (asked.status, told(asked)) == (204, {"Vary": "Origin"})
        for status, auth in ((200, ("apikey", KEY)), (401, None)):
            answer = await api.ask("GET", "/v1/recognitions", auth=auth, headers={"Origin": origin})
            assert (answer.status, told(answer)) == (status, {"Vary": "Origin"})


async def test_an_answer_without_an_origin_says_what_others_may_find_in_a_cache() -> None:
    """With a list it varies; with `*` it is the same for everybody."""
    for setting, expected in ((LISTED, {"Vary": "Origin"}), ("*", {**ANY, **EXPOSED})):
        async with serving(cors_origins=setting) as api:
            assert told(await api.ask("GET", "/v1/recognitions")) == expected


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/recognitions", {}, 200),
        ("POST", "/v1/recognitions", {"data": WAV}, 201),
        ("POST", "/instances/i/v1/recognitions", {"data": WAV}, 201),
        ("POST", "/v1/recognitions", {"data": b"short"}, 400),
        ("GET", "/v1/recognitions", {"auth": None}, 401),
        ("DELETE", "/v1/recognitions/x", {"auth": ("apikey", "wrong")}, 401),
        ("GET", "/v1/recognitions/x", {}, 404),
        ("GET", "/v1/nothing", {}, 404),
        ("PUT", "/v1/recognitions", {}, 405),
        ("OPTIONS", "/v1/recognitions", {}, 405),
        ("POST", "/v1/recognitions", {"data": WAV + bytes(1000)}, 413),
        ("POST", "/v1/recognitions", {"data": WAV, "headers": {"Content-Encoding": "br"}}, 415),
    ],
)
async def test_every_answer_can_be_read_by_the_page(
    method: str, path: str, options: dict[str, Any], status: int
) -> None:
    """Refusals too, or a page would learn nothing of why."""
    headers: Mapping[str, str] = options.get("headers", {})
    asked = {**options, "headers": {**headers, "Origin": PAGE}}
    for setting, allowed in (("*", ANY), (LISTED, ECHOED)):
        async with serving(cors_origins=setting, max_upload=1000) as api:
            answer = await api.ask(method, path, **asked)
            assert (answer.status, told(answer)) == (status, {**allowed, **EXPOSED})


@pytest.mark.parametrize(("trouble", "status"), [(ZeroDivisionError(), 500), (Unavailable(), 503)])
async def test_an_error_of_the_services_own_can_be_read_by_the_page(trouble: Exception, status: int) -> None:
    """And when to come back."""
    async with serving(cors_origins=LISTED) as api:
        api.jobs.trouble = trouble
        answer = await api.ask("GET", "/v1/recognitions", headers={"Origin": PAGE})
        assert (answer.status, told(answer)) == (status, {**ECHOED, **EXPOSED})
        assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.parametrize("setting", ["*", LISTED])
@pytest.mark.parametrize("path", CLOSED)
async def test_other_paths_are_not_for_pages(setting: str, path: str) -> None:
    """Health least of all: it is for whoever runs the service."""
    async with serving(cors_origins=setting) as api:
        assert told(await api.ask("GET", path, headers={"Origin": PAGE})) == {}
        asked = await preflight(api, path)
        assert (asked.status, told(asked)) == (405 if path.startswith("/health") else 404, {})


@pytest.mark.parametrize("setting", ["", "  "])
async def test_off_there_is_no_such_thing(setting: str) -> None:
    """No header on any answer, and OPTIONS is a method like others that the path does not take."""
    async with serving(cors_origins=setting) as api:
        asked = await preflight(api, "/v1/recognitions")
        assert (asked.status, told(asked), asked.headers["Allow"]) == (405, {}, "GET, POST")
        assert asked.body["code_description"] == "Method Not Allowed"
        for auth in (("apikey", KEY), None):
            assert told(await api.ask("GET", "/v1/recognitions", auth=auth, headers={"Origin": PAGE})) == {}


@pytest.mark.parametrize("missing", ["Origin", "Access-Control-Request-Method"])
async def test_options_that_is_no_preflight_is_a_method_like_others(missing: str) -> None:
    """Both headers make a preflight (Fetch, "CORS-preflight request"); a `*` answers nobody in particular."""
    headers = {name: value for name, value in {"Origin": PAGE, **ASKED}.items() if name != missing}
    async with serving(cors_origins="*") as api:
        answer = await api.ask("OPTIONS", "/v1/recognitions", auth=None, headers=headers)
        assert (answer.status, told(answer)) == (405, {**ANY, **EXPOSED})


async def test_credentials_and_private_networks_are_never_granted() -> None:
    """Whatever is asked for."""
    wishes = {"Access-Control-Request-Private-Network": "true", "Cookie": "a=b"}
    async with serving(cors_origins=PAGE) as api:
        for method in ("OPTIONS", "GET"):
            answer = await api.ask(method, "/v1/recognitions", headers={"Origin": PAGE, **ASKED, **wishes})
            assert set(told(answer)) <= {*ECHOED, *GRANTED, *EXPOSED}


async def test_a_preflight_is_one_line_in_the_log() -> None:
    """Like every request, without the origin, which a client sent."""
    async with serving(cors_origins="*") as api:
        with capture_logs() as lines:
            await preflight(api, "/instances/i/v1/recognitions/x", "https://canary.example")
        [line] = lines
        assert (line["method"], line["route"], line["status"]) == (
            "OPTIONS",
            "/instances/{instance}/v1/recognitions/{id}",
            204,
        )
        assert "canary" not in str(lines)


async def test_a_preflight_that_announces_a_body_ends_the_connection() -> None:
    """The body was not invited, so what follows could not be told from it (RFC 9110 §10.1.1)."""
    head = (
        b"OPTIONS /v1/recognitions HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n"
        b"Access-Control-Request-Method: GET\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    )
    async with serving(cors_origins="*") as api:
        reader, writer = await api.connect()
        writer.write(head)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert b"\r\nConnection: close\r\n" in answer
        await hang_up(writer)


@pytest.mark.parametrize("setting", ["*", LISTED])
async def test_where_nothing_could_be_parsed_no_origin_is_known(setting: str) -> None:
    """An answer to what is no HTTP says nothing about origins."""
    async with serving(cors_origins=setting) as api:
        answer = await api.talk(f"GET /v1/recognitions HTTP/9.9\r\nHost: x\r\nOrigin: {PAGE}\r\n\r\n".encode())
        assert b" 400 Bad Request\r\n" in answer
        assert b"Access-Control" not in answer
        assert b"Vary" not in answer


@pytest.mark.parametrize(("setting", "allowed"), [("*", ANY), (LISTED, ECHOED)])
async def test_the_connections_own_answer_can_be_read_by_the_page(
    setting: str, allowed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the application itself fails, the request is known, and so is its origin."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    async with serving(cors_origins=setting) as api:
        monkeypatch.setattr(app, "_write_line", fail)
        with capture_logs() as lines:
            answer = await api.ask("GET", "/v1/recognitions", headers={"Origin": PAGE})
        assert [line["event"] for line in lines] == ["not a request"]
        assert (answer.status, told(answer)) == (500, {**allowed, **EXPOSED})
