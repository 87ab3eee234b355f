"""What the audit log says of denied access: who was denied it is not known, so where from, why, and how often.

A flood must neither fill Redis nor keep others waiting. A process writes a hundred records and then one a minute; what
comes in between is counted, and the next record stands for it.
"""

from ipaddress import ip_address, ip_network
from typing import Literal

import structlog

from retention.audit import Audit
from retention.errors import RetentionError
from retention.log import failure
from retention.tenants import public_id

BURST = 100
"""Records that a process writes at once, after a quiet time."""

EVERY = 60.0
"""Seconds after which it may write one more."""

Denial = Literal["credential", "backoff", "address", "endpoint", "key-disabled"]
"""Why: no such key or token, or not any more; a source that had too many of these is refused from now on; the tenant is
not reachable from this address, or on this endpoint; its key is disabled."""

_log = structlog.get_logger()


class Denials:
    """Denied access, as one process sees it. Raises what Audit raises."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._left = float(BURST)
        self._at = 0.0
        self._unwritten = 0

    async def note(self, why: Denial, *, address: str | None, presented: str, now: float) -> None:
        """Record that access was denied. To be awaited before it is.

        `address` is the client's, of which the network is recorded; `presented` the API key, of which the public id is;
        `now` is in seconds of a clock that never steps back.
        """
        self._unwritten += 1
        self._left = min(BURST, self._left + (now - self._at) / EVERY)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            await self._write(why, source=network_of(address), target=public_id(presented))

    def count(self) -> None:
        """Count a denial for the next record to tell."""
        self._unwritten += 1

    async def close(self) -> None:
        """Record what was only counted, if the log can be reached."""
        if self._unwritten:
            try:
                await self._write("backoff")
            except RetentionError as error:
                _log.warning("denials not recorded", **failure(error))

    async def _write(self, why: Denial, *, source: str = "", target: str = "") -> None:
        count, self._unwritten = self._unwritten, 0
        try:
            await self._audit.write(
                "volant.access.deny", "denied", detail=why, source=source, target=target, count=count
            )
        except RetentionError:
            self._unwritten += count
            raise


def network_of(address: str | None) -> str:
    """Return the network of an address, /24 or /64, that tells a source and not a person; of no address ""."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return ""
    plain = getattr(parsed, "ipv4_mapped", None) or parsed
    return str(ip_network((plain, 24 if plain.version == 4 else 64), strict=False))  # noqa: PLR2004 - IP's versions
