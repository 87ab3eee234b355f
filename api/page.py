"""The page for people: the OpenAPI document as HTML, made once at the start.

It has no script, so there is nothing to run and nothing to fetch: it reads the same in every browser, in a screen
reader and on paper, and its policy lets nothing in but its own style sheet.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import Template
from typing import Any

from api.forms import form

_STYLE = (Path(__file__).parent / "page.css").read_text()
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_FRAME = Template("""\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>$title</title>
<style>$style</style></head>
<body>
<a class="skip" href="#main">To the operations</a>
<header><h1>$title</h1>$about<p>For programs: <a href="openapi.json">openapi.json</a>.</p>
<h2>Addresses</h2><ul>$servers</ul><h2>Credentials</h2><ul>$credentials</ul></header>
<nav aria-label="Contents"><ul>$contents<li><a href="#refusals">Refusals</a></li>
<li><a href="#bodies">Bodies</a></li></ul></nav>
<main id="main">$main</main>
</body>
</html>
""")
_ERROR = {"$ref": "#/components/schemas/Error"}

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy under which the page is served."""


def render(document: Mapping[str, Any]) -> str:
    """Return the page."""
    title = f"{document['info']['title']} {document['info']['version']}"
    operations = list(_operations(document))
    components = document["components"]
    main = [
        *(_tag(tag, operations) for tag in document["tags"]),
        '<section><h2 id="refusals">Refusals that many share</h2>',
        _table("Refusals", ("Name", "Meaning", "Body"), map(_answer, components["responses"].items())),
        '</section><section><h2 id="bodies">Bodies</h2>',
        *(_schema(name, schema) for name, schema in components["schemas"].items()),
        "</section>",
    ]
    return _FRAME.substitute(
        title=title,
        style=_STYLE,
        about=_text(document["info"]["description"]),
        servers="".join(
            f"<li><code>{html.escape(server['url'])}</code> {_inline(server['description'])}</li>"
            for server in document["servers"]
        ),
        credentials="".join(
            f"<li><b>{name}</b> {_inline(scheme['description'])}</li>"
            for name, scheme in components["securitySchemes"].items()
        ),
        contents=_contents(document, operations),
        main="".join(main),
    )


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield a path with its methods, those together that differ in nothing but being HEAD."""
    for path, item in document["paths"].items():
        methods = {method: operation for method, operation in item.items() if method != "servers"}
        head = {"head": methods.pop("head")} if "head" in methods else {}
        for method, operation in methods.items():
            yield path, {method: operation, **head}


def _contents(document: Mapping[str, Any], operations: list[tuple[str, dict[str, dict[str, Any]]]]) -> str:
    lists = []
    for tag in document["tags"]:
        links = "".join(
            f'<li><a href="#{operation["operationId"]}">{operation["summary"]}</a></li>'
            for _, methods in operations
            for operation in list(methods.values())[:1]
            if tag["name"] in operation["tags"]
        )
        lists.append(f'<li><a href="#tag-{tag["name"]}">{tag["name"]}</a><ul>{links}</ul></li>')
    return "".join(lists)


def _tag(tag: Mapping[str, str], operations: list[tuple[str, dict[str, dict[str, Any]]]]) -> str:
    shown = (
        _operation(path, methods) for path, methods in operations if tag["name"] in next(iter(methods.values()))["tags"]
    )
    return (
        f'<section><h2 id="tag-{tag["name"]}">{tag["name"]}</h2>{_text(tag["description"])}{"".join(shown)}</section>'
    )


def _operation(path: str, methods: Mapping[str, dict[str, Any]]) -> str:
    operation = next(iter(methods.values()))
    named = ", ".join(f"<b>{method.upper()}</b>" for method in methods)
    parts = [
        f'<article id="{operation["operationId"]}"><h3>{operation["summary"]}</h3>',
        f'<p class="address">{named} <code>{html.escape(path)}</code></p>',
        _text(operation.get("description", "")),
        "<p>Anybody may ask.</p>" if operation.get("security") == [] else "",
        *(
            f"<figure><figcaption>{sample['lang']}</figcaption>{_pre(sample['source'])}</figure>"
            for sample in operation["x-codeSamples"]
        ),
    ]
    if "parameters" in operation:
        parts.append(_table("Parameters", ("Name", "Form", "Meaning"), map(_parameter, operation["parameters"])))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"].items()
        rows = [(f"<code>{name}</code>", form(media.get("schema", {})) or "bytes") for name, media in content]
        parts += [_table("Body", ("Type", "Form"), rows), _text(operation["requestBody"]["description"])]
    parts.append(_answers(operation["responses"]))
    for name, told in operation.get("callbacks", {}).items():
        for methods_told in told.values():
            parts += (_told(name, each) for each in methods_told.values())
    return "".join((*parts, "</article>"))


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, str, str]:
    where = "" if parameter["in"] == "query" else f" <small>{parameter['in']}</small>"
    needed = " <small>required</small>" if parameter.get("required") else ""
    means = _text(parameter["description"])
    return f"<code>{parameter['name']}</code>{where}{needed}", form(parameter["schema"]), means


def _answers(responses: Mapping[str, Any]) -> str:
    """Return a table; what many operations share is one row."""
    own = [(status, answer) for status, answer in responses.items() if "$ref" not in answer]
    rows = [_answer(answer) for answer in own]
    common = ", ".join(status for status, answer in responses.items() if "$ref" in answer)
    if common:
        rows.append((common, '<a href="#refusals">As elsewhere</a>', form(_ERROR)))
    return _table("Answers", ("Status", "Meaning", "Body"), rows)


def _answer(answer: tuple[str, Mapping[str, Any]]) -> tuple[str, str, str]:
    status, described = answer
    headers = "".join(
        f"<p><code>{name}</code>: {_inline(header['description'])}</p>"
        for name, header in described.get("headers", {}).items()
        if "$ref" not in header  # which every answer has
    )
    bodies = [
        form(content["schema"]) + _example(content.get("example")) if content else f"<code>{media_type}</code>"
        for media_type, content in described.get("content", {}).items()
    ]
    return f"<b>{status}</b>", _text(described["description"]) + headers, "".join(bodies)


def _told(name: str, told: Mapping[str, Any]) -> str:
    content = told.get("requestBody", {}).get("content", {}).values()
    body = "".join(form(each["schema"]) + _example(each["example"]) for each in content)
    return "".join(
        (
            f"<h4>The service sends: {name}</h4>{_text(told['description'])}{body}",
            _table("What it sends", ("Name", "Form", "Meaning"), map(_parameter, told["parameters"])),
            _table("What it is answered", ("Status", "Meaning", "Body"), map(_answer, told["responses"].items())),
        )
    )


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    rows = [
        (
            f"<code>{field}</code>" + ("" if field in schema["required"] else " <small>optional</small>"),
            form(described),
            _text(described.get("description", "")),
        )
        for field, described in schema["properties"].items()
    ]
    table = _table(name, ("Field", "Form", "Meaning"), rows) if rows else ""
    return f'<article><h3 id="{name}">{name}</h3>{_text(schema.get("description", ""))}{table}</article>'


def _table(caption: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{caption}">'
        f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _example(example: Any) -> str:
    if example is None:
        return ""
    return f"<details><summary>Example</summary>{_pre(json.dumps(example, indent=1, ensure_ascii=False))}</details>"


def _text(markdown: str) -> str:
    """Return what little of CommonMark the document uses, as HTML: paragraphs, lists, blocks and pieces of code."""
    blocks = []
    for block in re.split(r"\n\n+", markdown.strip("\n")):
        said, *items = block.split("\n- ")
        if block.startswith("    "):
            blocks.append(_pre(re.sub("(?m)^    ", "", block)))
        else:
            listed = "".join(f"<li>{_inline(item)}</li>" for item in items)
            blocks.append((f"<p>{_inline(said)}</p>" if said else "") + (f"<ul>{listed}</ul>" if listed else ""))
    return "".join(blocks)


def _pre(text: str) -> str:
    return f'<pre tabindex="0">{html.escape(text)}</pre>'


def _inline(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
