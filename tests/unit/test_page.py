"""The page for people says what the document says, and needs nothing else."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from api import openapi, page, routes
from api.forms import form
from tests.documented import within

_VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Reads a page as a browser does, and fails where elements are not closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element is."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        given = dict(attrs)
        self.ids += [str(given["id"])] if "id" in given else []
        self.links += [str(given["href"])] if "href" in given else []
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """End the innermost element."""
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.texts.append(data)


DOCUMENT = openapi.document(routes.SERVICE, routes.ALONE)
SERVED = json.loads(json.dumps(DOCUMENT))


@pytest.fixture
def read() -> Reader:
    """Give the page, read."""
    reader = Reader()
    reader.feed(page.render(DOCUMENT))
    reader.close()
    assert reader.open == []
    return reader


def test_it_has_no_script_and_fetches_nothing(read: Reader) -> None:
    """Nothing that its policy would have to forbid; the one style sheet is the one that the policy knows."""
    assert read.tags & {"script", "link", "img", "iframe", "object", "form", "base"} == set()
    assert read.attributes <= {"lang", "charset", "name", "content", "class", "id", "href", "scope", "tabindex"} | {
        "role",
        "aria-label",
    }
    assert {link for link in read.links if not link.startswith("#")} == {"openapi.json"}
    [style] = re.findall("<style>(.*?)</style>", page.render(DOCUMENT), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.POLICY
    assert page.POLICY.startswith("default-src 'none'; ")


def test_every_operation_and_every_body_is_there_once_and_every_link_leads_somewhere(read: Reader) -> None:
    """By the ids of the document; what differs in being HEAD only stands with the other."""
    operations = [
        operation["operationId"]
        for item in SERVED["paths"].values()
        for method, operation in item.items()
        if method not in ("servers", "head")
    ]
    assert len(set(read.ids)) == len(read.ids)
    assert set(read.ids) >= {*operations, *SERVED["components"]["schemas"]}
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)


def test_everything_that_is_said_is_on_the_page(read: Reader) -> None:
    """Names, meanings, samples; what every answer bears is in the introduction."""
    text = " ".join(" ".join(read.texts).split())
    parts = [
        part
        for part in within({**SERVED, "components": {**SERVED["components"], "headers": {}}})
        if isinstance(part, dict)
    ]
    told = [part[key] for part in parts for key in ("name", "summary", "source") if isinstance(part.get(key), str)]
    described = [part["description"] for part in parts if isinstance(part.get("description"), str)]
    assert len(told) > 80
    for words in told:
        assert words in text
    for description in described:
        for line in re.split(r"\n- |`|\n\n", description):
            assert " ".join(line.split()) in text


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({"type": "string", "maxLength": 0}, "empty"),
        ({"type": "string", "pattern": "^<$"}, "string, <code>^&lt;$</code>"),
        ({"type": "integer", "minimum": 1, "default": 5}, "integer, at least 1, default <code>5</code>"),
        (
            {"type": ["boolean", "string"], "pattern": "^x$", "default": True},
            "true or false, default <code>true</code>",
        ),
        ({"type": ["boolean", "string"], "pattern": "^x$", "not": {"const": True}}, "false"),
        ({"type": "array", "items": {"type": "number"}, "maxItems": 3}, "list of number, 3 at most"),
        ({"prefixItems": [{"type": "string"}, {"type": "number"}]}, "[string, number]"),
        ({"enum": ["a", "<b>"]}, "<code>a</code> or <code>&lt;b&gt;</code>"),
        ({"const": "a"}, "<code>a</code>"),
        ({"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]}, '<a href="#A">A</a> or null'),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "object of string"),
        ({"type": "object", "properties": {"a": {"const": 1}}}, "<code>a</code> <code>1</code>"),
        ({}, ""),
    ],
)
def test_a_schema_in_words(schema: dict[str, object], words: str) -> None:
    """Kind, bounds, default; nothing of it is taken for HTML."""
    assert form(schema) == words
