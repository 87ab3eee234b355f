"""What the application and each request carry, by typed keys."""

from aiohttp import web

from api.admission import Admission, Turn
from api.backoff import Backoff
from retention.bootstrap import Retention
from retention.job import TenantId
from retention.settings import Settings
from retention.tenant import Credential

SETTINGS = web.AppKey("SETTINGS", Settings)
RETENTION = web.AppKey("RETENTION", Retention)
ADMISSION = web.AppKey("ADMISSION", Admission)
BACKOFF = web.AppKey("BACKOFF", Backoff)
DOCUMENT = web.AppKey("DOCUMENT", bytes)
"""The OpenAPI document, with `api.operations.BASE` for the address of the service."""

PAGE = web.AppKey("PAGE", str)
"""The page made from it, likewise."""

TRANSACTION: web.RequestKey[str] = web.RequestKey("TRANSACTION")
"""The id of this request, in its log line and in its answer."""

TENANT: web.RequestKey[TenantId] = web.RequestKey("TENANT")
"""Whose credential the request bears. The only source of a tenant."""

CREDENTIAL: web.RequestKey[Credential] = web.RequestKey("CREDENTIAL")
"""The same with its API key, and the limits of both."""

TURN: web.RequestKey[Turn] = web.RequestKey("TURN")
"""Its turn among the requests that bear the same credential."""

JOB: web.RequestKey[str] = web.RequestKey("JOB")
"""The job that the request is about, for its log line. Set only once it was found to be the tenant's own."""
