"""How a client asks for a token, and how it shows one."""

import json
from typing import Any
from urllib.parse import urlencode

from api.identity import GRANT
from tests.unit.fake_retention import Answer, Api

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_JSON = {"Content-Type": "application/json"}


async def buy(api: Api, key: str | None, *, grant: str | None = GRANT, prefix: str = "", **headers: str) -> Answer:
    """Ask for a token as IBM's SDK does of IAM; None leaves the field out."""
    fields = {"grant_type": grant, "apikey": key, "response_type": "cloud_iam"}
    form = urlencode({name: value for name, value in fields.items() if value is not None})
    return await api.ask("POST", f"{prefix}/identity/token", form, auth=None, headers={**_FORM, **headers})


async def authorize(api: Api, body: Any, prefix: str = "") -> Answer:
    """Ask for a token as IBM's SDK does of Cloud Pak for Data; `bytes` are sent as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body)
    return await api.ask("POST", f"{prefix}/v1/authorize", data, auth=None, headers=_JSON)


async def show(api: Api, authorization: str) -> Answer:
    """List the jobs, with this header."""
    return await api.ask("GET", "/v1/recognitions", auth=None, headers={"Authorization": authorization})
