"""Every operation on jobs and keys is killed at every step, and some are interleaved at every step.

`make crashes` plays all of it; here are all kills, the interleavings that have found something, and a sample.
"""

import os
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from deploy.processes import RedisServer
from tests.crashes.campaign import OPERATIONS, SCENES, Campaign
from tests.crashes.histories import Histories
from tests.crashes.world import world

EXAMPLES = int(os.environ.get("VOLANT_CRASHES_EXAMPLES", "20"))
"""How many random histories of ten steps."""
SAMPLE = int(os.environ.get("VOLANT_CRASHES_SAMPLE", "40"))
SEED = int(os.environ.get("VOLANT_CRASHES_SEED", "1"))

FOUND = {
    "common": [
        ("look_up", "tend"),
        ("latest", "rotate_and_rewrap"),
        ("rotate", "rotate"),
        ("create_and_rewrap", "submit"),
        ("create", "delete_tenant"),
        ("disable", "create"),
    ],
    "own": [
        ("tell", "rotate_and_rewrap"),
        ("hold", "rotate_and_rewrap"),
        ("rotate", "rewrap"),
        ("purge", "begin_anew"),
        ("rewrap", "finish"),
    ],
    "imported": [("refill", "purge"), ("read_log", "rotate_and_rewrap")],
}


@pytest.mark.parametrize("scene", SCENES)
async def test_killed_at_every_step(scene: str, redis_server: RedisServer) -> None:
    """Whatever is killed wherever: every live job opens, every deleted one does not, none is lost."""
    async with world(redis_server.url) as its:
        campaign = Campaign(its)
        await campaign.set_scenes(scene)
        for operation in OPERATIONS.values():
            if scene in operation.scenes:
                for run in await campaign.killed(scene, operation):
                    await campaign.run(run)
    assert campaign.failures == {}
    assert campaign.counts["crash points"] > 500


@pytest.mark.parametrize("scene", SCENES)
async def test_interleaved(scene: str, redis_server: RedisServer) -> None:
    """Whatever else is done in the middle of it, by another process: the same."""
    async with world(redis_server.url) as its:
        campaign = Campaign(its)
        await campaign.set_scenes(scene)
        here = [each for each in OPERATIONS.values() if scene in each.scenes]
        chance = random.Random(SEED)
        runs = []
        for one, other in FOUND[scene]:
            runs += await campaign.interleaved(scene, OPERATIONS[one], OPERATIONS[other])
        for _ in range(SAMPLE):
            between = await campaign.interleaved(scene, chance.choice(here), chance.choice(here))
            runs += chance.sample(between, min(1, len(between)))
        for run in runs:
            await campaign.run(run)
    assert campaign.failures == {}


def test_random_histories(redis_server: RedisServer) -> None:
    """Two tenants, everything that can be done to their jobs and keys, in any order."""
    Histories.url = redis_server.url
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=10,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
