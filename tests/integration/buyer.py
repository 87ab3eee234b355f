"""A buyer of bearer tokens, and tokens read and forged by hand (RFC 7515): not with what has to see through them."""

import base64
import hmac
import json
from typing import Any

from retention.job import TenantId
from tests.integration.cell import Cell

Fields = dict[str, Any]


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts(token: str) -> tuple[Fields, Fields]:
    """Return header and claims, as any client reads them."""
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


def unsigned(header: Fields, claims: Fields) -> str:
    return ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))


def signed(header: Fields, claims: Fields, key: bytes, digest: str = "sha256") -> str:
    text = unsigned(header, claims)
    return f"{text}.{encoded(hmac.new(key, text.encode(), digest).digest())}"


class Buyer:
    """A key of the cell's tenant, and the token that it bought."""

    def __init__(self, cell: Cell, key: str, token: str) -> None:
        self.cell, self.key, self.token = cell, key, token
        self.header, self.claims = parts(token)
        self.secret = cell.keyring.token_key()[1].raw()

    @property
    def key_id(self) -> str:
        return self.key.split("_")[1]

    async def opens(self, token: str | None = None) -> bool:
        """Tell whether this token, or else the bought one, opens the tenant."""
        owner = await self.cell.tokens.authenticate(token or self.token)
        assert owner is None or owner.tenant == self.cell.tenant
        return owner is not None

    def with_claims(self, **changes: Any) -> str:
        """Return a token of these claims, signed as the real ones are; None leaves a claim out."""
        claims = {name: value for name, value in {**self.claims, **changes}.items() if value is not None}
        return signed(self.header, claims, self.secret)


async def bought(cell: Cell, tenant: TenantId | None = None) -> Buyer:
    key = await cell.tenants.create_key(tenant or cell.tenant, now=await cell.store.now())
    token = await cell.tokens.issue(key)
    assert token is not None
    return Buyer(cell, key, token.text)
