"""A web page uses the API in a real browser, from another origin: exactly when `cors_origins` lets it."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from deploy.processes import ROOT
from deploy.stack import Stack
from tests.acceptance.browser import CHROMIUM, Tab, browsing, serving
from tests.acceptance.client import Client
from tests.stack import StartStack

if CHROMIUM is None and os.environ.get("CI") != "true":
    pytest.skip("there is no chromium on the PATH (on Debian: apt-get install chromium)", allow_module_level=True)


@dataclass(frozen=True)
class Page:
    """An open page with its origin."""

    origin: str
    tab: Tab

    async def transcribe(self, stack: Stack) -> dict[str, object] | str:
        """Return what the page saw when it used the service, or what was raised in it."""
        async with asyncio.timeout(60):
            seen: dict[str, object] | str = await self.tab.evaluate(
                f"transcribe('{stack.url}', '{stack.apikey}').catch(String)"
            )
        return seen


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """Give the page, open in a browser of its own."""
    if CHROMIUM is None:
        pytest.fail("these tests need chromium, and CI=true says that it has to be there")
    files = (ROOT / "tests/acceptance/page.html", ROOT / "tests/audio/goforward.wav")
    async with serving(*files) as origin, browsing() as tab:
        await tab.open(f"{origin}/page.html")
        yield Page(origin, tab)


async def jobs_of(stack: Stack) -> list[str]:
    async with Client(stack.url, stack.apikey) as client:
        return await client.listed()


@pytest.mark.parametrize("listed", ["*", "https://a.example {origin}"])
async def test_a_page_that_may_use_the_api_can_do_all_that_a_client_does(
    listed: str, page: Page, fresh_stack: StartStack
) -> None:
    """It submits, polls, shows the words, deletes, and reads refusals and the id for support."""
    stack = fresh_stack(cors_origins=listed.format(origin=page.origin))
    seen = await page.transcribe(stack)
    assert isinstance(seen, dict), (seen, page.tab.console)
    assert await page.tab.evaluate("document.querySelector('#transcript').textContent") == "go forward ten meters "
    assert seen["words"] == ["go", "forward", "ten", "meters"]
    assert seen["statuses"] == [201, 204, 404, 401]
    assert seen["errors"] == ["job not found", "Unauthorized"]
    assert re.fullmatch("[0-9a-f]{32}", str(seen["transaction"]))
    [line] = [line for line in stack.logs("api").splitlines() if str(seen["transaction"]) in line]
    assert '"method": "POST"' in line
    assert seen["unexposed"] is None
    assert await jobs_of(stack) == []


@pytest.mark.parametrize("listed", ["", "https://another.example"])
async def test_a_page_that_may_not_use_the_api_is_stopped_by_its_browser(
    listed: str, page: Page, fresh_stack: StartStack
) -> None:
    """The preflight is not granted: `fetch` raises, the audio is never sent, and there is no job."""
    stack = fresh_stack(workers=0, cors_origins=listed)
    assert await page.transcribe(stack) == "TypeError: Failed to fetch"
    assert any("blocked by CORS policy" in line for line in page.tab.console), page.tab.console
    assert '"method": "POST"' not in stack.logs("api")
    assert await jobs_of(stack) == []
