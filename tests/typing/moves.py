"""Moves that do not exist, for mypy: each line is an error, and an error that goes missing is one as well.

Never run. `warn_unused_ignores` makes an ignore without an error an error, so that this file passes
the type check exactly while every line of it is refused.
"""

from datetime import datetime

from retention.job import (
    Completed,
    Failed,
    Job,
    Processing,
    Waiting,
    claim,
    complete,
    fail,
    hand_back,
    reclaim,
)


def illegal_moves(
    waiting: Waiting, processing: Processing, completed: Completed, failed: Failed, now: datetime
) -> None:
    """Try every move from every status that it does not start from."""
    claim(processing, now=now, holder="h")  # type: ignore[arg-type]
    claim(completed, now=now, holder="h")  # type: ignore[arg-type]
    claim(failed, now=now, holder="h")  # type: ignore[arg-type]
    reclaim(waiting, holder="h")  # type: ignore[arg-type]
    reclaim(completed, holder="h")  # type: ignore[arg-type]
    reclaim(failed, holder="h")  # type: ignore[arg-type]
    hand_back(waiting)  # type: ignore[arg-type]
    hand_back(completed)  # type: ignore[arg-type]
    hand_back(failed)  # type: ignore[arg-type]
    complete(waiting, now=now)  # type: ignore[arg-type]
    complete(completed, now=now)  # type: ignore[arg-type]
    complete(failed, now=now)  # type: ignore[arg-type]
    fail(completed, "engine", now=now)  # type: ignore[arg-type]
    fail(failed, "engine", now=now)  # type: ignore[arg-type]
    fail(waiting, "bored", now=now)  # type: ignore[arg-type]


def fields_without_meaning(waiting: Waiting, processing: Processing, completed: Completed, now: datetime) -> None:
    """Ask for what a status does not have, and change what cannot change."""
    print(waiting.expires)  # type: ignore[attr-defined]
    print(waiting.attempts)  # type: ignore[attr-defined]
    print(processing.expires)  # type: ignore[attr-defined]
    print(completed.deadline)  # type: ignore[attr-defined]
    print(completed.reason)  # type: ignore[attr-defined]
    completed.expires = now  # type: ignore[misc]


def a_status_forgotten(job: Job) -> str:
    """Forget one status in a match."""
    match job:  # type: ignore[exhaustive-match]
        case Waiting() | Processing():
            return "unfinished"
        case Completed():
            return "completed"
    return "a failed one gets here"
