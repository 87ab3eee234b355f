"""The schemas of all bodies, made from their types."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct


def schemas(*, sent: Iterable[type[Struct]], received: Iterable[type[Struct]]) -> dict[str, Any]:
    """Return the schemas by name, also of what the bodies consist of.

    What we send is always there, unless it has no value, which is when it is left out; for what we receive the type
    says what is needed.
    """
    described = _components(sent)
    for schema in described.values():
        always = [name for name, field in schema["properties"].items() if "default" in field]
        schema["required"] = [*schema["required"], *always]
        for name in always:
            del schema["properties"][name]["default"]
    return dict(sorted({**described, **_components(received)}.items()))


def plain(body: Struct) -> Any:
    """Return what a client reads."""
    return msgspec.json.decode(msgspec.json.encode(body))


def _components(types: Iterable[type[Struct]]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for schema in components.values():
        del schema["title"]
    return components
