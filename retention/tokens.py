"""Bearer tokens: what an API key buys, so that the key need not travel with every request (spec 1.11, 1.12).

A token is a JWT (RFC 7519) that only this installation can make and only this installation reads. What RFC 8725
asks of that:

- One algorithm, HS256, whatever the token says of itself (§3.1), under a random key of 32 bytes (§3.5) that has no
  other use and lies in the cell's keyring. The token names that key; keys are never tried in turn.
- Issuer, audience and subject are there and are ours (§3.8, §3.9), and so are all other claims, of the right types.
- It is good for an hour at most, from `nbf` and before `exp`, in whole seconds of Redis's clock: the clock of the host,
  by which a library would judge, may differ from one process to the next.

A good signature is not enough: the API key that bought the token is looked up at every request, as if it had been
presented itself. So a revocation, and the end of a tenant, bite with the next one. A token buys no other token.
"""

import secrets
from datetime import datetime, timedelta

import jwt
import msgspec
from jwt.types import Options
from msgspec import Struct

from retention.job import TenantId
from retention.keyring import Keyring
from retention.limits import Count
from retention.store import JobStore
from retention.tenant import Credential
from retention.tenants import Tenants

_ALGORITHM = "HS256"
_ISSUER = "volant"
_AUDIENCE = "speech-to-text"
_NOT_BY_THE_HOSTS_CLOCK: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}


class Token(Struct, frozen=True, kw_only=True):
    """A token that was just made, for `buyer`; good for `expires_in` seconds, until the unix second `expiration`."""

    text: str
    buyer: Credential
    expires_in: int
    expiration: int

    def __repr__(self) -> str:
        return "Token(…)"


class _Claims(Struct, frozen=True, kw_only=True):
    iss: str
    aud: str
    iat: int
    nbf: int
    exp: int
    jti: str
    sub: TenantId
    key: str
    """The public id of the API key that bought the token."""


class Tokens:
    """The tokens of this installation. Raises Unavailable from every method when Redis cannot be reached."""

    def __init__(self, *, keyring: Keyring, tenants: Tenants, store: JobStore, life: timedelta) -> None:
        self._key_name, self._key = keyring.token_key()
        self._tenants = tenants
        self._store = store
        self._life = int(life.total_seconds())

    async def issue(self, presented: str) -> Token | None:
        """Return a new token for this API key, or None when it is malformed, unknown or revoked.

        Counted as the purchase of a token. Raises LimitReached.
        """
        buyer = await self._tenants.authenticate(presented, Count("tokens"))
        if buyer is None:
            return None
        second = int((await self._store.now()).timestamp())
        claims = _Claims(
            iss=_ISSUER,
            aud=_AUDIENCE,
            iat=second,
            nbf=second,
            exp=second + self._life,
            jti=secrets.token_hex(16),
            sub=buyer.tenant,
            key=buyer.key,
        )
        text = jwt.encode(
            msgspec.to_builtins(claims), self._key.raw(), algorithm=_ALGORITHM, headers={"kid": self._key_name}
        )
        return Token(text=text, buyer=buyer, expires_in=self._life, expiration=claims.exp)

    def bought_with(self, presented: str) -> str | None:
        """Return the public id of the API key that bought a token of ours, good at this moment or not; else None."""
        claims = self._read(presented)
        return claims.key if claims else None

    async def authenticate(self, presented: str, counts: Count | None = None) -> Credential | None:
        """Return whose token this is; None when it is not ours, not good at this moment, or its API key is no more.

        A good one is counted. Raises LimitReached.
        """
        claims = self._read(presented)
        if claims is None or not _is_good(claims, await self._store.now()):
            return None
        return await self._tenants.admit(claims.sub, claims.key, counts)

    async def authenticate_again(self, presented: str) -> Credential | None:
        """Return the same for a token that was good when its request began: it may have expired since.

        Long uploads would fail at their end otherwise, and IBM's SDKs would not repeat them.
        """
        claims = self._read(presented)
        return await self._tenants.admit(claims.sub, claims.key) if claims else None

    def _read(self, presented: str) -> _Claims | None:
        """Return what a token claims that we have signed; of any other text None."""
        try:
            token = jwt.decode_complete(
                presented,
                self._key.raw(),
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                options=_NOT_BY_THE_HOSTS_CLOCK,
            )
            claims = msgspec.convert(token["payload"], _Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeEncodeError):
            return None
        return claims if token["header"].get("kid") == self._key_name else None


def _is_good(claims: _Claims, now: datetime) -> bool:
    return claims.nbf <= now.timestamp() < claims.exp
