"""Registering callback URLs: the receiver proves by a challenge that it wants to be told (spec 1.1, 1.2, 3.1)."""

import asyncio
import secrets
from datetime import datetime, timedelta

from retention.egress import Egress, check_url
from retention.errors import ChallengeFailed, Denied, NotRegistered, TooManyChallenges, Unreachable
from retention.job import Callback, Event, TenantId
from retention.notification import Hash, signature
from retention.registrations import Registrations
from retention.tenants import Tenants

ANSWER_WITHIN = timedelta(seconds=5)
"""How long a receiver may take to answer a challenge, in all (spec 3.1)."""

REFUSE_AFTER = timedelta(seconds=1)
"""How long it takes at least to be told that a receiver cannot be reached: why, must not show in the time either."""

_OK = 200


class Callbacks:
    """The callback URLs of one cell, as the front sees them. Raises Unavailable when the store cannot be reached."""

    def __init__(
        self,
        *,
        registrations: Registrations,
        tenants: Tenants,
        egress: Egress,
        hash_: Hash,
        challenges_per_hour: int,
    ) -> None:
        self._registrations = registrations
        self._tenants = tenants
        self._egress = egress
        self._hash = hash_
        self._most = challenges_per_hour

    async def register(
        self, tenant: TenantId, url: str, secret: str | None, *, customer: str | None, began: datetime
    ) -> bool:
        """Register a URL; return whether it is new (spec 1.1).

        One that is registered already is challenged again only for another secret, and keeps the old one unless the
        receiver answers. A label is added in either case. Raises ChallengeFailed, TooManyChallenges, TenantGone,
        CustomerErased, KeyDisabled.
        """
        known = await self._registrations.find(tenant, url)
        if known is not None and secret in (None, known.secret):
            if customer is not None:
                await self._registrations.label(tenant, known, customer, began=began)
            return False
        await self._challenge(tenant, url, secret)
        await self._registrations.keep(tenant, url, secret, customer=customer, began=began)
        return known is None

    async def unregister(self, tenant: TenantId, url: str) -> None:
        """Take a URL back: nothing that is pending is told any more (spec 1.2). Raises NotRegistered."""
        if not await self._registrations.remove(tenant, url):
            raise NotRegistered(url)

    async def subscribe(self, tenant: TenantId, url: str, events: tuple[Event, ...]) -> Callback:
        """Return who is to be told of a new job. Raises NotRegistered."""
        known = await self._registrations.find(tenant, url)
        if known is None:
            raise NotRegistered(url)
        return Callback(registration=known.id, events=events)

    async def _challenge(self, tenant: TenantId, url: str, secret: str | None) -> None:
        """Challenge the receiver. Only what leads to a challenge is counted as one (spec 1.1)."""
        challenge = secrets.token_hex(16)
        headers = {"Accept": "text/plain"}
        if secret is not None:
            hash_ = (await self._tenants.get(tenant)).callback_signature or self._hash
            headers["X-Callback-Signature"] = signature(secret, challenge.encode(), hash_)
        began = asyncio.get_running_loop().time()
        try:
            check_url(url)
            if (wait := await self._registrations.admit_challenge(tenant, self._most)) is not None:
                raise TooManyChallenges(wait)
            asked = f"{url}{'&' if '?' in url else '?'}challenge_string={challenge}"
            reply = await self._egress.get(asked, headers=headers, within=ANSWER_WITHIN)
        except (Denied, Unreachable):
            await asyncio.sleep(began + REFUSE_AFTER.total_seconds() - asyncio.get_running_loop().time())
            raise ChallengeFailed("callback server could not be reached") from None
        if reply.status != _OK:
            raise ChallengeFailed(f"callback server responded with status code {reply.status}")
        if challenge.encode() not in reply.body:
            raise ChallengeFailed("callback server did not echo the challenge string")
