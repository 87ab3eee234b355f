"""The bodies that clients get (spec 1.3 to 1.6, 1.8, 1.9, 1.11, 1.12); what is made of them is in `api.responses`.

The served document is made from these types, docstrings and all.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from retention.results import Results

Status = Literal["waiting", "processing", "completed", "failed"]
Instant = Annotated[str, Meta(description="UTC, with milliseconds.", extra_json_schema={"format": "date-time"})]
Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


def reference(body: type[Struct]) -> dict[str, Any]:
    """Return how the served document refers to the schema of a body."""
    return {"$ref": f"#/components/schemas/{body.__name__}"}


class Failure(Struct, frozen=True, kw_only=True):
    """Why a job failed, in the place of its results."""

    error: str


ResultsAsWritten = Annotated[Raw, Meta(extra_json_schema={"anyOf": [reference(Results), reference(Failure)]})]
"""Results as the worker has written them, or a Failure, as JSON."""


class CreatedJob(Struct, frozen=True, kw_only=True):
    """A job that was just accepted. `url` is where it can be looked at."""

    id: Id
    status: Status
    created: Instant
    url: str
    warnings: Annotated[
        tuple[str, ...] | UnsetType, Meta(description="What of the query is not honoured, if anything.")
    ] = UNSET


class ListedJob(Struct, frozen=True, kw_only=True):
    """A job in the list."""

    id: Id
    created: Instant
    updated: Instant
    status: Status
    user_token: str | UnsetType = UNSET


class ListedJobs(Struct, frozen=True, kw_only=True):
    """The newest jobs, at most 100, the newest first."""

    recognitions: list[ListedJob]


class CheckedJob(Struct, frozen=True, kw_only=True):
    """A job. `results` is there once it is completed or failed, and has exactly one element."""

    id: Id
    results: tuple[ResultsAsWritten] | UnsetType = UNSET
    created: Instant
    updated: Instant
    status: Status


class RegisteredCallback(Struct, frozen=True, kw_only=True):
    """A registered callback URL, exactly as it was given."""

    status: Literal["created", "already created"]
    url: str


class SupportedFeatures(Struct, frozen=True, kw_only=True):
    """What IBM's models may have. The former generation of models knows no `low_latency`."""

    custom_language_model: bool = False
    custom_acoustic_model: bool = False
    speaker_labels: bool = False
    low_latency: bool | UnsetType = UNSET


class Model(Struct, frozen=True, kw_only=True):
    """A name that `model` may have. `rate` is the least sampling rate that the name stands for, in Hz."""

    name: str
    language: str
    rate: int
    url: str
    supported_features: SupportedFeatures
    description: str


class Models(Struct, frozen=True, kw_only=True):
    """All models."""

    models: list[Model]


class Error(Struct, frozen=True, kw_only=True):
    """Why a request was refused. `code` is the status, `code_description` its phrase."""

    code: int
    code_description: str
    error: str


class IamToken(Struct, frozen=True, kw_only=True):
    """A bearer token. `expires_in` is in seconds, `expiration` a unix time."""

    access_token: str
    refresh_token: str = "not_supported"  # noqa: S105 - the contract's word
    token_type: str = "Bearer"  # noqa: S105 - the same
    expires_in: int
    expiration: int
    scope: str = "ibm openid"


class IamContext(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which request it was."""

    request_id: str


class IamError(Struct, frozen=True, kw_only=True, rename="camel"):
    """Why there is no token, in the form of IBM's IAM."""

    error_code: str
    error_message: str
    error_details: str | UnsetType = UNSET
    context: IamContext


class Token(Struct, frozen=True, kw_only=True):
    """A bearer token."""

    token: str


class Nothing(Struct, frozen=True):
    """An empty object: the status says it all."""


class Ready(Struct, frozen=True):
    """How the process may use Redis: whether what it must not do is refused, if it has a user of its own there."""

    least_privilege: Literal["held", "exceeded", "no user"]
