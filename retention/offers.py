"""Where the front learns what the workers' engine serves. All workers of a cell run the same engine."""

import msgspec
from redis.asyncio import Redis

from retention.connection import at_once, reaching_redis
from retention.errors import NothingOffered
from retention.keyspace import OFFER
from retention.offer import Offer


class Offers:
    """The offer of the worker that started last. It stays when the workers stop: jobs wait for them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._at_once = at_once(redis)

    async def publish(self, offer: Offer) -> None:
        """Make this the offer, also while Redis is full: a worker has to start to erase what is over."""
        with reaching_redis():
            await self._at_once(("SET", OFFER, msgspec.json.encode(offer)))

    async def current(self) -> Offer:
        """Return the offer. Raises NothingOffered while no worker of this version has ever started."""
        with reaching_redis():
            stored = await self._redis.get(OFFER)
        if stored is None:
            raise NothingOffered
        try:
            return msgspec.json.decode(stored, type=Offer)
        except msgspec.MsgspecError:  # of a version that says more, or says it otherwise
            raise NothingOffered from None
