"""JSON Schema in a few words, as HTML, for the page."""

import html
import json
from collections.abc import Mapping
from typing import Any

_BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "{} characters at least",
    "maxLength": "{} characters at most",
    "maxItems": "{} at most",
    "pattern": "<code>{}</code>",
    "format": "{}",
    "default": "default <code>{}</code>",
}


def form(schema: Mapping[str, Any]) -> str:
    """Return what the schema says."""
    if schema.get("maxLength") == 0:
        return "empty"
    parts = [_kind(schema)]
    if schema.get("type") != ["boolean", "string"]:  # whose pattern are its spellings
        parts += [_bound(name, schema[name]) for name in _BOUNDS if name in schema and name != "default"]
    if "default" in schema:
        parts.append(_bound("default", schema["default"]))
    return ", ".join(filter(None, parts))


def _bound(name: str, value: Any) -> str:
    if isinstance(value, list):
        value = ",".join(value)
    return _BOUNDS[name].format(html.escape(value if isinstance(value, str) else json.dumps(value)))


def _kind(schema: Mapping[str, Any]) -> str:  # noqa: C901, PLR0911 - one line for each keyword
    match schema:
        case {"$ref": reference}:
            name = str(reference).rpartition("/")[2]
            return f'<a href="#{name}">{name}</a>'
        case {"anyOf": choices}:
            return " or ".join(map(form, choices))
        case {"enum": values}:
            return " or ".join(f"<code>{html.escape(str(value))}</code>" for value in values)
        case {"const": value}:
            return f"<code>{html.escape(str(value))}</code>"
        case {"prefixItems": items}:
            return f"[{', '.join(map(form, items))}]"
        case {"type": "array", "items": items}:
            return f"list of {form(items)}"
        case {"type": "object", "additionalProperties": values}:
            return f"object of {form(values)}"
        case {"type": "object", "properties": fields}:
            return ", ".join(f"<code>{name}</code> {form(field)}" for name, field in fields.items())
        case {"type": ["boolean", "string"], "not": _}:
            return "false"
        case {"type": ["boolean", "string"]}:
            return "true or false"
        case {"type": str(kind)}:
            return kind
        case _:
            return ""
