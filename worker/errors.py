"""Why audio does not become a result.

RecognitionError
├── Undecodable    the bytes are not audio of a form we take
├── TooLong        more audio than the operator allows
├── NotServed      the engine has no model of that name, any more
└── EngineFailed   a child died, hung, or misbehaved: the audio may be innocent

The texts are fixed: what a demuxer or an engine says about somebody's audio stays in the child. EngineUnusable
stands apart: it is about the engine before it has met any audio, and its text is for the operator.
"""

from retention.job import FailureReason


class RecognitionError(Exception):
    """The root; `reason` is what the failed job records."""

    reason: FailureReason = "engine"


class Undecodable(RecognitionError):
    """No audio could be decoded."""

    reason = "undecodable"


class TooLong(RecognitionError):
    """The decoded audio is longer than `max_audio`."""

    reason = "too_long"


class NotServed(RecognitionError):
    """The engine that runs now does not serve the model that the job was accepted for."""

    reason = "model"


class EngineFailed(RecognitionError):
    """A child process died, made no progress, or broke the protocol."""

    reason = "engine"


class EngineUnusable(Exception):
    """The engine cannot be had as it is set. The text says why, and what would do."""
