"""Effects: whatever leaves a process, which is each message to Redis and each call of the audio store.

Before, between and after them, and nowhere else, can others tell what a process has done: there it can be killed or
held. All are found by running, none is named. A killed process does nothing more, whatever its code would clean up.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline

from retention.audio_directory import AudioDirectory
from retention.job import JobId, TenantId
from retention.logged_directory import LoggedDirectory
from tests.killing import Crash

T = TypeVar("T")


class Effect(Struct, kw_only=True):
    """What left the process, and in how many parts others may see it happen."""

    name: str
    parts: int
    changed: bool = True
    """Whether the world was another after it."""


class Point(Struct, frozen=True, kw_only=True):
    """A place to be killed at: in this effect, with so many of its parts done. With all: before the reply is seen."""

    effect: int
    done: int


class Life:
    """One process, from its start until it ends or is killed."""

    def __init__(
        self,
        *,
        crash: Point | None = None,
        hold: int | None = None,
        look: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.effects: list[Effect] = []
        """What has left it since it was watched."""
        self.dead = False
        self.held = asyncio.Event()
        """It is held before the effect that was asked for."""
        self.released = asyncio.Event()
        self._crash = crash
        self._hold = hold
        self._look = look
        self._watched = False

    def watch(self) -> None:
        """Count effects from here on."""
        self._watched = True

    def kill(self) -> None:
        """Let it do nothing more."""
        self.dead = True
        self.released.set()

    async def effect(self, name: str, parts: int, do: Callable[[int], Awaitable[T]]) -> T:
        """Have an effect: `do` does so many parts of it, and returns the reply."""
        self._live()
        if not self._watched:
            return await do(parts)
        number = len(self.effects)
        self.effects.append(Effect(name=name, parts=parts))
        if number == self._hold:
            self.held.set()
            await self.released.wait()
            self._live()
        if self._crash and self._crash.effect == number:
            if self._crash.done:
                await do(self._crash.done)
            self.kill()
            self._live()
        before = await self._look() if self._look else None
        reply = await do(parts)
        if self._look:
            self.effects[number].changed = await self._look() != before
        self._live()
        return reply

    def points(self) -> int:
        """Return at how many points it could have been killed: before, within and after each effect."""
        return sum(effect.parts + 1 for effect in self.effects)

    def worlds(self) -> list[Point]:
        """Return a point for each different world that it could have left.

        After one effect and before the next it leaves the same, and so it does before and after it has only read.
        """
        return [Point(effect=0, done=0)] + [
            Point(effect=number, done=done)
            for number, effect in enumerate(self.effects)
            if effect.changed
            for done in range(1, effect.parts + 1)
        ]

    def _live(self) -> None:
        if self.dead:
            raise Crash


class WatchedRedis(Redis):  # type: ignore[misc] # mypy does not follow redis
    """A client all of whose messages are effects."""

    def __init__(self, life: Life, pool: ConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self.life = life
        self.texts: list[str] = []
        """The scripts that were registered."""

    def register_script(self, script: Any) -> Any:
        self.texts.append(script)
        return super().register_script(script)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        run = super().execute_command
        return await self.life.effect(str(args[0]), 1, lambda _: run(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "WatchedPipeline":  # noqa: FBT001, FBT002
        return WatchedPipeline(self.life, self.connection_pool, self.response_callbacks, transaction, shard_hint)


class WatchedPipeline(Pipeline):  # type: ignore[misc] # the same
    """A pipeline that is one effect: all of it or nothing in a transaction, otherwise done command by command."""

    command_stack: list[Any]

    def __init__(self, life: Life, *args: Any) -> None:
        super().__init__(*args)
        self.life = life

    async def execute(self, raise_on_error: bool = True) -> Any:  # noqa: FBT001, FBT002
        commands = list(self.command_stack)
        if not commands:
            return []
        run = super().execute

        async def do(parts: int) -> Any:
            if not self.is_transaction:
                self.command_stack = commands[:parts]
            return await run(raise_on_error)

        names = "+".join(str(command[0][0]) for command in commands[:3])
        return await self.life.effect(names, 1 if self.is_transaction else len(commands), do)


class WatchedAudio(AudioDirectory):
    """A directory of recordings, each call of which is an effect; a removal of several is done one by one."""

    def __init__(self, life: Life, root: Path) -> None:
        super().__init__(root)
        self.life = life

    async def write(self, tenant: TenantId, job: JobId, sealed: AsyncIterable[bytes]) -> int:
        write = super().write
        return await self.life.effect("audio.write", 1, lambda _: write(tenant, job, sealed))

    async def read(self, tenant: TenantId, job: JobId) -> AsyncIterator[bytes]:
        await self.life.effect("audio.read", 1, lambda _: asyncio.sleep(0))
        async for piece in super().read(tenant, job):
            yield piece

    async def holds(self, tenant: TenantId, job: JobId) -> bool:
        holds = super().holds
        return await self.life.effect("audio.holds", 1, lambda _: holds(tenant, job))

    async def remove(self, tenant: TenantId, *jobs: JobId) -> None:
        remove = super().remove
        await self.life.effect("audio.remove", max(1, len(jobs)), lambda parts: remove(tenant, *jobs[:parts]))

    async def remove_tenant(self, tenant: TenantId) -> None:
        remove = super().remove_tenant
        await self.life.effect("audio.remove_tenant", 1, lambda _: remove(tenant))

    async def older_than(self, age: timedelta) -> list[tuple[TenantId, JobId]]:
        older = super().older_than
        return await self.life.effect("audio.older_than", 1, lambda _: older(age))


class WatchedLog(WatchedAudio, LoggedDirectory):
    """The same for the request log."""

    def __init__(self, life: Life, jobs: Path) -> None:
        LoggedDirectory.__init__(self, jobs)
        self.life = life

    async def keep(self, tenant: TenantId, job: JobId) -> int:
        keep = super().keep
        return await self.life.effect("audio.keep", 1, lambda _: keep(tenant, job))
