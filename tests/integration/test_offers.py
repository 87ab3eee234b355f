"""What the workers' engine serves, kept in a real Redis for the front."""

import pytest
from redis.asyncio import Redis

from retention.errors import NothingOffered, Unavailable
from retention.keyspace import OFFER
from retention.offer import Offer, language_of, models
from retention.offers import Offers

GERMAN = Offer(engine="x", languages=("de-DE", "de-AT"), features=frozenset({"times"}))


async def test_the_offer_is_that_of_the_worker_that_started_last(redis: Redis) -> None:
    """Before the first there is none; it stays for good, since jobs may wait for workers."""
    offers = Offers(redis)
    with pytest.raises(NothingOffered):
        await offers.current()
    await offers.publish(GERMAN)
    english = Offer(engine="y", languages=("en-US",), features=frozenset())
    await offers.publish(english)
    assert await offers.current() == english


@pytest.mark.parametrize(
    "stored", [b"", b'{"engine":"x"}', b'{"engine":"x","languages":["en-US"],"features":["times","lattices"]}']
)
async def test_an_offer_that_is_not_understood_is_none(redis: Redis, stored: bytes) -> None:
    """While versions change, clients are told to come again, and not of an error."""
    await redis.set(OFFER, stored)
    with pytest.raises(NothingOffered):
        await Offers(redis).current()


async def test_without_redis_nobody_knows() -> None:
    """The store's trouble is the store's, and no reason to say that nothing is offered."""
    async with Redis.from_url("unix:///nowhere") as gone:
        with pytest.raises(Unavailable):
            await Offers(gone).current()


def test_every_language_has_the_names_that_clients_know() -> None:
    """Three generations of models, each with its rate (spec 1.8)."""
    offered = list(models(GERMAN))
    assert len(offered) == 10
    assert {model.language for model in offered} == {"de-DE", "de-AT"}
    assert all(language_of(model.name, GERMAN) == model.language for model in offered)
    assert language_of("en-US_BroadbandModel", GERMAN) is None
    assert {model.name: model.rate for model in offered}["de-AT_Telephony"] == 8000


def test_the_name_that_stands_for_none_is_served_with_any_english() -> None:
    """Clients that name no model find theirs, whichever country's English it is (spec 1.8)."""
    british = Offer(engine="x", languages=("de-DE", "en-GB", "en-AU"), features=frozenset())
    assert language_of("en-US_BroadbandModel", british) == "en-GB"
    assert language_of("en-US_NarrowbandModel", british) is None
    american = Offer(engine="x", languages=("en-GB", "en-US"), features=frozenset())
    assert language_of("en-US_BroadbandModel", american) == "en-US"
    assert len({model.name for model in models(american)}) == len(list(models(american)))
