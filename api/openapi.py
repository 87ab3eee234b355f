"""The OpenAPI 3.1 document, made from the tables of routes."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from msgspec import Struct

from api import answers, statuses
from api.identity import Credentials
from api.operations import BASE, Body, Field, Operation, Told
from api.schemas import plain, schemas
from retention.results import Results

Table = Mapping[str, Mapping[str, Operation]]

_TAGS = {
    "Jobs": "Audio in, words out. A job is waiting, processing, and then completed or failed; its result is there"
    " until its `results_ttl` is over.",
    "Models": "What is served.",
    "Callbacks": "URLs of yours that are told how jobs go.",
    "Customers": "Whose data it is, and how it is erased.",
    "Tokens": "Bearer tokens for an API key. Without them the key itself will do.",
    "Health": "For whoever runs the service.",
    "Documents": "What you are reading.",
}
_ABOUT = f"""\
A self-hosted speech-recognition job service with the asynchronous interface of IBM Watson Speech to Text: IBM's own
SDKs work against it.

Credentials are an API key, as the password of whatever user, or a bearer token that was bought with one. The instance
in a path means nothing: the credentials alone tell whose jobs these are. In the examples, `$APIKEY` and `apikey` are
the key, and `speech` is IBM's SDK (`pip install ibm-watson`):

    from ibm_cloud_sdk_core.authenticators import BasicAuthenticator
    from ibm_watson import SpeechToTextV1
    speech = SpeechToTextV1(authenticator=BasicAuthenticator("apikey", apikey))
    speech.set_service_url("{BASE}")

A refusal is an `Error` unless something else is said, and every answer bears an `X-Global-Transaction-ID`, by which its
line in the log is found.
A path that takes no such method answers 405 with `Allow`, a path that is unknown 404."""
_SECURITY = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The API key as the password, under whatever user name.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token from `/identity/token` or `/v1/authorize`."},
}


_HERE = {"url": BASE, "description": "The service."}
_WITH_INSTANCE = {
    "url": f"{BASE}/instances/{{instance}}",
    "description": "The same with an instance, as IBM hands URLs out. The instance may be anything without a slash.",
    "variables": {"instance": {"default": "any"}},
}


def document(service: Table, alone: Table) -> dict[str, Any]:
    """Return the document; `alone` are those that are not served under the prefix of an instance, too."""
    sent: list[type[Struct]] = [
        answers.Error,
        Results,
        answers.Failure,
        *dict.fromkeys(_sent(service)),
        *dict.fromkeys(_sent(alone)),
    ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "Volant", "version": version("volant"), "description": _ABOUT},
        "servers": [_HERE, _WITH_INSTANCE],
        "security": [{name: []} for name in _SECURITY],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": {
            **{path: _path(path, operations) for path, operations in service.items()},
            **{path: {"servers": [_HERE], **_path(path, operations)} for path, operations in alone.items()},
        },
        "components": {
            "schemas": schemas(sent=sent, received=[Credentials]),
            "responses": statuses.shared(),
            "headers": statuses.HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


def _sent(table: Table) -> Iterator[type[Struct]]:
    for operations in table.values():
        for operation in operations.values():
            yield from (type(answer.example) for answer in operation.answers if answer.example)
            yield from (type(told.example) for told in operation.tells.values() if told.example)


def _path(path: str, operations: Mapping[str, Operation]) -> dict[str, Any]:
    return {method.lower(): _operation(path, method, operation) for method, operation in operations.items()}


def _operation(path: str, method: str, operation: Operation) -> dict[str, Any]:
    head = method == "HEAD"
    described: dict[str, Any] = {
        "operationId": operation.id + ("Head" if head else ""),
        "tags": [operation.tag],
        "summary": operation.summary,
        **({"description": operation.means} if operation.means else {}),
        **({} if operation.keyed else {"security": []}),
    }
    if operation.fields:
        described["parameters"] = [_parameter(field) for field in operation.fields]
    if operation.body:
        described["requestBody"] = _body(operation.body)
    described["responses"] = statuses.described(operation, empty=head)
    if operation.tells:
        described["callbacks"] = {name: _told(told) for name, told in operation.tells.items()}
    return described | ({} if head else {"x-codeSamples": list(_samples(path, operation))})


def _parameter(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "in": field.where,
        "description": field.means,
        **({"required": True} if field.required else {}),
        **({"style": "form", "explode": False} if field.schema.get("type") == "array" else {}),
        "schema": field.schema,
        **({"example": field.example} if field.example else {}),
        **({"x-needs": field.needs} if field.needs else {}),
    }


def _body(body: Body) -> dict[str, Any]:
    return {
        "description": body.means,
        "required": True,
        "content": {name: {"schema": schema} if schema else {} for name, schema in body.content.items()},
    }


def _told(told: Told) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": told.means,
        "parameters": [_parameter(field) for field in told.fields],
        "responses": {status: {"description": text} for status, text in told.answers.items()},
    }
    if told.example:
        content = {"schema": answers.reference(type(told.example)), "example": plain(told.example)}
        described["requestBody"] = {"content": {statuses.JSON: content}}
    return {"{$request.query.callback_url}": {told.method: described}}


def _samples(path: str, operation: Operation) -> Iterator[dict[str, str]]:
    for field in operation.fields:
        if field.where == "path":
            path = path.replace(f"{{{field.name}}}", str(field.example))
    parts = ("curl", "-u apikey:$APIKEY" if operation.keyed else "", operation.arguments)
    yield {"lang": "curl", "source": " ".join(filter(None, (*parts, f'"{BASE}{path}{operation.query}"')))}
    if operation.python:
        yield {"lang": "python", "source": operation.python}
