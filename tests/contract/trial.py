"""One trial of the document that a stack serves."""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

from deploy.processes import ROOT
from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.receivers import Receiver

SETTINGS = {
    "callback_loopback": "true",
    "challenges_per_hour": "1000000",
    "drain": "1",
    "limit_submits": "0",
    "limit_polls": "0",
    "limit_tokens": "0",
}
"""The settings of a stack that is tried. The receiver is on this machine, and asked more often than twenty times; at
the end there may be many jobs that nobody waits for.
"""

_CASES_PER_EXAMPLE = 15
"""How many cases there are at least for each example of an operation that schemathesis is asked for."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a trial: the exit status of schemathesis, how many cases there were, and all that it said."""

    status: int
    cases: int
    said: str


async def trial(stack: Stack, directory: Path, *, cases: int, seed: str = "") -> Outcome:
    """Try the document of a stack that has `SETTINGS` and a worker, with at least so many cases."""
    keys = [stack.new_tenant(name)[1] for name in ("key", "token")]
    report, users = directory / "report.json", directory / "users.json"
    users.write_text(json.dumps({"auth": [_with_key(keys[0]), _with_token(keys[1])]}))
    async with Receiver(path="") as receiver:
        for key in keys:
            async with Client(stack.url, key) as client:
                assert (await client.register(receiver.url))[0] == 201
        schemathesis = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", ROOT / "tests/contract/schemathesis.toml", "run", f"{stack.url}/openapi.json"),
            *("--max-examples", str(max(1, cases // _CASES_PER_EXAMPLE)), "--report-json-path", report),
            *(("--seed", seed) if seed else ()),
            cwd=directory,  # it leaves files behind
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SCHEMATHESIS_HOOKS": "tests.contract.hooks",
                "VOLANT_APIKEY": keys[0],
                "VOLANT_RECEIVER": receiver.url,
                "VOLANT_USERS": str(users),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await schemathesis.communicate()
        finally:
            if schemathesis.returncode is None:
                schemathesis.kill()
                await schemathesis.wait()
    assert schemathesis.returncode is not None
    ended = json.loads(report.read_text()) if report.exists() else {"test_cases": {"generated": 0}}
    return Outcome(status=schemathesis.returncode, cases=ended["test_cases"]["generated"], said=_printable(said))


def _with_key(key: str) -> dict[str, Any]:
    credentials = base64.b64encode(f"apikey:{key}".encode()).decode()
    return {"name": "key", "fixedHeaders": [{"name": "Authorization", "value": f"Basic {credentials}"}]}


def _with_token(key: str) -> dict[str, Any]:
    """Return a user that buys a token first."""
    token = {
        "extractFrom": "body",
        "extractSelector": "/token",
        "sendIn": "header",
        "sendName": "Authorization",
        "sendTemplate": "Bearer {token}",
    }
    login = {
        "endpoint": "/v1/authorize",
        "verb": "POST",
        "contentType": "application/json",
        "payloadRaw": json.dumps({"api_key": key}),
        "token": token,
    }
    return {"name": "token", "loginEndpointAuth": login}


def _printable(said: bytes) -> str:
    """Return the text without the bytes of audio that it quotes."""
    return "".join(each for each in said.decode(errors="replace") if each.isprintable() or each == "\n")
