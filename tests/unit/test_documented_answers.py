"""Every answer that the document knows is really given, and every answer that is given is in the document."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec import Struct
from yarl import URL

from api.operations import Operation
from api.routes import ALONE, SERVICE
from retention.errors import (
    ChallengeFailed,
    CustomerErased,
    KeyDisabled,
    LimitReached,
    RetentionError,
    TooManyChallenges,
    Unavailable,
)
from retention.job import JobId, accept, claim, complete, fail, new_job_id
from retention.limits import QUOTAS
from tests.documented import Document
from tests.unit.fake_retention import ALICE, KEY, NOW, WAV, Api, serving

CALLBACK = "http://receiver.example/"
WAITING, PROCESSING, COMPLETED, FAILED, NONE = (new_job_id() for _ in range(5))
RESULTS = b"""{"result_index": 0, "warnings": ["Unknown arguments: a."], "results": [{"final": true, "alternatives":
[{"transcript": "go ", "confidence": 0.9, "timestamps": [["go", 0.1, 0.2]], "word_confidence": [["go", 0.9]]}]}]}"""

OPERATIONS = {
    operation.id + ("Head" if method == "HEAD" else ""): (method, path, operation)
    for table in (SERVICE, ALONE)
    for path, operations in table.items()
    for method, operation in operations.items()
}
KEYED = [id_ for id_, (_, _, operation) in OPERATIONS.items() if operation.keyed]


class Ask(Struct, frozen=True, kw_only=True):
    """A request of an operation, and the status of its answer. `troubles` are raised by the part so named.

    `served`: whether the tenant is, by the listener that is asked.
    """

    id: str
    status: int
    query: Mapping[str, str] = {}
    job: JobId = WAITING
    model: str = "en-US_BroadbandModel"
    data: Any = None
    headers: Mapping[str, str] = {}
    key: str = KEY
    troubles: Mapping[str, Exception] = {}
    served: bool = True


def submit(
    status: int,
    data: Any = WAV,
    *,
    headers: Mapping[str, str] | None = None,
    trouble: Exception | None = None,
    **query: str,
) -> Ask:
    """Submit audio."""
    troubles = {"jobs": trouble} if trouble else {}
    return Ask(id="createJob", status=status, data=data, headers=headers or {}, query=query, troubles=troubles)


def register(status: int, error: RetentionError | None = None, *, label: str = "", **query: str) -> Ask:
    """Register a callback URL."""
    headers = {"X-Watson-Metadata": label} if label else {}
    troubles = {"callbacks": error} if error else {}
    return Ask(id="registerCallback", status=status, query=query, headers=headers, troubles=troubles)


def buy(id_: str, status: int, data: Any, key: str = "") -> Ask:
    """Buy a token."""
    kind = "application/json" if id_ == "authorize" else "application/x-www-form-urlencoded"
    return Ask(id=id_, status=status, data=data, key=key, headers={"Content-Type": kind})


async def stalling() -> AsyncIterator[bytes]:
    """Begin a body, and send nothing more."""
    yield WAV
    await asyncio.Event().wait()


FORM = "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey="
UNSERVED = [buy("getIamToken", 403, FORM + KEY), buy("authorize", 403, f'{{"api_key": "{KEY}"}}')]
ASKED = [
    submit(201),
    submit(201, timestamps="TRUE", max_alternatives="3", nonsense="1", low_latency="1"),
    submit(201, callback_url=CALLBACK, user_token="job25", events="recognitions.failed"),
    submit(400, b"short"),
    submit(400, headers={"Content-Type": "audio/l16"}),
    submit(400, headers={"Content-Type": "audio/l16; rate=1"}),
    submit(400, b"x" * 200, headers={"Content-Type": "audio/flac"}),
    submit(400, headers={"Content-Encoding": "gzip"}),
    submit(400, headers={"X-Watson-Metadata": "x"}),
    submit(400, timestamps="maybe"),
    submit(400, results_ttl="0"),
    submit(400, keywords_threshold="2"),
    submit(400, sad_module="1.5"),
    submit(400, user_token="x" * 4097),
    submit(400, keywords="x" * 1025),
    submit(400, events="x"),
    submit(400, events="recognitions.completed,recognitions.completed_with_results"),
    submit(400, redaction="true"),
    submit(400, grammar_name="x"),
    submit(400, callback_url="http://another.example/"),
    submit(404, model="x"),
    submit(408, stalling()),
    submit(413, bytes(3000)),
    submit(413, gzip.compress(WAV + bytes(3000)), headers={"Content-Encoding": "gzip"}),
    submit(415, headers={"Content-Type": "video/mp4"}),
    submit(415, headers={"Content-Encoding": "br"}),
    submit(415, b"x" * 200),
    Ask(id="createJob", status=503, data=WAV, troubles={"jobs": Unavailable()}),
    Ask(id="createJob", status=400, data=WAV, troubles={"jobs": CustomerErased()}),
    *(Ask(id=id_, status=403, data=data, troubles={"jobs": KeyDisabled()})
      for id_, data in (("createJob", WAV), ("checkJobs", None), ("checkJob", None))),
    register(403, KeyDisabled(), callback_url=CALLBACK),
    Ask(id="checkJobs", status=200),
    *(Ask(id="checkJob", status=200, job=job) for job in (WAITING, PROCESSING, COMPLETED, FAILED)),
    Ask(id="checkJob", status=404, job=NONE),
    Ask(id="deleteJob", status=204),
    Ask(id="deleteJob", status=400, job=PROCESSING),
    Ask(id="deleteJob", status=404, job=NONE),
    Ask(id="listModels", status=200),
    Ask(id="getModel", status=200),
    Ask(id="getModel", status=200, model="en-US_Telephony"),
    Ask(id="getModel", status=404, model="x"),
    register(200, callback_url=CALLBACK),
    register(201, callback_url="http://new.example/", user_secret="s"),
    register(400),
    register(400, callback_url=CALLBACK, user_secret="\n"),
    register(400, callback_url=CALLBACK, label="x"),
    register(400, ChallengeFailed("callback server responded with status code 406"), callback_url=CALLBACK),
    register(400, CustomerErased(), callback_url=CALLBACK),
    register(429, TooManyChallenges(timedelta(minutes=5)), callback_url=CALLBACK),
    Ask(id="unregisterCallback", status=200, query={"callback_url": CALLBACK}),
    Ask(id="unregisterCallback", status=400),
    Ask(id="unregisterCallback", status=404, query={"callback_url": "http://another.example/"}),
    Ask(id="deleteUserData", status=200, query={"customer_id": "42"}),
    Ask(id="deleteUserData", status=400, query={"customer_id": "a=b"}),
    buy("getIamToken", 200, FORM + KEY),
    buy("getIamToken", 400, FORM + "wrong"),
    buy("getIamToken", 400, "grant_type=password&apikey=" + KEY),
    buy("authorize", 200, f'{{"username": "anybody", "password": "{KEY}"}}'),
    buy("authorize", 401, "{}"),
    *(msgspec.structs.replace(ask, served=False) for ask in (*(Ask(id=id_, status=403) for id_ in KEYED), *UNSERVED)),
    *(buy(id_, 408, stalling()) for id_ in ("getIamToken", "authorize")),
    *(buy(id_, 413, bytes(9000)) for id_ in ("getIamToken", "authorize")),
    *(
        Ask(id=id_, status=status, data=data, key="", troubles={"tenants": error})
        for id_, data in (("getIamToken", FORM + "x"), ("authorize", '{"api_key": "x"}'))
        for status, error in ((500, ZeroDivisionError()), (503, Unavailable()))
    ),
    *(
        Ask(id=id_, status=status, key=key, troubles=troubles)
        for id_ in KEYED
        for status, key, troubles in (
            (401, "", {}),
            (401, "wrong", {}),
            (500, KEY, {"tenants": ZeroDivisionError()}),
            (503, KEY, {"tenants": Unavailable()}),
        )
    ),
    *(Ask(id=id_, status=429, troubles={"tenants": LimitReached("polls", timedelta(seconds=3))}) for id_ in KEYED),
    *(
        Ask(id=id_, status=429, data=data, key="", troubles={"tenants": LimitReached("tokens", timedelta(hours=3))})
        for id_, data in (("getIamToken", FORM + KEY), ("authorize", f'{{"api_key": "{KEY}"}}'))
    ),
    *(submit(429, trouble=LimitReached(quota, timedelta(seconds=10))) for quota in QUOTAS),
    *(
        Ask(id=id_, status=status, key="", headers=headers)
        for id_ in ("openapi", "openapiHead", "docs", "docsHead")
        for status, headers in ((200, {}), (304, {"If-None-Match": "*"}))
    ),
    *(Ask(id=id_, status=200, key="") for id_ in ("live", "liveHead", "ready", "readyHead")),
    *(
        Ask(id=id_, status=status, key="", troubles={"jobs": error})
        for id_ in ("ready", "readyHead")
        for status, error in ((500, ZeroDivisionError()), (503, Unavailable()))
    ),
]  # fmt: skip
TOO_MANY = [*((id_, None) for id_ in KEYED), ("getIamToken", FORM + "x"), ("authorize", '{"api_key": "x"}')]


@asynccontextmanager
async def prepared() -> AsyncIterator[tuple[Api, Document]]:
    """Serve the API with a job of each status and a registered URL; give its document, too."""
    async with serving(max_upload=2000, upload_stall=timedelta(seconds=1)) as api:
        for job in (WAITING, PROCESSING, COMPLETED, FAILED):
            waiting = accept(job, ALICE, now=NOW, results_ttl=timedelta(hours=1), patience=timedelta(days=7))
            processing = claim(waiting, now=NOW, holder="x")
            if job == WAITING:
                api.jobs.keep(waiting)
            elif job == PROCESSING:
                api.jobs.keep(processing)
            elif job == COMPLETED:
                api.jobs.keep(complete(processing, now=NOW), RESULTS)
            else:
                api.jobs.keep(fail(processing, "undecodable", now=NOW))
        api.jobs.tokens[COMPLETED] = "job25"
        api.callbacks.known[CALLBACK] = None
        yield api, Document((await api.ask("GET", "/openapi.json", auth=None)).body)


def target(ask: Ask) -> tuple[str, str, Operation]:
    """Return method, path and operation."""
    method, path, operation = OPERATIONS[ask.id]
    return method, path.format(id=ask.job, model=ask.model), operation


async def answered(api: Api, ask: Ask) -> tuple[int, Mapping[str, str], bytes]:
    """Send it."""
    method, path, _ = target(ask)
    headers = {**ask.headers, **({"Authorization": aiohttp.encode_basic_auth("apikey", ask.key)} if ask.key else {})}
    async with api._session.request(
        method,
        URL(api.url + path).with_query(dict(ask.query)),
        data=ask.data,
        headers=headers,
        skip_auto_headers=["Content-Type"],
    ) as response:
        return response.status, response.headers, await response.read()


@pytest.mark.parametrize("ask", ASKED, ids=[f"{number} {ask.id} {ask.status}" for number, ask in enumerate(ASKED)])
async def test_an_answer_is_as_the_document_says(ask: Ask) -> None:
    """Its status, its headers, its body, and the sentence of a refusal."""
    async with prepared() as (api, document):
        for name, error in ask.troubles.items():
            getattr(api, name).trouble = error
        if not ask.served:
            api.tenants.serve("private")
        status, headers, content = await answered(api, ask)
        assert status == ask.status, content
        document.check(ask.id, status, headers, content)


@pytest.mark.parametrize(("id_", "data"), TOO_MANY, ids=[id_ for id_, _ in TOO_MANY])
async def test_too_many_wrong_credentials_are_answered_as_the_document_says(id_: str, data: str | None) -> None:
    """By every operation that takes any."""
    async with prepared() as (api, document):
        for _ in range(10):
            assert (await answered(api, Ask(id="checkJobs", status=401, key="wrong")))[0] == 401
        status, headers, content = await answered(api, Ask(id=id_, status=429, key="wrong", data=data))
        assert status == 429
        document.check(id_, status, headers, content)


@pytest.mark.parametrize("id_", OPERATIONS)
async def test_what_is_not_http_is_answered_as_the_document_says(id_: str) -> None:
    """Whatever it was meant for."""
    async with prepared() as (api, document):
        method, path, _ = target(Ask(id=id_, status=400))
        for status, rest in ((400, " HTTP/1.1\r\nno header\r\n\r\n"), (414, "?" + "x" * (1 << 16))):
            raw = await api.talk(f"{method} {path}{rest}".encode())
            head, _, content = raw.partition(b"\r\n\r\n")
            line, *lines = head.decode().split("\r\n")
            headers = dict(re.split(": ", header, maxsplit=1) for header in lines)
            assert f" {status} " in line
            # That it was a HEAD is not known of what could not be parsed: its body comes.
            document.check(id_.removesuffix("Head"), status, headers, content)


async def test_no_answer_is_on_paper_only() -> None:
    """The requests here get every answer of the document, but the internal error of what has nothing to break."""
    async with prepared() as (_, document):
        described = {
            (operation["operationId"], status)
            for _, _, operation in document.operations()
            for status in document.responses(operation)
        }
    given = {(ask.id, ask.status) for ask in ASKED} | {(id_, 429) for id_, _ in TOO_MANY} | {
        (id_, status) for id_ in OPERATIONS for status in (400, 414)
    }  # fmt: skip
    unbreakable = {(id_, 500) for id_ in OPERATIONS if id_.removesuffix("Head") in ("live", "openapi", "docs")}
    assert given | unbreakable == described


@pytest.mark.parametrize(
    ("status", "headers", "content"),
    [
        (418, {}, b"{}"),
        (200, {}, b'{"recognitions": []}'),
        (200, {"X-Global-Transaction-ID": "x"}, b"{}"),
        (401, {"X-Global-Transaction-ID": "x"}, b'{"code": 401, "code_description": "", "error": "Unauthorized"}'),
        (200, {"X-Global-Transaction-ID": "x"}, b""),
    ],
)
async def test_the_check_finds_what_is_not_as_the_document_says(
    status: int, headers: dict[str, str], content: bytes
) -> None:
    """An unknown status, a missing header, another body, another one, none."""
    async with prepared() as (_, document):
        document.check("checkJobs", 200, {"X-Global-Transaction-ID": "x", "Content-Type": "application/json"},
                       b'{"recognitions": []}')  # fmt: skip
        with pytest.raises(Exception, match=r"may not|missing|required"):
            document.check("checkJobs", status, {"Content-Type": "application/json", **headers}, content)
