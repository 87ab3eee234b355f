"""How the served document describes the answers of an operation, by status."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from msgspec import Struct

from api.answers import Error, reference
from api.operations import EVERYWHERE, KEYED, Answer, Operation
from api.problems import Refusal
from api.schemas import plain

JSON = "application/json"

HEADERS: Mapping[str, Any] = {
    "X-Global-Transaction-ID": {
        "description": "The id of the request, for its line in the log.",
        "required": True,
        "schema": {"type": "string"},
    }
}
"""On every answer."""

_OF_REFUSALS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": ("Asks for credentials.", {"type": "string"}),
}
_SHARED: defaultdict[int, list[Refusal]] = defaultdict(list)
for _refusal in (*EVERYWHERE, *KEYED):
    _SHARED[_refusal.status].append(_refusal)


def shared() -> dict[str, Any]:
    """Return the answers that many operations share, by name."""
    return {_name(status): _response(None, refusals) for status, refusals in sorted(_SHARED.items())}


def described(operation: Operation, *, empty: bool) -> dict[str, Any]:
    """Return all answers; where an operation answers and refuses with one status, both are described."""
    refusals: defaultdict[int, list[Refusal]] = defaultdict(list)
    for refusal in operation.all_refusals():
        refusals[refusal.status].append(refusal)
    given = {answer.status: answer for answer in operation.answers}
    found: dict[str, Any] = {}
    for status in sorted(given.keys() | refusals.keys()):
        answer, refused = given.get(status), refusals[status]
        if answer is None and refused == _SHARED.get(status) and not empty:
            found[str(int(status))] = {"$ref": f"#/components/responses/{_name(status)}"}
        else:
            found[str(int(status))] = _response(answer, refused, empty=empty)
            if answer and operation.leads_to:
                found[str(int(status))]["links"] = {id_: _link(id_) for id_ in operation.leads_to}
    return found


def _link(id_: str) -> dict[str, Any]:
    return {"operationId": id_, "parameters": {"id": "$response.body#/id"}}


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "")


def _response(answer: Answer | None, refused: Sequence[Refusal], *, empty: bool = False) -> dict[str, Any]:
    means = [answer.means] if answer else []
    if refused:
        means += [" Or an error:" if answer else "An error:", *(f"\n- {refusal.sentence}" for refusal in refused)]
    content = {} if empty else _content(answer, refused)
    return {
        "description": "".join(means),
        "headers": {
            **{name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS},
            **_headers(answer, refused),
        },
        **({"content": content} if content else {}),
    }


def _headers(answer: Answer | None, refused: Sequence[Refusal]) -> dict[str, Any]:
    """Return the headers of a status; one that some ways to answer with it lack is not required."""
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    ways = [set(refusal.headers) for refusal in refused]
    if answer:
        ways.append(set(answer.headers))
        known = {name: (text, {"type": "string"}) for name, text in answer.headers.items()}
    for refusal in refused:
        known |= {name: _OF_REFUSALS[name] for name in refusal.headers}
    return {
        name: {"description": text, "required": all(name in way for way in ways), "schema": schema}
        for name, (text, schema) in known.items()
    }


def _content(answer: Answer | None, refused: Sequence[Refusal]) -> dict[str, Any]:
    if answer and answer.media_type:
        return {answer.media_type: {}}
    bodies: list[type[Struct]] = [type(answer.example)] if answer and answer.example else []
    if refused:
        bodies.append(Error)
    forms = [reference(body) for body in bodies]
    if not forms:
        return {}
    example = {"example": plain(answer.example)} if answer and answer.example else {}
    return {JSON: {"schema": forms[0] if len(forms) == 1 else {"anyOf": forms}, **example}}
