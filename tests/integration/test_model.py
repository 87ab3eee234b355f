"""The model check: whatever happens in whatever order, Redis and the audio store hold what they should."""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from deploy.processes import RedisServer
from tests.integration.afterwards import Afterwards
from tests.integration.history import History
from tests.integration.lifecycle import Lifecycle
from tests.integration.machine import Machine
from tests.integration.written import WRITTEN, run_written

# How many histories of thirty steps; thousands find what a hundred do not.
EXAMPLES = int(os.environ.get("VOLANT_MODEL_EXAMPLES", "80"))


@pytest.mark.parametrize("histories", WRITTEN)
def test_what_is_written_down_holds(histories: type[Machine], redis_server: RedisServer) -> None:
    """Histories that chance would seldom make."""
    histories.url = redis_server.url
    run_written(histories)


class Everything(History, Afterwards):
    """All of it in one."""


@pytest.mark.parametrize("histories", [History, Afterwards, Everything])
def test_a_cell_is_always_what_its_model_says(histories: type[Lifecycle], redis_server: RedisServer) -> None:
    """Accepting, working, ending, sweeping and queueing, by current and by stale holders."""
    histories.url = redis_server.url
    run_state_machine_as_test(
        histories,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
