"""The records and the moves between them."""

import inspect
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec
import pytest

from retention import job
from retention.job import (
    Completed,
    CustomerTag,
    Failed,
    Job,
    JobId,
    Processing,
    TenantId,
    Waiting,
    accept,
    claim,
    complete,
    fail,
    hand_back,
    new_job_id,
    reclaim,
)

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 3, 1, 13, tzinfo=UTC)
ID = JobId("11111111-2222-4333-8444-555555555555")
TENANT = TenantId("t1")
CUSTOMER = CustomerTag("c1")


def waiting() -> Waiting:
    return Waiting(
        id=ID,
        tenant=TENANT,
        revision=1,
        created=NOON,
        updated=NOON,
        results_ttl=timedelta(hours=2),
        customer=CUSTOMER,
        deadline=datetime(2026, 3, 8, 12, tzinfo=UTC),
    )


def processing(*, revision: int = 2, attempts: int = 1, holder: str = "h1") -> Processing:
    return Processing(
        id=ID,
        tenant=TENANT,
        revision=revision,
        created=NOON,
        updated=LATER,
        results_ttl=timedelta(hours=2),
        customer=CUSTOMER,
        deadline=datetime(2026, 3, 8, 12, tzinfo=UTC),
        attempts=attempts,
        holder=holder,
    )


def diagram() -> str:
    """Draw the machine from the signatures of the moves, as Mermaid text."""
    lines = []
    for name, move in inspect.getmembers(job, inspect.isfunction):
        hints = get_type_hints(move)
        if not name.startswith("_") and hints["return"] in get_args(Job):
            source = hints.get("job")
            for before in get_args(source) or [source]:
                start = before.__name__ if before else "[*]"
                lines.append(f"    {start} --> {hints['return'].__name__}: {name}")
    return "\n".join(["stateDiagram-v2", *sorted(lines)])


def test_the_machine_is_the_one_of_the_contract() -> None:
    """Six moves lead between four statuses, and nothing leads out of a final one."""
    assert diagram() == (
        "stateDiagram-v2\n"
        "    Processing --> Completed: complete\n"
        "    Processing --> Failed: fail\n"
        "    Processing --> Processing: hand_back\n"
        "    Processing --> Processing: reclaim\n"
        "    Waiting --> Failed: fail\n"
        "    Waiting --> Processing: claim\n"
        "    [*] --> Waiting: accept"
    )


def test_the_readme_shows_the_machine_that_runs() -> None:
    """The diagram in the README is the one that the signatures of the moves give."""
    assert diagram() in (ROOT / "README.md").read_text()


def test_accepting_begins_at_revision_one_with_a_deadline() -> None:
    """A new job waits, and is to be finished within its patience."""
    begun = accept(ID, TENANT, now=NOON, results_ttl=timedelta(hours=2), patience=timedelta(days=7), customer=CUSTOMER)
    assert begun == waiting()


def test_claiming_counts_the_first_attempt() -> None:
    """A claimed job is being processed, by a named holder, from now."""
    assert claim(waiting(), now=LATER, holder="h1") == processing()


def test_reclaiming_counts_another_attempt_and_shows_clients_no_change() -> None:
    """The next holder has the next attempt; `updated` stays (spec 2.1)."""
    assert reclaim(processing(), holder="h2") == processing(revision=3, attempts=2, holder="h2")


def test_handing_back_does_not_count_the_attempt() -> None:
    """A job that was handed back has no holder and one attempt fewer."""
    assert hand_back(processing()) == processing(revision=3, attempts=0, holder="")


def test_handing_back_and_reclaiming_costs_no_attempt() -> None:
    """Orderly stops may happen for ever."""
    taken = processing()
    for _ in range(5):
        taken = reclaim(hand_back(taken), holder="h1")
    assert taken == processing(revision=12)


def test_completing_keeps_the_result_from_now() -> None:
    """The result expires `results_ttl` after completion, not after acceptance (spec 2.3)."""
    assert complete(processing(), now=LATER) == Completed(
        id=ID,
        tenant=TENANT,
        revision=3,
        created=NOON,
        updated=LATER,
        results_ttl=timedelta(hours=2),
        customer=CUSTOMER,
        expires=datetime(2026, 3, 1, 15, tzinfo=UTC),
    )


@pytest.mark.parametrize(("before", "revision"), [(waiting(), 2), (processing(), 3)])
def test_failing_keeps_the_reason_as_long_as_a_result(before: Waiting | Processing, revision: int) -> None:
    """A failed job can be asked why, for its `results_ttl`."""
    assert fail(before, "deadline", now=LATER) == Failed(
        id=ID,
        tenant=TENANT,
        revision=revision,
        created=NOON,
        updated=LATER,
        results_ttl=timedelta(hours=2),
        customer=CUSTOMER,
        expires=datetime(2026, 3, 1, 15, tzinfo=UTC),
        reason="deadline",
    )


FINAL: list[Job] = [complete(processing(), now=LATER), fail(processing(), "engine", now=LATER)]


@pytest.mark.parametrize("record", [waiting(), processing(), *FINAL], ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written(record: Job) -> None:
    """Encoding and decoding change nothing, microseconds and time zone included."""
    assert msgspec.json.decode(msgspec.json.encode(record), type=Job) == record


def without(record: Job, field: str) -> bytes:
    fields = msgspec.to_builtins(record)
    del fields[field]
    return msgspec.json.encode(fields)


EVERYWHERE = ["status", "id", "tenant", "revision", "created", "updated", "results_ttl", "deadline"]
REQUIRED: list[tuple[Job, str]] = [
    *((waiting(), field) for field in EVERYWHERE),
    *((processing(), field) for field in ("deadline", "attempts", "holder")),
    (FINAL[0], "expires"),
    (FINAL[1], "expires"),
    (FINAL[1], "reason"),
]


@pytest.mark.parametrize(("record", "field"), REQUIRED)
def test_a_record_without_one_of_its_fields_is_refused(record: Job, field: str) -> None:
    """A field exists exactly when it means something; a record that lacks one is damage, not a default."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(without(record, field), type=Job)


@pytest.mark.parametrize(("field", "value"), [("status", "done"), ("reason", "bored"), ("expires", "soon")])
def test_a_record_with_an_unknown_word_is_refused(field: str, value: str) -> None:
    """Statuses and reasons are closed lists, moments are moments."""
    changed = msgspec.json.encode(msgspec.to_builtins(FINAL[1]) | {field: value})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(changed, type=Job)


def test_a_record_from_a_newer_process_is_read() -> None:
    """Unknown fields are passed over, so that processes of two versions share a Redis during a roll-out."""
    newer = msgspec.json.encode(msgspec.to_builtins(waiting()) | {"added_later": 1})
    assert msgspec.json.decode(newer, type=Job) == waiting()


def test_ids_are_random_uuids() -> None:
    """Ids are version 4 UUIDs, and differ."""
    ids = {new_job_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(id_) == 36 and id_[14] == "4" for id_ in ids)
