"""The model check, last part: histories that are too long or too particular to come about by chance."""

from collections.abc import Callable

from retention.entries import entry_of
from tests.integration.afterwards import KILLED, Afterwards
from tests.integration.cell import HOUR
from tests.integration.history import History
from tests.integration.lifecycle import EVENTS, Lifecycle
from tests.integration.machine import Machine
from tests.integration.model import Known


def tried_again_and_again(histories: Lifecycle) -> None:
    """Deliver a job until its attempts are spent, and once more: it fails."""
    submit(histories)
    for _ in range(4):
        histories.deliver(record=only(histories).job)


def leased_by_another(histories: History) -> None:
    """End and renew another's lease: neither is possible."""
    submit(histories)
    histories.lease(worker=0, most=1)
    histories.settle(id_=only(histories).job.id, worker=1)
    histories.renew(id_=only(histories).job.id, worker=1)


def lapsed(histories: History) -> None:
    """Let a lease lapse: another worker gets it before what waits."""
    submit(histories)
    histories.lease(worker=0, most=1)
    histories.let_lapse(id_=only(histories).job.id)
    histories.lease(worker=1, most=1)


def completed(histories: Lifecycle) -> None:
    """Complete a job: it has a result, and no audio any more."""
    submit(histories)
    histories.deliver(record=only(histories).job)
    histories.end(held=histories.helds[-1], completes=True)


def finished_too_late(histories: Lifecycle) -> None:
    """Finish a job that another worker has by now: it is refused."""
    submit(histories)
    for _ in range(2):
        histories.deliver(record=only(histories).job)
    histories.end(held=histories.helds[0], completes=True)


def told_twice_at_once(histories: Afterwards) -> None:
    """Of two notifiers that have the same delivery, the later one notes what became of it."""
    submit(histories)
    histories.deliver(record=only(histories).job)
    for teller in (0, 1):
        histories.tell(which=only(histories).job.id, teller=teller, status=KILLED)
    histories.tell_late(which=0, status=200)


def deleted_while_it_is_told(histories: Afterwards) -> None:
    """Delete a job while its notification is on the wire: what is noted afterwards brings nothing back."""
    completed(histories)
    job = only(histories).job
    histories.tell(which=job.id, teller=0, status=200)
    histories.tell(which=job.id, teller=0, status=KILLED)
    assert histories.sent
    # Its record alone: a whole deletion takes the lease, too.
    histories.run(histories.cell.store.erase(entry_of(job)))
    histories.model.remove(job.id)
    histories.tell_late(which=0, status=500)


def dead_and_revived(histories: Afterwards) -> None:
    """Revive what is dead when nothing else is to be told: it is queued again."""
    submit(histories)
    histories.deliver(record=only(histories).job)
    histories.tell(which=only(histories).job.id, teller=0, status=410)
    histories.replay()


def told_after_the_url_was_taken_back(histories: Afterwards) -> None:
    """Register a URL again: it is another registration, and what was pending is not told."""
    submit(histories)
    histories.deliver(record=only(histories).job)
    histories.register_anew()
    histories.tell(which=only(histories).job.id, teller=0, status=200)


WRITTEN: dict[type[Machine], list[Callable[..., None]]] = {
    History: [tried_again_and_again, leased_by_another, lapsed, completed, finished_too_late],
    Afterwards: [told_twice_at_once, deleted_while_it_is_told, dead_and_revived, told_after_the_url_was_taken_back],
}


def run_written(kind: type[Machine]) -> None:
    """Run the histories that are written for this kind of machine, and see that the cell is as its model at the end."""
    for history in WRITTEN[kind]:
        machine = kind()
        try:
            history(machine)
            machine.the_cell_is_as_it_should_be()
        finally:
            machine.teardown()


def submit(histories: Lifecycle) -> None:
    histories.submit(results_ttl=HOUR, customer="c", events=EVENTS[1], key="k1", gone=False)


def only(histories: Machine) -> Known:
    [known] = histories.model.jobs.values()
    return known
