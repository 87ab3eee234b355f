"""Random histories: operations on the jobs and keys of two tenants, one after the other, interleaved, and killed."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from retention.job import JobId
from tests.crashes.campaign import OPERATIONS, SCENES, Campaign, Run, play
from tests.crashes.effects import Point
from tests.crashes.keeping import KEYS
from tests.crashes.ledger import Ledger
from tests.crashes.recovery import Recovery
from tests.crashes.working import JOBS
from tests.crashes.world import world

PATIENCE = 30.0
STEP = st.integers(min_value=0, max_value=30)
WHICH = st.integers(min_value=0, max_value=5)
JOB, KEY = st.sampled_from(sorted(JOBS)), st.sampled_from(sorted(KEYS))


class Histories(RuleBasedStateMachine):
    """What was promised holds at the end, whatever has happened in whatever order."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.campaign = Campaign(self.run(self.stack.enter_async_context(world(self.url))))
        self.ledger: Ledger

    def run(self, action: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(action, PATIENCE))

    @initialize(scene=st.sampled_from(SCENES))
    def begin(self, scene: str) -> None:
        self.scene = scene
        self.run(self.campaign.set_scenes(scene))
        self.ledger = self.campaign.scenes[scene].ledger.copy()
        self.tenants = list(dict.fromkeys([self.ledger.tenant, *(one.tenant for one in self.ledger.promises.values())]))

    def teardown(self) -> None:
        try:
            if hasattr(self, "tenants"):
                self.run(Recovery(self.campaign.world, self.ledger).check())
        finally:
            self.run(self.stack.aclose())
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()

    @rule(other=st.booleans())
    def turn_to(self, *, other: bool) -> None:
        """Go on with this or that tenant."""
        self.ledger.tenant = self.tenants[other]

    @rule(name=JOB | KEY, which=WHICH)
    def do(self, name: str, which: int) -> None:
        self._play(name, which)

    @rule(name=JOB | KEY, which=WHICH, step=STEP, done=st.integers(min_value=0, max_value=1))
    def kill(self, name: str, which: int, step: int, done: int) -> None:
        self._play(name, which, crash=Point(effect=step, done=done))

    @rule(name=JOB, meanwhile=KEY, which=WHICH, step=STEP, goes_on=st.booleans())
    def interrupt_a_job(self, name: str, meanwhile: str, which: int, step: int, *, goes_on: bool) -> None:
        self._play(name, which, hold=step, meanwhile=meanwhile, goes_on=goes_on)

    @rule(name=KEY, meanwhile=JOB | KEY, which=WHICH, step=STEP, goes_on=st.booleans())
    def interrupt_a_key(self, name: str, meanwhile: str, which: int, step: int, *, goes_on: bool) -> None:
        self._play(name, which, hold=step, meanwhile=meanwhile, goes_on=goes_on)

    def _play(self, name: str, which: int, *, meanwhile: str = "", **options: Any) -> None:
        one, other = OPERATIONS[name], OPERATIONS.get(meanwhile)
        labels = self._labels(which)
        if all(not each.aims or each.aims in labels for each in (one, other) if each):
            self.ledger.labels = labels
            run = Run(scene=self.scene, operation=one, meanwhile=other, **options)
            self.run(play(self.campaign.world, self.ledger, run))

    def _labels(self, which: int) -> dict[str, JobId]:
        """Choose the jobs that things are done to: any job waits, for whoever believes so."""
        mine = [promise for promise in self.ledger.promises.values() if promise.tenant == self.ledger.tenant]
        kinds = {
            "waiting": mine,
            "held": [promise for promise in mine if promise.id in self.ledger.helds],
            "completed": mine[::-1],
            "told": [promise for promise in mine if promise.registration],
        }
        return {label: those[which % len(those)].id for label, those in kinds.items() if those}
