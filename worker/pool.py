"""The recognising children: warm, confined, and replaced when they hang or die.

A pebble pool, made safe against its own children. Stock pebble unpickles whatever a child sends, so
a child that was taken over would take over the worker: here only the four types of its protocol are
read, and results are plain bytes, validated. Stock pebble also gives up for good when an idle child
dies or the shared lock dies with its holder: here the pool is then replaced.
"""

import asyncio
import contextlib
import functools
import io
import os
import pickle
import signal
import threading
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from multiprocessing.connection import Connection, reduce_connection  # type: ignore[attr-defined]
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

import msgspec
import pebble
from msgspec import Struct
from pebble.common.types import CONSTS, ResultStatus

from retention.offer import Offer
from worker import sandbox
from worker.errors import EngineFailed
from worker.recognizers import Recognizer, Utterance, find

# Children ignore SIGTERM (see `worker.preload`), so pebble need not wait before it sends SIGKILL.
CONSTS.term_timeout = 0

_LARGEST_ANSWER = 4 << 20
_STARTING = timedelta(seconds=60)
"""A child imports and loads its model in about a second; a busy machine gets more."""


class _Started(Struct, frozen=True, kw_only=True):
    """What a child says of itself when it is warm."""

    isolation: dict[str, str]
    offer: Offer


class RecognizerPool:
    """Children that each recognise one segment at a time.

    They live for many recordings, so no sum of processor time would be too much, as it is for a decoder. Instead
    `stall` bounds each segment, in time that passes: the child that takes longer is killed. A child that was taken
    over could compute between segments, too, until its pool is replaced or the worker ends.
    """

    def __init__(self, *, recognizer: str, model: Path | None, children: int, memory: int, stall: timedelta) -> None:
        self._recognizer = recognizer
        self._model = model
        self._children = children
        self._memory = memory
        self._stall = stall.total_seconds()
        # A segment is given to pebble only when a child is free: what waits can be dropped without killing.
        self._free = asyncio.Semaphore(children)
        self._pool: Any = None
        self.isolation: sandbox.Isolation = {}
        self.offer = Offer(engine="", languages=(), features=frozenset())

    async def start(self) -> None:
        """Start the children; return when every one is warm. Raises EngineFailed when they cannot be."""
        ready = self._replace()
        pool = self._pool
        report = pool.schedule(_report)

        def all_warm() -> bool:
            for _ in range(self._children):
                while not ready.acquire(timeout=0.1):
                    if not pool.active:
                        return False
            return True

        try:
            async with asyncio.timeout(_STARTING.total_seconds()):
                if not await asyncio.to_thread(all_warm):
                    raise EngineFailed
                started = msgspec.json.decode(await asyncio.wrap_future(report), type=_Started)
        except (TimeoutError, BrokenProcessPool, pebble.ProcessExpired, msgspec.MsgspecError):
            raise EngineFailed from None
        self.isolation, self.offer = started.isolation, started.offer

    async def close(self) -> None:
        """Kill the children."""
        if self._pool is not None:
            self._pool.stop()
            await asyncio.to_thread(self._pool.join)
            self._pool = None

    async def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """Recognise one segment, see `Recognizer`; once more if its child dies.

        Cancelling kills the child that is at it. Raises EngineFailed.
        """
        async with self._free:
            for _ in range(2):
                with contextlib.suppress(pebble.ProcessExpired, BrokenProcessPool):
                    return await self._attempt(pcm, language, alternatives)
        raise EngineFailed

    async def _attempt(self, pcm: bytes, language: str, alternatives: int) -> Utterance:
        pool = self._pool
        if not pool.active:
            self._replace()
            pool = self._pool
        task = asyncio.wrap_future(pool.schedule(_recognize, args=(pcm, language, alternatives), timeout=self._stall))
        try:
            # Pebble's time begins when a child takes the task; ours ends also when none ever does.
            async with asyncio.timeout(self._stall + _STARTING.total_seconds()):
                return msgspec.msgpack.decode(await task, type=Utterance)
        except TimeoutError:
            if not task.done() or task.cancelled():
                self._replace()
            raise EngineFailed from None
        except msgspec.MsgspecError:
            raise EngineFailed from None

    def _replace(self) -> Semaphore:
        """Begin a new pool; the old one, if any, ends in the background. Return what counts warm children."""
        if self._pool is not None:
            self._pool.stop()
            threading.Thread(target=self._pool.join, daemon=True).start()
        context = _Context()
        ready = context.Semaphore(0)
        self._pool = pebble.ProcessPool(
            max_workers=self._children,
            initializer=_prepare,
            initargs=(self._recognizer, self._model, self._memory, ready),
            context=context,
        )
        return ready


class _Context(ForkServerContext):
    """Children from the forkserver, and pipes whose reading end trusts nobody."""

    def Pipe(self, duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: FBT001, FBT002, N802 - as in multiprocessing
        reader, writer = super().Pipe(duplex)
        guarded = _Guarded(os.dup(reader.fileno()), writable=False)
        reader.close()
        return guarded, writer


class _Guarded(Connection):
    """A connection that reads pebble's protocol and nothing else. In a child it is an ordinary one."""

    def recv(self) -> Any:
        return _Messages(io.BytesIO(self.recv_bytes(_LARGEST_ANSWER))).load()

    def __reduce__(self) -> Any:
        return reduce_connection(self)


class _Messages(pickle.Unpickler):
    _known = frozenset(
        {
            ("pebble.pool.process", "Acknowledgement"),
            ("pebble.pool.process", "TaskResult"),
            ("pebble.common.types", "Result"),
            ("pebble.common.types", "ResultStatus"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _status  # Python 3.11.0 to 3.11.3 pickle a member of an enumeration by name
        if (module, name) not in self._known:
            raise pickle.PicklingError("not of the protocol")  # pebble takes this one for a broken pool
        return super().find_class(module, name)


def _status(kind: object, name: str) -> ResultStatus:
    if kind is not ResultStatus:
        raise pickle.PicklingError("not of the protocol")
    return ResultStatus[name]


@functools.cache
def _state() -> dict[str, Any]:
    """Hold what a child loaded at its start; empty everywhere else."""
    return {}


def _prepare(recognizer: str, model: Path | None, memory: int, ready: Semaphore) -> None:
    """Begin a child: load, then confine. An error ends it, and `RecognizerPool.start` tells."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # pebble has just set a handler of its own
    engine = find(recognizer)(model)
    engine.recognize(
        bytes(32000), language=engine.offer.languages[0], alternatives=1
    )  # what is loaded late is loaded before the doors close
    _state().update(engine=engine, isolation=sandbox.confine(memory=memory))
    ready.release()


def _report() -> bytes:
    state = _state()
    return msgspec.json.encode(_Started(isolation=state["isolation"], offer=state["engine"].offer))


def _recognize(pcm: bytes, language: str, alternatives: int) -> bytes:
    """Recognise in a child. Nothing at all stands for an error, whose text might tell of the audio."""
    engine: Recognizer = _state()["engine"]
    try:
        return msgspec.msgpack.encode(engine.recognize(pcm, language=language, alternatives=alternatives))
    except Exception:  # noqa: BLE001 - engines raise what they like
        return b""
