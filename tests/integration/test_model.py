"""The model check: whatever happens in whatever order, Redis and the audio store hold what they should."""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from deploy.processes import RedisServer
from tests.integration.history import History

# How many histories of thirty steps; thousands find what a hundred do not.
EXAMPLES = int(os.environ.get("VOLANT_MODEL_EXAMPLES", "80"))


@pytest.mark.timeout(600)
def test_a_cell_is_always_what_its_model_says(redis_server: RedisServer) -> None:
    """Accepting, working, ending, sweeping and queueing, by current and by stale holders."""
    History.url = redis_server.url
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
