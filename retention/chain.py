"""The chain of the audit log: what a record is, and how each one vouches for all before it.

A record's hash is an HMAC-SHA-256, under the cell's audit key, of its number, the hash before it and its own bytes.
So whoever lacks the key can change, move, add or take out nothing between the two ends without a hash that does not
fit. The ends are attested by HMACs of their own: the head (the last record), so that none is cut off behind, and the
floor (the last one let go when its time was over), so that none is cut off before. What is authenticated begins with
a label and goes on with fields of fixed length, so that no message of one kind is one of another. Two cells have
different keys: nothing of one log fits into another.

What the chain cannot show is that all of it, ends included, was put back to what it once was. That takes a
checkpoint, a number and a hash, kept outside.
"""

import hashlib
import hmac
import re
from typing import Literal

import msgspec
from msgspec import Struct

from retention.errors import AuditBroken
from retention.seal import Key

Event = Literal[
    "speech-to-text.async-recognition-job.delete",
    "speech-to-text.async-recognition-notification-url.create",
    "speech-to-text.async-recognition-notification-url.delete",
    "speech-to-text.gdpr-user-data.delete",
    "volant.access.deny",
    "volant.audit-log.restart",
    "volant.credential.create",
    "volant.credential.revoke",
    "volant.credential.update",
    "volant.key.ack-rotate",
    "volant.key.create",
    "volant.key.destroy",
    "volant.key.disable",
    "volant.key.enable",
    "volant.key.expire",
    "volant.key.import",
    "volant.key.import-token",
    "volant.key.purge",
    "volant.key.restore",
    "volant.key.rotate",
    "volant.request-log.delete",
    "volant.request-log.read",
    "volant.tenant.create",
    "volant.tenant.delete",
    "volant.tenant.update",
]
"""IBM's names (spec 6.4), and what IBM has no name for in the same manner: service.object.action."""

End = Literal["floor", "head"]
Outcome = Literal["pending", "success", "failure", "denied"]
"""As in CADF (DSP0262), whose `pending` says that another record will tell; `retention.audit` says what follows."""

_HASH = 32
_SEQ = 8
_ID = re.compile(r"(?:[0-9a-f-]{8,64}|common|index|token|audit)(?:@[0-9]{1,9})?")


class Record(Struct, frozen=True, kw_only=True, array_like=True):
    """One thing that came to pass. Stored as it is encoded here: new fields go to the end, and have defaults."""

    time: int
    """Unix milliseconds by Redis's clock."""
    event: str
    """An Event, maybe one of a later version."""
    outcome: str
    """An Outcome, likewise."""
    actor: str
    transaction: str
    tenant: str = ""
    target: str = ""
    """The id of what it was done to, if that is not the tenant: of a job, a key, an API key, a registration."""
    source: str = ""
    """The network from which access was denied."""
    detail: str = ""
    """Why it failed or was denied, or which fields were changed: words of our own."""
    count: int = 0
    """Jobs that went, entries that went, denials that this record stands for."""


class Link(Struct, frozen=True):
    """A place in the chain: the number of a record, from 1 until a log is begun anew, and its hash."""

    seq: int
    hash: bytes


class Linked(Struct, frozen=True):
    """A record in its place."""

    link: Link
    record: Record


ORIGIN = Link(0, bytes(_HASH))
"""The place before the first record of a cell."""

_decode = msgspec.json.Decoder(Record).decode


def public(id_: str) -> str:
    """Return an id of ours as it is; of anything else, such as an operator's typing error, nothing is kept."""
    return id_ if _ID.fullmatch(id_) else ""


class Chain:
    """Makes and checks the links of one cell's log."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def follow(self, before: Link, record: bytes) -> Link:
        """Return the place of a record behind another."""
        seq = before.seq + 1
        return Link(seq, self._hmac(b"volant audit record 1\0", seq, before.hash + record))

    def check(self, before: Link, id_: bytes, fields: dict[bytes, bytes]) -> Linked:
        """Return what is stored under an id as the record behind another. Raises AuditBroken when it is not that."""
        seq = before.seq + 1
        if id_ != f"{seq}-0".encode():
            raise AuditBroken(f"record {seq} of the audit log is missing, or another one is in its place")
        record = fields.get(b"record", b"")
        link = self.follow(before, record)
        if not hmac.compare_digest(fields.get(b"hash", b""), link.hash):
            raise AuditBroken(f"record {seq} of the audit log was changed, or what is before it")
        return Linked(link, _decode(record))

    def attest(self, end: End, link: Link) -> bytes:
        """Return what is stored of an end of the log: number, hash, and the HMAC of both."""
        label = f"volant audit {end} 1\0".encode()
        return link.seq.to_bytes(_SEQ) + link.hash + self._hmac(label, link.seq, link.hash)

    def attested(self, end: End, stored: bytes | None) -> Link:
        """Return an end of the log. Raises AuditBroken when it is missing or was not written by us."""
        stored = stored or b""
        link = Link(int.from_bytes(stored[:_SEQ]), stored[_SEQ : _SEQ + _HASH])
        if not hmac.compare_digest(stored, self.attest(end, link)):
            raise AuditBroken(f"the {end} of the audit log is missing, or was not written by this service")
        return link

    def origin(self) -> dict[str, bytes]:
        """Return what is stored of the ends of a log that is empty."""
        return {"floor": self.attest("floor", ORIGIN), "head": self.attest("head", ORIGIN)}

    def _hmac(self, label: bytes, seq: int, rest: bytes) -> bytes:
        return hmac.new(self._key.raw(), label + seq.to_bytes(_SEQ) + rest, hashlib.sha256).digest()
