"""URLs by which a client would reach what it must not, from `tests/vectors/hostile_urls.json`.

`malformed` ones are refused by their form, by what makes them hostile; `addresses` and `names` are
hosts of a good form, the names with what their name server says; `spellings` are URLs of such hosts.
`{port}` stands for the port of a server that really listens: what gets through is seen to get through.
"""

import json
from pathlib import Path

_VECTORS = json.loads((Path(__file__).parent / "vectors/hostile_urls.json").read_text())

NAMES: dict[str, list[str]] = _VECTORS["names"]

ADDRESSES: dict[str, list[str]] = _VECTORS["addresses"]

MALFORMED: list[str] = [
    *(url for urls in _VECTORS["malformed"].values() for url in urls),
    "http://localhost:{port}/" + "a" * 2048,
    "http://localhost:{port}/" + "\u00e9" * 1100,
    "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 127 + "aa/",
    "http://" + "\u00fc" * 63 + ".example/",
]
"""Refused before anything is looked up."""

DIALLED: list[str] = [
    *(f"http://{host}:{{port}}/" for hosts in (*ADDRESSES.values(), NAMES) for host in hosts),
    *_VECTORS["spellings"],
]
"""Refused when they would be dialled."""


def at(url: str, port: int) -> str:
    """Put the port of a listening server into a URL."""
    return url.replace("{port}", str(port))
