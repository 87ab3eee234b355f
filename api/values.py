"""The forms that the value of a query parameter may have: how each is read, and how it is described."""

import math
import re
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from api.problems import Problem, printable

YES, NO = "[Tt][Rr][Uu][Ee]|1", "[Ff][Aa][Ll][Ss][Ee]|0"
"""What is taken for true and for false, as regular expressions."""


class Takes(Protocol):
    """The form of a value."""

    def read(self, name: str, values: Sequence[str]) -> Any:
        """Return what the query says; `values` are those of every mention. Raises Problem, naming the parameter."""
        ...

    def changes_nothing(self, value: Any) -> bool:
        """Tell whether the value equals what happens anyway."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return the form as JSON Schema."""
        ...


class Switch(Struct, frozen=True):
    """true or false, in any case, or 1 or 0: as JSON Schema, one of the words as a string, too."""

    default: bool = False

    def read(self, name: str, values: Sequence[str]) -> bool:
        match values[0].lower():
            case "true" | "1":
                return True
            case "false" | "0":
                return False
            case _:
                raise Problem(400, f"'{name}' must be true or false")

    def changes_nothing(self, value: bool) -> bool:  # noqa: FBT001 - it is the value
        return not value

    def schema(self) -> dict[str, Any]:
        return {"type": ["boolean", "string"], "pattern": f"^({YES}|{NO})$", "default": self.default}


class Whole(Struct, frozen=True):
    """A whole number; `quiet` are the values that equal what happens anyway, the default first."""

    low: int
    quiet: tuple[int, ...] = ()

    def read(self, name: str, values: Sequence[str]) -> int:
        if re.fullmatch(r"-?[0-9]{1,300}", values[0]) and int(values[0]) >= self.low:
            return int(values[0])
        raise Problem(400, f"'{name}' must be a whole number of at least {self.low}")

    def changes_nothing(self, value: int) -> bool:
        return value in self.quiet

    def schema(self) -> dict[str, Any]:
        return {
            "type": "integer",
            "minimum": self.low,
            **({"default": self.quiet[0]} if self.quiet else {}),
        }


class Number(Struct, frozen=True):
    """A number; `quiet` are the values that equal what happens anyway, the default first."""

    low: float
    high: float
    quiet: tuple[float, ...] = ()
    whole: bool = False

    def read(self, name: str, values: Sequence[str]) -> float:
        if re.fullmatch(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", values[0]):
            number = float(values[0])
            if self.low <= number <= self.high and math.isfinite(number) and not (self.whole and number % 1):
                return number
        kind = "whole number" if self.whole else "number"
        bounds = f"of at least {self.low}" if math.isinf(self.high) else f"from {self.low} to {self.high}"
        raise Problem(400, f"'{name}' must be a {kind} {bounds}")

    def changes_nothing(self, value: float) -> bool:
        return value in self.quiet

    def schema(self) -> dict[str, Any]:
        return {
            "type": "integer" if self.whole else "number",
            "minimum": self.low,
            **({} if math.isinf(self.high) else {"maximum": self.high}),
            **({"default": self.quiet[0]} if self.quiet else {}),
        }


class Text(Struct, frozen=True):
    """Any text; an empty one asks for nothing."""

    default: str | None = None
    longest: int | None = None

    def read(self, name: str, values: Sequence[str]) -> str:
        if self.longest is not None and len(values[0]) > self.longest:
            raise Problem(400, f"'{name}' must not be longer than {self.longest} characters")
        return values[0].encode(errors="replace").decode()

    def changes_nothing(self, value: str) -> bool:
        return value == ""

    def schema(self) -> dict[str, Any]:
        return {
            "type": "string",
            **({} if self.default is None else {"default": self.default}),
            **({} if self.longest is None else {"maxLength": self.longest}),
        }


class Listed(Struct, frozen=True):
    """Texts with commas between; of a repeated parameter all count. Only those of `known`, if it is given."""

    most: int
    longest: int
    known: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    apart: tuple[str, str] | None = None
    """Two that exclude each other."""

    def read(self, name: str, values: Sequence[str]) -> tuple[str, ...]:
        texts = [text for text in ",".join(values).split(",") if text.strip()]
        if len(texts) > self.most or any(len(text) > self.longest for text in texts):
            raise Problem(400, f"'{name}' takes at most {self.most} values of at most {self.longest} characters")
        for text in texts:
            if self.known and text not in self.known:
                raise Problem(400, f"'{name}' does not know '{printable(text)}'")
        if self.apart and set(self.apart) <= set(texts):
            raise Problem(400, f"'{name}' takes {self.apart[0]} or {self.apart[1]}, not both")
        return tuple(dict.fromkeys(text.encode(errors="replace").decode() for text in texts))

    def changes_nothing(self, value: tuple[str, ...]) -> bool:
        return not value

    def schema(self) -> dict[str, Any]:
        items = {"type": "string", **({"enum": list(self.known)} if self.known else {"maxLength": self.longest})}
        return {
            "type": "array",
            "items": items,
            "maxItems": self.most,
            **({"not": {"allOf": [{"contains": {"const": text}} for text in self.apart]}} if self.apart else {}),
            **({"default": list(self.default)} if self.default else {}),
        }
