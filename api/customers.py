"""Whose data a request is about: the label that it bears, and the erasure of all that bears one (spec 6.1, 6.2)."""

import re
from urllib.parse import unquote_to_bytes

from aiohttp import web

from api import responses
from api.context import RETENTION, TENANT
from api.operations import Answer, Field, Operation
from api.problems import ANSWERS, Refusal
from retention.errors import CustomerErased
from retention.limits import COSTLY

_ID = re.compile(r"[^;=]{1,256}")
_BLANKS = " \t"
_ID_AND_BLANKS = r"[ \t]*[^;= \t]([^;=]{0,254}[^;= \t])?[ \t]*"
"""The same with the blanks that do not count, for the served document only: to match it may take long."""

_WRONG_ID = Refusal(400, "'customer_id' must be the id of one customer: 1 to 256 characters, none of them ';' or '='")
_WRONG_LABEL = Refusal(400, "'X-Watson-Metadata' must be customer_id={id}, the id without ';' and '='")


async def erase(request: web.Request) -> web.Response:
    """Erase a customer: once this is answered nothing of theirs is left. No data is no error (spec 1.7)."""
    # Not from `request.query`, in which what is no UTF-8 stays as it was quoted: that is nobody's id.
    query = request.rel_url.raw_query_string.encode(errors="surrogateescape").replace(b"+", b" ")
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    ids = [unquote_to_bytes(value) for name, _, value in pairs if unquote_to_bytes(name) == b"customer_id"] or [b""]
    id_ = _text(ids[0]).strip(_BLANKS)
    if len(ids) > 1 or not _ID.fullmatch(id_):
        raise _WRONG_ID.problem()
    await request.app[RETENTION].jobs.erase_customer(request[TENANT], id_)
    return responses.done()


def customer_of(request: web.Request) -> str | None:
    """Return the customer id of `X-Watson-Metadata`, or None without the header (spec 6.1).

    Raises Problem 400 for anything else than one `customer_id=…`: a privacy label is never dropped silently.
    """
    headers = request.headers.getall("X-Watson-Metadata", [])
    if not headers:
        return None
    text = _text(headers[0].encode(errors="surrogateescape"))
    # Blanks are not left to an expression: it would try every way to share them out, and keep all others waiting.
    name, _, value = text.partition("=")
    id_ = value.strip(_BLANKS)
    if len(headers) > 1 or name.strip(_BLANKS) != "customer_id" or not _ID.fullmatch(id_):
        raise _WRONG_LABEL.problem()
    return id_


def _text(raw: bytes) -> str:
    """Read the bytes of a label: UTF-8, or else Latin-1, as clients send headers."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


ERASE = Operation(
    handler=erase,
    id="deleteUserData",
    tag="Customers",
    counts=COSTLY,
    long=True,
    summary="Erase a customer",
    means="Deletes all that bears the label, in whatever state it is: jobs, audio, results, callback URLs and"
    " notifications. No data is no error.",
    fields=(
        Field(
            name="customer_id",
            where="query",
            means="The id by which jobs and callback URLs were labelled. Blanks around it do not count.",
            schema={"type": "string", "pattern": f"^{_ID_AND_BLANKS}$"},
            required=True,
            example="42",
        ),
    ),
    answers=(Answer(status=200, means="Nothing of the customer is left."),),
    refusals=(_WRONG_ID,),
    query="?customer_id=42",
    arguments="-X DELETE",
    python="speech.delete_user_data('42')",
)
LABEL = Field(
    name="X-Watson-Metadata",
    where="header",
    means="Labels with a customer, whose data `DELETE /v1/user_data` erases: `customer_id=` and an id of up to 256"
    " characters, none of them `;` or `=`.",
    schema={"type": "string", "pattern": rf"^[ \t]*customer_id[ \t]*={_ID_AND_BLANKS}$"},
    example="customer_id=42",
)
LABEL_REFUSALS = (_WRONG_LABEL, ANSWERS[CustomerErased])
