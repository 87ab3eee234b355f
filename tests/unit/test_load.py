"""Where `make load` goes."""

import pytest

from tests.load import target

URL = {"VOLANT_URL": "http://127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        (URL | {"VOLANT_APIKEYS": "a,b"}, "a,b"),
        (URL | {"VOLANT_APIKEY": "a"}, "a"),  # as in var/run.env
        (URL | {"VOLANT_APIKEYS": "a,b", "VOLANT_APIKEY": "c"}, "a,b"),
        ({}, ""),
    ],
)
def test_a_running_service_is_named_by_its_url_and_keys(given: dict[str, str], keys: str) -> None:
    """One key will do; without any, and without a URL, load has a stack of its own."""
    assert target(given) == (given.get("VOLANT_URL", ""), keys)


@pytest.mark.parametrize("given", [URL, {"VOLANT_APIKEYS": "a"}, {"VOLANT_APIKEY": "a"}])
def test_half_a_target_is_refused(given: dict[str, str]) -> None:
    """Nobody's keys are used against a service that they were not given for."""
    with pytest.raises(ValueError, match="both VOLANT_URL and VOLANT_APIKEYS"):
        target(given)
