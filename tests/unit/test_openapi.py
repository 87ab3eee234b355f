"""The served document, the routes, the parameters, the types and the answers say the same."""

import ast
import inspect
import json
import re
import shlex
import warnings
from typing import Any

import pytest
from aiohttp import web
from msgspec import Struct
from openapi_spec_validator import OpenAPIV31SpecValidator

from api import answers, media_types
from api.app import create_app
from api.catalogue import PARAMETERS
from api.identity import Credentials
from retention import results
from retention.notification import Notification
from retention.settings import Settings
from tests.documented import Document, within
from tests.unit.fake_retention import serving

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it has invalid escapes in its docstrings
    from ibm_watson import SpeechToTextV1

_SDK_SAMPLE = re.compile(r"speech\.")


@pytest.fixture
async def document() -> Document:
    """Give the document, as anybody gets it."""
    async with serving() as api:
        answer = await api.ask("GET", "/openapi.json", auth=None)
    return Document(answer.body)


async def test_it_is_openapi_3_1(document: Document) -> None:
    """The specification's own schema says so."""
    OpenAPIV31SpecValidator(document.content).validate()


async def test_every_route_is_described_and_every_description_routed(document: Document) -> None:
    """Under the prefix of an instance are those whose server may have one."""
    routed = set()
    for resource in create_app(Settings(), None).router.resources():  # type: ignore[arg-type] # nothing is served
        methods = {route.method for route in resource}
        assert "*" in methods
        routed |= {(resource.canonical, method) for method in methods - {"*"}}
    described = {(path, method) for path, method, _ in document.operations()}
    alone = {path for path, item in document.content["paths"].items() if "servers" in item}
    prefixed = {(f"/instances/{{instance}}{path}", method) for path, method in described if path not in alone}
    assert routed == described | prefixed
    assert all(len(item["servers"]) == 1 for item in document.content["paths"].values() if "servers" in item)
    assert len(document.content["servers"]) == 2


async def test_the_parameters_of_a_submission_are_those_of_the_catalogue(document: Document) -> None:
    """By name, form and need; what is said of each begins with what it means."""
    described = {
        parameter["name"]: parameter
        for parameter in document.operation("createJob")["parameters"]
        if parameter["in"] == "query"
    }
    assert described.keys() == PARAMETERS.keys()
    for name, parameter in PARAMETERS.items():
        assert described[name]["description"].startswith(parameter.means)
        assert described[name]["schema"] == json.loads(json.dumps(parameter.schema()))
        assert set(described[name].get("x-needs", ())) == set(parameter.needs or ())


async def test_every_type_of_a_body_is_described_and_nothing_else(document: Document) -> None:
    """And every description is referred to."""
    types = {
        name
        for module in (answers, results)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Struct) and kind is not Struct
    } | {Credentials.__name__, Notification.__name__}
    components = document.content["components"]
    assert components["schemas"].keys() == types
    references = {part["$ref"] for part in within(document.content) if isinstance(part, dict) and "$ref" in part}
    assert references == {
        f"#/components/{kind}/{name}" for kind in ("schemas", "responses", "headers") for name in components[kind]
    }


async def test_every_example_is_as_its_schema_says(document: Document) -> None:
    """Those of bodies, and those of parameters."""
    examples = [
        part for part in within(document.content) if isinstance(part, dict) and {"schema", "example"} <= set(part)
    ]
    assert len(examples) > 15
    for part in examples:
        document.validator(part["schema"]).validate(part["example"])


async def test_every_default_is_as_its_schema_says(document: Document) -> None:
    """The defaults of the parameters."""
    schemas = [
        part for part in within(document.content) if isinstance(part, dict) and "default" in part and "type" in part
    ]
    assert len(schemas) > 15
    for schema in schemas:
        document.validator(schema).validate(schema["default"])


async def test_the_types_of_audio_are_taken(document: Document) -> None:
    """None is refused, none that says something is left out, and one that says nothing is among them."""
    content = document.operation("createJob")["requestBody"]["content"]
    names = {media_type.partition(";")[0] for media_type in content}
    assert names == {*media_types._CONTAINERS, *media_types._RAW, "application/octet-stream"}
    assert {media_types.declared(media_type) is None for media_type in content} == {True, False}


async def test_operations_are_called_as_in_the_sdk(document: Document) -> None:
    """The Python examples call methods that exist, with arguments that they take, of the operation's own name."""
    called = set()
    for _, _, operation in document.operations():
        for sample in operation.get("x-codeSamples", ()):
            if sample["lang"] == "python" and _SDK_SAMPLE.match(sample["source"]):
                call = ast.parse(sample["source"], mode="eval").body
                assert isinstance(call, ast.Call)
                assert isinstance(call.func, ast.Attribute)
                assert call.func.attr == re.sub("([A-Z])", r"_\1", operation["operationId"]).lower()
                method = getattr(SpeechToTextV1, call.func.attr)
                inspect.signature(method).bind(
                    None, *call.args, **{str(each.arg): each.value for each in call.keywords}
                )
                called.add(operation["operationId"])
    assert called == {
        *("createJob", "checkJobs", "checkJob", "deleteJob", "listModels", "getModel"),
        *("registerCallback", "unregisterCallback", "deleteUserData"),
    }


async def test_the_curl_examples_call_what_they_stand_at(document: Document) -> None:
    """Method and address are the operation's, and credentials are there where they are needed."""
    for path, method, operation in document.operations():
        for sample in operation.get("x-codeSamples", ()):
            if sample["lang"] == "curl":
                words = shlex.split(sample["source"])
                [address] = [word for word in words if word.startswith("http")]
                sends = {"-d", "--json", "--data-binary"} & set(words)
                assert method == (words[words.index("-X") + 1] if "-X" in words else "POST" if sends else "GET")
                wanted = document.content["servers"][0]["url"] + re.sub(r"\{\w+\}", "[^/]+", path)
                assert re.fullmatch(wanted, address.partition("?")[0])
                assert ("-u" in words) == ("security" not in operation)


@pytest.mark.parametrize(
    ("settings", "host", "base"),
    [
        ({}, "stt.example:8443", "http://stt.example:8443"),
        ({}, '"><script>', "http://127.0.0.1"),
        ({"public_url": "https://stt.example/speech/"}, "other.example", "https://stt.example/speech"),
    ],
)
async def test_the_documents_name_the_address_that_clients_use(settings: dict[str, Any], host: str, base: str) -> None:
    """The operator's, else the one that was used; the page says the same."""
    async with serving(**settings) as api:
        served = await api.ask("GET", "/openapi.json", auth=None, headers={"Host": host})
        assert [server["url"] for server in served.body["servers"]] == [base, f"{base}/instances/{{instance}}"]
        async with api._session.get(f"{api.url}/docs", headers={"Host": host}) as response:
            page = await response.text()
    assert base in page
    for text in (page, json.dumps(served.body)):
        assert "base.invalid" not in text
        assert "<script" not in text


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_a_document_that_is_known_is_not_sent_again(path: str) -> None:
    """By its name, and only by its own."""
    async with serving() as api, api._session.get(api.url + path) as first:
        assert first.headers["Cache-Control"] == "no-cache"
        tag = first.headers["ETag"]
        for known, status in ((tag, 304), ("*", 304), (f'"x", W/{tag}', 304), ('"x"', 200)):
            async with api._session.get(api.url + path, headers={"If-None-Match": known}) as again:
                assert (again.status, again.headers["ETag"]) == (status, tag)
                assert bool(await again.read()) == (status == web.HTTPOk.status_code)
