"""How much a tenant may ask for at most, and each of its API keys beside it.

A limit is a number: requests a second in three kinds, jobs and bytes of audio that wait, uploads at once, seconds of
audio a day. What was set for a tenant counts before the settings; a key has the limits that were set for it, and those
of its tenant as well. 0 stands for no limit.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta, Struct

Rate = Literal["submits", "polls", "tokens"]
"""What requests are counted as: submissions, purchases of tokens, and all others that bear credentials."""

Quota = Literal["waiting", "bytes", "uploads", "audio"]
"""What a submission counts towards, by the order in which `lua/upload.lua` looks at it."""

Limit = Rate | Quota


class Count(NamedTuple):
    """What a request is counted as: so many of a kind, at once."""

    kind: Rate
    times: int = 1


POLL = Count("polls")
"""What most requests are counted as."""

COSTLY = Count("polls", 5)
"""What requests are counted as that cost about as much as so many polls: they read many jobs, or wait for disks."""

MOST: dict[Rate, int] = {"submits": 1, "polls": COSTLY.times, "tokens": 1}
"""The most that one request takes of a bucket."""


QUOTAS: tuple[Quota, ...] = get_args(Quota)

Frequency = Annotated[float, Meta(ge=0, le=1e6)]
Amount = Annotated[int, Meta(ge=0, le=1 << 50)]


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number for each limit; None: not set."""

    submits: Frequency | None = None
    polls: Frequency | None = None
    tokens: Frequency | None = None
    waiting: Amount | None = None
    bytes: Amount | None = None
    uploads: Amount | None = None
    audio: Amount | None = None

    def of(self, limit: Limit) -> float | None:
        """Return the number, or None for no limit."""
        most: float | None = getattr(self, limit)
        return most or None

    def over(self, defaults: "Limits") -> "Limits":
        """Return what is in force: what is set here, and else the defaults."""
        ours = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(defaults, **ours)


NAMES: tuple[Limit, ...] = Limits.__struct_fields__  # type: ignore[assignment] # the same names


def parse(texts: tuple[str, ...]) -> Iterator[tuple[Limit, float | None]]:
    """Yield what was set in words: NAME=NUMBER, NAME=none, NAME=default. Raises ValueError, with a sentence."""
    for text in texts:
        name, _, value = text.partition("=")
        if name not in NAMES:
            raise ValueError(f"there is no limit '{name}': {', '.join(NAMES)}")
        if value.strip() and not value.strip("0.+-"):
            raise ValueError(f"'{text}': 0 would be no limit at all; say {name}=none for that")
        try:
            number = {"none": 0.0, "default": None}[value] if value in {"none", "default"} else float(value)
            checked = msgspec.convert({name: number}, Limits, strict=False)
        except (ValueError, msgspec.ValidationError):
            raise ValueError(f"'{text}' must be {name}=NUMBER, {name}=none or {name}=default") from None
        yield name, getattr(checked, name)
