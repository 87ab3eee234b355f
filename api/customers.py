"""Whose data a request is about: the label that it bears, and the erasure of all that bears one (spec 6.1, 6.2)."""

import re

from aiohttp import web

from api import responses
from api.context import RETENTION, TENANT
from api.problems import Problem

_ID = re.compile(r"[^;=]{1,256}")


async def erase(request: web.Request) -> web.Response:
    """Erase a customer: once this is answered nothing of theirs is left. No data is no error (spec 1.7)."""
    ids = request.query.getall("customer_id", [""])
    id_ = ids[0].strip()
    if len(ids) > 1 or not _ID.fullmatch(id_):
        raise Problem(400, "'customer_id' must be the id of one customer: 1 to 256 characters, none of them ';' or '='")
    await request.app[RETENTION].jobs.erase_customer(request[TENANT], id_)
    return responses.done()


def customer_of(request: web.Request) -> str | None:
    """Return the customer id of `X-Watson-Metadata`, or None without the header (spec 6.1).

    Raises Problem 400 for anything else than one `customer_id=…`: a privacy label is never dropped silently.
    """
    headers = request.headers.getall("X-Watson-Metadata", [])
    if not headers:
        return None
    raw = headers[0].encode(errors="surrogateescape")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    # Blanks are not left to an expression: it would try every way to share them out, and keep all others waiting.
    name, _, value = text.partition("=")
    id_ = value.strip()
    if len(headers) > 1 or name.strip() != "customer_id" or not _ID.fullmatch(id_):
        raise Problem(400, "'X-Watson-Metadata' must be customer_id={id}, the id without ';' and '='")
    return id_
