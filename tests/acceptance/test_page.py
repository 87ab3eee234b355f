"""The page of the interface in a real browser: what it needs, how it looks, and who can use it."""

import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from deploy.stack import Stack
from tests.acceptance.browser import CHROMIUM, Tab, browsing
from tests.documented import Document

if CHROMIUM is None and os.environ.get("CI") != "true":
    pytest.skip("there is no chromium on the PATH (on Debian: apt-get install chromium)", allow_module_level=True)

CONTRAST = """
(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== 'rgba(0, 0, 0, 0)') return light(colour);
    }
  };
  const ratios = [...document.body.querySelectorAll('*')].map(element => {
    const [low, high] = [light(getComputedStyle(element).color), behind(element)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
  return [Math.min(...ratios), getComputedStyle(document.body).backgroundColor];
})()
"""
"""The least contrast of any text to what is behind it (WCAG 2.2, 1.4.3), and the colour of the page."""


@dataclass(frozen=True)
class Page:
    """The open page."""

    url: str
    tab: Tab

    async def ask(self, expression: str) -> Any:
        """Return the value of an expression in it."""
        return await self.tab.evaluate(expression)


@pytest.fixture
async def page(stack: Stack) -> AsyncIterator[Page]:
    """Give the page, open in a browser of its own."""
    if CHROMIUM is None:
        pytest.fail("these tests need chromium, and CI=true says that it has to be there")
    async with browsing() as tab:
        await tab.open(f"{stack.url}/docs")
        yield Page(stack.url, tab)


async def test_it_shows_every_operation_and_asks_nobody_for_anything(page: Page) -> None:
    """One request, no complaint in the console, and its own style under its own policy."""
    async with aiohttp.ClientSession() as session, session.get(f"{page.url}/openapi.json") as response:
        document = Document(await response.json())
    for path, method, operation in document.operations():
        shown = await page.ask(f"document.getElementById('{operation['operationId'].removesuffix('Head')}').innerText")
        assert method in shown
        assert path in shown
        assert operation["summary"] in shown
    assert await page.ask("performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert page.tab.console == []
    assert await page.ask("getComputedStyle(document.querySelector('nav ul')).listStyleType") == "none"
    assert page.url in await page.ask("document.body.innerText")


async def test_it_fits_and_can_be_read_in_light_and_dark_on_any_screen(page: Page) -> None:
    """No text has less contrast than 4.5, and only tables and code are ever wider than the screen."""
    colours = set()
    for scheme in ("light", "dark"):
        await page.tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        least, colour = await page.ask(CONTRAST)
        assert least >= 4.5
        colours.add(colour)
    assert len(colours) == 2
    for width in (320, 768, 1600):
        await page.tab.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        assert await page.ask("document.documentElement.scrollWidth") <= width


async def test_it_can_be_used_with_the_keyboard_and_a_screen_reader(page: Page) -> None:
    """The first stop leads past the contents; landmarks, headings and the heads of tables are what they should be."""
    await page.tab.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert await page.ask("[document.activeElement.innerText, document.activeElement.getAttribute('href')]") == [
        "To the operations",
        "#main",
    ]
    assert await page.ask("document.activeElement.getBoundingClientRect().left") >= 0
    tree = await page.tab.call("Accessibility.getFullAXTree")
    roles = [node["role"]["value"] for node in tree["nodes"] if not node["ignored"]]
    assert {roles.count(role) for role in ("banner", "navigation", "main")} == {1}
    assert {"heading", "table", "columnheader", "rowheader", "DisclosureTriangle"} <= set(roles)
    levels = await page.ask("[...document.querySelectorAll('h1,h2,h3,h4')].map(each => +each.tagName[1])")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
