"""Every operation killed at every step, and every two interleaved at every step.

An operation is run once to learn its effects. Then, from the same beginning, it is killed before, within and after each
of them; and it is held before each of them while another is done from beginning to end, after which it goes on, or is
killed. Every time all processes are dead then, and others recover: `recovery.py` says what must be true.
"""

import asyncio
import traceback
from collections import Counter
from typing import Any

from msgspec import Struct

from retention import keyspace
from retention.errors import Unavailable
from retention.seal import Key
from tests.crashes.effects import Life, Point
from tests.crashes.keeping import KEYS
from tests.crashes.ledger import URL, Ledger
from tests.crashes.operations import Operation, registered, submitted
from tests.crashes.recovery import Recovery
from tests.crashes.working import JOBS, finish, hold
from tests.crashes.world import Snapshot, World
from tests.integration.cell import Cell
from tests.killing import Crash

SCENES = ("common", "own", "imported")
OPERATIONS = {**JOBS, **KEYS}
PATIENCE = 20.0
_ENDS = {"lost": "lost", "resurrected": "taken away is", "closed": "open"}


class Scene(Struct, frozen=True, kw_only=True):
    """Where a history begins: a tenant with one job of every kind, and another tenant."""

    name: str
    snapshot: Snapshot
    ledger: Ledger


class Run(Struct, frozen=True, kw_only=True):
    """One history: an operation, where it is killed or held, and what is done meanwhile."""

    scene: str
    operation: Operation
    crash: Point | None = None
    hold: int | None = None
    meanwhile: Operation | None = None
    goes_on: bool = True

    def __str__(self) -> str:
        if self.meanwhile is None:
            return f"{self.scene}: {self.operation.name} killed at {self.crash}"
        then = "goes on" if self.goes_on else "is killed"
        return f"{self.scene}: {self.operation.name} held before {self.hold}, {self.meanwhile.name}, {then}"


class Campaign:
    """Runs histories in one world and counts them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.scenes: dict[str, Scene] = {}
        self.counts: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        """What went wrong, by run."""
        self._lives: dict[tuple[str, str], Life] = {}

    async def set_scenes(self, *names: str) -> None:
        for name in names or SCENES:
            self.scenes[name] = await self._scene(name)

    async def enumerate(self, *scenes: str) -> list[Run]:
        """Return every history, from what each operation does when nothing goes wrong."""
        runs: list[Run] = []
        for scene in scenes or SCENES:
            here = [each for each in OPERATIONS.values() if scene in each.scenes]
            for one in here:
                runs += await self.killed(scene, one)
                for other in here:
                    if one.name in KEYS or other.name in KEYS:
                        runs += await self.interleaved(scene, one, other)
        return runs

    async def killed(self, scene: str, one: Operation) -> list[Run]:
        """Return the histories in which an operation is killed."""
        life = await self._alone(scene, one)
        self.counts["operations"] += 1
        self.counts["crash points"] += life.points()
        return [Run(scene=scene, operation=one, crash=point) for point in life.worlds()]

    async def interleaved(self, scene: str, one: Operation, other: Operation) -> list[Run]:
        """Return the histories in which another operation is done in the middle of one."""
        effects = (await self._alone(scene, one)).effects
        self.counts["pairs"] += 1
        return [
            Run(scene=scene, operation=one, hold=number, meanwhile=other, goes_on=goes_on)
            for number in range(len(effects))
            for goes_on in (True, False)
            # It leaves the same world wherever it is killed between two changes.
            if goes_on or number == 0 or effects[number - 1].changed
        ]

    async def run(self, run: Run) -> None:
        """Play one history and judge it."""
        self.counts["runs"] += 1
        try:
            await asyncio.wait_for(self._play(run), PATIENCE)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
            self.failures[str(run)] = _told(error)

    def found(self) -> str:
        """Return what there is to play."""
        return ", ".join(f"{self.counts[what]} {what}" for what in ("operations", "crash points", "pairs"))

    def summary(self) -> str:
        """Return what was played, and how it ended."""
        ends = {what: sum(word in why for why in self.failures.values()) for what, word in _ENDS.items()}
        told = ", ".join(f"{what} {many}" for what, many in ends.items())
        return f"{self.counts['runs']} histories: {told}; failures of any kind {len(self.failures)}"

    async def _play(self, run: Run) -> None:
        scene = self.scenes[run.scene]
        await self.world.restore(scene.snapshot)
        ledger = scene.ledger.copy()
        for operation in (run.operation, run.meanwhile):
            for before in operation.prepare if operation else ():
                await before.run(await self.world.process(ledger.tenant), ledger)
        await play(self.world, ledger, run)
        await Recovery(self.world, ledger).check()

    async def _alone(self, scene: str, operation: Operation) -> Life:
        """Let an operation do all it does, and learn what that is."""
        if known := self._lives.get((scene, operation.name)):
            return known
        await self.world.restore(self.scenes[scene].snapshot)
        ledger, life = self.scenes[scene].ledger.copy(), Life(look=self.world.look)
        for before in operation.prepare:
            await before.run(await self.world.process(ledger.tenant), ledger)
        cell = await self.world.process(ledger.tenant, life)
        life.watch()
        await operation.run(cell, ledger)
        self._lives[scene, operation.name] = life
        return life

    async def _scene(self, name: str) -> Scene:
        await self.world.redis.flushall()
        bystander = await self.world.process(None)
        cell = await self.world.process(None)
        ledger = Ledger(tenant=cell.tenant)
        if name == "own":
            await cell.custody.create(cell.tenant)
        if name == "imported":
            ledger.materials.append(Key.random())
            await cell.custody.create(cell.tenant, material=ledger.materials[0])
        await registered(cell, ledger, URL)
        await submitted(bystander, ledger)
        for label in ("waiting", "held", "completed", "told"):
            customer = "c" if label == "completed" else None
            promise = await submitted(cell, ledger, customer=customer, callback=label == "told")
            assert promise is not None
            ledger.labels[label] = promise.id
        await _work(cell, ledger, "held", ends=False)
        await _work(cell, ledger, "completed")
        await _work(cell, ledger, "told")
        await cell.custody.tend("worker")
        await cell.custody.rotation.go_on("worker")
        await self.world.redis.delete(keyspace.KEYS_TENDED, keyspace.KEYS_REWRAPPED)
        return Scene(name=name, snapshot=await self.world.snapshot(), ledger=ledger)


async def play(world: World, ledger: Ledger, run: Run) -> None:
    """Do what a history says, in the world as it is. All processes are dead then."""
    others = asyncio.all_tasks()
    life = Life(crash=run.crash, hold=run.hold)
    cell = await world.process(ledger.tenant, life)
    life.watch()
    task = asyncio.ensure_future(_killable(run.operation, cell, ledger, life))
    if run.meanwhile:
        held = asyncio.ensure_future(life.held.wait())
        await asyncio.wait({task, held}, return_when=asyncio.FIRST_COMPLETED)
        held.cancel()
        await run.meanwhile.run(await world.process(ledger.tenant), ledger)
        if run.goes_on:
            life.released.set()
        else:
            life.kill()
    await task
    life.kill()
    await _end(asyncio.all_tasks() - others)


async def _work(cell: Cell, ledger: Ledger, label: str, *, ends: bool = True) -> None:
    labels = dict(ledger.labels)
    ledger.labels["waiting"] = ledger.labels["held"] = labels[label]
    await hold(cell, ledger)
    if ends:
        await finish(cell, ledger)
        await cell.queue.discard(labels[label], queues=(keyspace.RECOGNITION,))
    ledger.labels = labels


async def _killable(operation: Operation, cell: Cell, ledger: Ledger, life: Life) -> None:
    try:
        await operation.run(cell, ledger)
    except Crash:
        return
    except Unavailable:
        # A task of its own writes the audit log: it is killed, and whoever waits for it hears no more than that.
        if not life.dead:
            raise


async def _end(left: set[asyncio.Task[Any]]) -> None:
    """End what a dead process had begun beside."""
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _told(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in last][-4:]
    return f"{type(error).__name__}: {error} ({' < '.join(reversed(where))})"
