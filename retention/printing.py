"""Settings as a configuration file that says what each of them means."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import msgspec
from msgspec import NODEFAULT, Meta, Struct


def as_toml(settings: Struct) -> str:
    """Return the file. A setting without a value, and a table that is not there, are comments that show their form.

    Tables come last, for in TOML everything behind one belongs to it.
    """
    values = msgspec.to_builtins(settings, enc_hook=str)
    described = list(_described(type(settings)))
    plain = [_line(name, meta, values[name]) for name, meta, kind in described if kind is None]
    tables = [_tables(name, meta, kind, values[name]) for name, meta, kind in described if kind is not None]
    return "\n\n".join([*plain, *tables]) + "\n"


def _described(kind: type[Struct]) -> Iterator[tuple[str, Meta, type[Struct] | None]]:
    """Yield each field's name, what is said of it, and the type of its tables if it consists of any."""
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        inner = [arg for arg in get_args(annotation.__origin__) if isinstance(arg, type) and issubclass(arg, Struct)]
        yield name, annotation.__metadata__[0], inner[0] if inner else None


def _line(name: str, meta: Meta, value: Any) -> str:
    written = f"# {name} =" if value is None else f"{name} = {msgspec.json.encode(value).decode()}"
    return f"# {meta.description}\n{written}"


def _tables(name: str, meta: Meta, kind: type[Struct], values: Any) -> str:
    """Return the tables of a setting: `[[name]]` for each in a sequence, `[name.key]` for each in a mapping."""
    if isinstance(values, Mapping):
        tables = [(f"[{name}.{_key(key)}]", value) for key, value in values.items()]
        header = f"[{name}.{(meta.examples or ['NAME'])[0]}]"
    else:
        tables = [(f"[[{name}]]", value) for value in values]
        header = f"[[{name}]]"
    if not tables:
        return "\n".join([f"# {meta.description}", f"# {header}", *_example(kind)])
    written = [
        "\n".join([head, *(_line(field, said, table[field]) for field, said, _ in _described(kind))])
        for head, table in tables
    ]
    return f"# {meta.description}\n" + "\n\n".join(written)


def _example(kind: type[Struct]) -> Iterator[str]:
    """Yield the lines of a table that is not there; without the first # and blank of each it would be."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, meta, _ in _described(kind):
        default = fields[name].default
        value = meta.examples[0] if meta.examples else None if default is NODEFAULT else default
        value = msgspec.to_builtins(value, enc_hook=str)
        yield from (f"# {line}".replace("# # ", "## ", 1) for line in _line(name, meta, value).splitlines())


def _key(key: str) -> str:
    return (
        key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else msgspec.json.encode(key).decode()
    )
