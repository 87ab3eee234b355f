"""What can go wrong in keeping a job, in the domain's words.

RetentionError
├── NotFound          no such job for this tenant: unknown, foreign, deleted or expired alike
├── JobProcessing     a delete was refused because a worker has the job in hand
├── Superseded        the job changed, or went, since it was read: an outcome of writing, never a status
├── TenantGone        the tenant was deleted while the request was under way
├── CustomerErased    the customer was erased while the request was under way
├── CellRefused       a tenant cannot live in that cell under its plan; the text says why, for the operator
├── NotRegistered     no such callback URL is registered by this tenant
├── ChallengeFailed   the receiver did not answer the challenge as it must; the text says how, for the client
├── TooManyChallenges more callback URLs were challenged within an hour than are allowed
├── LimitReached      a limit of the tenant, or of its API key, is reached
├── AudioMissing      the job's audio is not in the audio store
├── Unsealable        sealed data is damaged, truncated, or bound to something else
├── KeyUnavailable    a key cannot be had: destroyed, damaged, or wrapped by a root key that is not this one
├── KeyDisabled       a key is there and may not be used at present: suspended, deactivated, or about to be purged
├── KeyRefused        an operation on a key is not allowed in its state; the text says why, for the operator
├── WrapRefused       a data key is wrapped by a key that may not wrap any more: it is to be wrapped anew
├── NothingOffered    no worker has started yet, so nobody knows what can be recognised
├── Denied            the address or the form of a callback URL is not allowed
├── Unreachable       a callback receiver gave no whole answer in time
├── AuditBroken       the audit log was tampered with, and nothing is done that it must tell of
├── Unavailable       the store, or who keeps the root key, cannot be reached or refuses for now
└── SettingsError     a setting is missing, wrong, or contradicts another

HTTP does not appear here: `api/problems.py` holds the one table that maps these to statuses.
"""

from datetime import timedelta


class RetentionError(Exception):
    """Base of all errors that the domain raises on purpose."""


class NotFound(RetentionError):
    """No such job for this tenant. Foreign, deleted, expired and unknown ids are the same miss."""


class JobProcessing(RetentionError):
    """A worker has the job in hand, and it cannot be deleted (spec 1.6)."""


class Superseded(RetentionError):
    """The job changed, or went, since it was read."""


class TenantGone(RetentionError):
    """The tenant was deleted while the request was under way."""


class CustomerErased(RetentionError):
    """The customer whose data this is was erased while the request was under way (spec 6.2)."""


class CellRefused(RetentionError):
    """A tenant cannot live in that cell under its plan. The text says why, and is for the operator."""


class NotRegistered(RetentionError):
    """No such callback URL is registered by this tenant (spec 1.2, 1.3)."""


class ChallengeFailed(RetentionError):
    """The receiver did not answer the challenge as it must (spec 3.1). The text says how, and is for the client."""


class TooManyChallenges(RetentionError):
    """More callback URLs were challenged within an hour than are allowed (spec 1.1)."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(f"wait {wait}")
        self.wait = wait


class LimitReached(RetentionError):
    """A limit of the tenant, or of its API key, is reached: which, and after how long it is worth to come again."""

    def __init__(self, limit: str, wait: timedelta) -> None:
        super().__init__(f"{limit}: wait {wait}")
        self.limit = limit
        self.wait = wait


class AudioMissing(RetentionError):
    """The audio of the job is not in the audio store."""


class Unsealable(RetentionError):
    """Sealed data does not open: damaged, truncated, extended, or bound to something else."""


class KeyUnavailable(RetentionError):
    """A key cannot be had. What it sealed reads as gone."""


class KeyDisabled(RetentionError):
    """A key is there and may not be used at present. What it wrapped is kept, and denied."""


class KeyRefused(RetentionError):
    """An operation on a key is not allowed in its state, or its material will not do. The text is for the operator."""


class WrapRefused(RetentionError):
    """A data key is wrapped by a key, or a version of it, that may not wrap any more. It is to be wrapped anew."""


class NothingOffered(RetentionError):
    """No worker has started yet, so nobody knows what can be recognised."""


class Denied(RetentionError):
    """The address or the form of a callback URL is not allowed. The text is fixed: it does not say what was wrong."""

    def __init__(self) -> None:
        super().__init__("the callback URL is not allowed")


class Unreachable(RetentionError):
    """A callback receiver gave no whole answer in time: broken off, slow, no HTTP, no TLS. Its text is fixed."""

    def __init__(self) -> None:
        super().__init__("the callback receiver cannot be reached")


class AuditBroken(RetentionError):
    """The audit log was tampered with: the text says where. What it must tell of is not done until it is restarted."""


class Unavailable(RetentionError):
    """The store, or who keeps the root key, cannot be reached, or is not fit for service.

    A change whose reply was lost may have been made.
    """


class SettingsError(RetentionError):
    """A setting is missing, wrong, or contradicts another. The text names it and says what would do."""
