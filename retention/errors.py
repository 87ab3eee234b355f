"""What can go wrong in keeping a job, in the domain's words.

RetentionError
├── NotFound          no such job for this tenant: unknown, foreign, deleted or expired alike
├── JobProcessing     a delete was refused because a worker holds the job
├── Superseded        the job changed, or went, since it was read: an outcome of writing, never a status
├── TenantGone        the tenant was deleted while the request was under way
├── AudioMissing      the job's audio is not in the audio store
├── Unsealable        sealed data is damaged, truncated, or bound to something else
├── KeyUnavailable    a key cannot be had: destroyed, or wrapped by a root key that is not this one
├── Unavailable       the store cannot be reached or refuses writes
└── SettingsError     a setting is missing, wrong, or contradicts another

HTTP does not appear here: `api/problems.py` holds the one table that maps these to statuses.
"""


class RetentionError(Exception):
    """Base of all errors that the domain raises on purpose."""


class NotFound(RetentionError):
    """No such job for this tenant. Foreign, deleted, expired and unknown ids are the same miss."""


class JobProcessing(RetentionError):
    """The job is held by a worker and cannot be deleted (spec 1.6)."""


class Superseded(RetentionError):
    """The job changed, or went, since it was read."""


class TenantGone(RetentionError):
    """The tenant was deleted while the request was under way."""


class AudioMissing(RetentionError):
    """The audio of the job is not in the audio store."""


class Unsealable(RetentionError):
    """Sealed data does not open: damaged, truncated, extended, or bound to something else."""


class KeyUnavailable(RetentionError):
    """A key cannot be had. What it sealed reads as gone."""


class Unavailable(RetentionError):
    """The store cannot be reached, or is not fit for service. A change whose reply was lost may have been made."""


class SettingsError(RetentionError):
    """A setting is missing, wrong, or contradicts another. The text names it and says what would do."""
