"""What is served at one path by one method: the handler, and all that the served document says of it.

Routing and the document are made from the same objects, so neither can have what the other has not. A sentence of a
refusal may have `…` where the client's own words, or a number, come in.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from api.auth import Handler
from api.problems import (
    INTERNAL,
    LIMITED,
    MALFORMED,
    NOT_FROM_HERE,
    TOO_LONG,
    UNAUTHORIZED,
    UNAVAILABLE,
    WRONG_CREDENTIALS,
    Refusal,
)
from retention.limits import POLL, Count

BASE = "https://base.invalid"
"""Stands for the address of the service, which depends on the request, in everything that is made at the start."""

USER_TOKEN = "job25"  # noqa: S105 - it is no secret
"""In examples."""

EVERYWHERE = (MALFORMED, TOO_LONG, INTERNAL)
"""What every request may meet."""

KEYED = (UNAUTHORIZED, NOT_FROM_HERE, WRONG_CREDENTIALS, LIMITED, UNAVAILABLE)
"""What requests may meet that need credentials."""


class Field(Struct, frozen=True, kw_only=True):
    """One parameter. `schema` is JSON Schema, `needs` what of an engine it takes to be honoured."""

    name: str
    where: Literal["query", "header", "path"]
    means: str
    schema: Mapping[str, Any]
    required: bool = False
    example: str | None = None
    needs: tuple[str, ...] = ()


class Body(Struct, frozen=True, kw_only=True):
    """What is sent: the schema for each media type; None for bytes of any kind."""

    means: str
    content: Mapping[str, Mapping[str, Any] | None]


class Answer(Struct, frozen=True, kw_only=True):
    """One way to answer. `example` is of the type that the handler makes; another body has a `media_type` alone."""

    status: int
    means: str
    example: Struct | None = None
    media_type: str = ""
    headers: Mapping[str, str] = {}


class Told(Struct, frozen=True, kw_only=True):
    """What the service itself sends to a URL of the client."""

    method: Literal["get", "post"]
    means: str
    fields: tuple[Field, ...] = ()
    example: Struct | None = None
    answers: Mapping[str, str]


class Operation(Struct, frozen=True, kw_only=True):
    """One operation. `id` is, for what IBM's SDKs call, the name of the method there.

    `arguments` are curl's, beside the credentials and the address, and `query` is in that address; `python` is the
    same with IBM's SDK. `counts` is what requests are counted as, if they bear credentials; `long`
    ones let others of the same credential be served meanwhile. `leads_to` are the ids of
    operations that take the `id` of the answer.
    """

    handler: Handler
    id: str
    tag: str
    summary: str
    means: str = ""
    keyed: bool = True
    counts: Count = POLL
    long: bool = False
    fields: tuple[Field, ...] = ()
    body: Body | None = None
    answers: tuple[Answer, ...]
    refusals: tuple[Refusal, ...] = ()
    tells: Mapping[str, Told] = {}
    leads_to: tuple[str, ...] = ()
    query: str = ""
    arguments: str = ""
    python: str = ""

    def all_refusals(self) -> Iterator[Refusal]:
        """Yield the refusals of its own, and those that every request may meet, with credentials or without."""
        yield from self.refusals
        if self.keyed:
            yield from KEYED
        yield from EVERYWHERE
