"""Answers held against the served document: status, headers, body, and the words of refusals."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from api.answers import Error


def within(thing: Any) -> list[Any]:
    """Return a thing and all that it holds."""
    parts = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list) else ()
    return [thing, *(each for part in parts for each in within(part))]


class Document:
    """A served document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.content = document
        self._components = {"components": document["components"]}

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield path, method and operation of all."""
        for path, item in self.content["paths"].items():
            for method, operation in item.items():
                if method != "servers":
                    yield path, method.upper(), operation

    def operation(self, id_: str) -> dict[str, Any]:
        """Return the operation of this id."""
        [found] = [operation for _, _, operation in self.operations() if operation["operationId"] == id_]
        return found

    def responses(self, operation: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
        """Return what is said of its answers, by status."""
        return {int(status): self.resolved(response) for status, response in operation["responses"].items()}

    def resolved(self, thing: dict[str, Any]) -> dict[str, Any]:
        """Return a thing, or what it refers to."""
        while "$ref" in thing:
            _, *names = thing["$ref"].split("/")
            thing = self.content
            for name in names:
                thing = thing[name]
        return thing

    def validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        """Return what tells whether values are of a schema of the document, formats included."""
        return Draft202012Validator({**schema, **self._components}, format_checker=Draft202012Validator.FORMAT_CHECKER)

    def check(self, id_: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """Fail the test if an operation could not answer so, by what the document says of it."""
        responses = self.responses(self.operation(id_))
        assert status in responses, f"{id_} may not answer {status}"
        said = responses[status]
        for name, described in said["headers"].items():
            header = self.resolved(described)
            assert name in headers or not header["required"], f"{id_}, {status}: {name} is missing"
            if name in headers:
                value = int(headers[name]) if header["schema"]["type"] == "integer" else headers[name]
                self.validator(header["schema"]).validate(value)
        for name in {"Retry-After", "WWW-Authenticate", "ETag"} & headers.keys():
            assert name in said["headers"], f"{id_}, {status}: nothing is said of {name}"
        if not content:
            assert "content" not in said, f"{id_}, {status}: a body is missing"
            return
        media = said["content"][headers["Content-Type"].partition(";")[0]]
        if not media:
            return
        body = json.loads(content)
        self.validator(media["schema"]).validate(body)
        if set(body) == set(Error.__struct_fields__):
            assert any(_is(body["error"], sentence) for sentence in _sentences(said)), f"{id_}, {status}: {body}"


def _sentences(response: Mapping[str, Any]) -> list[str]:
    return [str(line) for line in response["description"].split("\n- ")[1:]]


def _is(text: str, sentence: str) -> bool:
    """Tell whether it is this sentence, with whatever for `…`."""
    return re.fullmatch(".*".join(map(re.escape, sentence.split("…"))), text, re.DOTALL) is not None
