"""What schemathesis cannot know: which audio is audio, which URLs are registered, which keys are good.

Loaded by schemathesis itself. Only requests that should be accepted are completed so; the others go out as they are.
"""

import itertools
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext
from urllib3.util import connection

from api.media_types import taken
from tests.acceptance.client import addresses
from tests.contract.audio import samples

_RECEIVER = os.environ["VOLANT_RECEIVER"]
_APIKEY = os.environ["VOLANT_APIKEY"]
_LABEL = "X-Watson-Metadata"

_numbers = itertools.count()
_connect = connection.create_connection


def _connect_from_elsewhere(*args: Any, **options: Any) -> Any:
    """Connect from an address of its own: wrong credentials are counted by address, and then answered with 429."""
    return _connect(*args, **options | {"source_address": (next(addresses), 0)})


connection.create_connection = _connect_from_elsewhere

for media_type in taken():
    schemathesis.openapi.media_type(media_type, st.sampled_from(samples(media_type)))


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Complete a request that should be accepted."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if case.query and "callback_url" in case.query:
        # What jobs name stays registered for the whole run, whatever else is registered and taken back.
        own = case.path != "/v1/recognitions"
        case.query["callback_url"] = f"{_RECEIVER}/{next(_numbers) % 4}" if own else _RECEIVER
    if case.headers and "customer_id" not in case.headers.get(_LABEL, "customer_id"):
        # In its coverage phase schemathesis 4.32 takes 0 for a good value of a header that has a pattern.
        case.headers[_LABEL] = f"customer_id={next(_numbers)}"
    if isinstance(case.body, dict):
        case.body |= {"/identity/token": {"apikey": _APIKEY}, "/v1/authorize": {"api_key": _APIKEY}}[case.path]
