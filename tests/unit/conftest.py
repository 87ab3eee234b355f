"""Fixtures of the tests of the front alone."""

from pathlib import Path
from typing import Any

import pytest

from retention.listening import Listener
from tests.certificates import Authority


@pytest.fixture(params=["http", "https"])
def over(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Give how the API is served: what is said of connections holds with TLS, too."""
    if request.param == "http":
        return {}
    authority = Authority(tmp_path)
    return {"trust": authority.trust(), "listeners": (Listener(name="x", port=0, **authority.pair()),)}
