"""How what is run in the foreground takes a signal to stop."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from deploy.processes import interrupt_on_signals, run_interruptibly, uninterrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leave the test runner's own handlers as they were."""
    before = {number: signal.getsignal(number) for number in ENDING}
    interrupt_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_signal_waits_for_the_end_of_a_birth(number: signal.Signals) -> None:
    """What is started in the block is known when the interrupt comes, and it does come."""
    born = []

    def give_birth() -> None:
        with uninterrupted():
            signal.raise_signal(number)
            born.append("a process")

    with pytest.raises(KeyboardInterrupt):
        give_birth()
    assert born == ["a process"]


def test_only_the_first_signal_interrupts() -> None:
    """An impatient second one does not cut the clearing up short."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    for number in ENDING:
        signal.raise_signal(number)


def test_without_a_signal_nothing_changes() -> None:
    """After the block the handlers are those of before."""
    before = [signal.getsignal(number) for number in ENDING]
    with uninterrupted():
        pass
    assert [signal.getsignal(number) for number in ENDING] == before


def test_a_signal_cancels_what_is_run_and_lets_it_clear_up() -> None:
    """Whatever the event loop does in that moment: the interrupt comes when the work has ended."""
    ended = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("in good order")

    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(work())
    assert ended == ["in good order"]


def test_what_is_run_without_a_signal_ends_by_itself() -> None:
    """Its error is the caller's, and the handlers are those of before."""
    before = [signal.getsignal(number) for number in ENDING]

    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        run_interruptibly(work())
    assert [signal.getsignal(number) for number in ENDING] == before
