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
from pathlib import Path
from typing import Any

import msgspec
import pebble
from msgspec import Struct
from pebble.common.types import CONSTS, ResultStatus

from retention.offer import Offer
from worker import sandbox
from worker.answers import believed
from worker.errors import EngineFailed, EngineUnusable
from worker.recognizers import Recognizer, Utterance, find

# Children ignore SIGTERM (see `worker.preload`), so pebble need not wait before it sends SIGKILL.
CONSTS.term_timeout = 0

_LARGEST_ANSWER = 1 << 20
_LARGEST_REPORT = 4096  # what a pipe takes from several writers without mixing them
_LONGEST_REASON = 500
_STARTING = timedelta(seconds=60)
"""A child imports and loads its model in about a second; a busy machine, or a large model, gets more."""

_ONE_THREAD = dict.fromkeys(("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""There is a child for every processor: libraries that would use them all are told not to."""


class _Started(Struct, frozen=True, kw_only=True, tag=True):
    """What a child says of itself when it is warm."""

    isolation: dict[str, str]
    offer: Offer


class _Unusable(Struct, frozen=True, kw_only=True, tag=True):
    """What it says when it cannot be."""

    reason: str


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
        """Start the children; return when every one is warm. Raises EngineUnusable when they cannot be."""
        reports = self._replace()
        pool = self._pool

        def all_warm() -> _Started | None:
            started = None
            for _ in range(self._children):
                while not reports.poll(0.1):
                    if not pool.active and not reports.poll():
                        return None
                told = msgspec.json.decode(reports.recv_bytes(_LARGEST_REPORT), type=_Started | _Unusable)
                if isinstance(told, _Unusable):
                    raise EngineUnusable(" ".join(told.reason.split()))
                started = told
            return started

        try:
            async with asyncio.timeout(_STARTING.total_seconds()):
                started = await asyncio.to_thread(all_warm)
        except TimeoutError:
            raise EngineUnusable(f"it was not ready within {_STARTING.total_seconds():.0f} seconds") from None
        if started is None:
            raise EngineUnusable("its process ended while it was loaded; what it said is in the worker's error output")
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
            self._replace().close()
            pool = self._pool
        task = asyncio.wrap_future(pool.schedule(_recognize, args=(pcm, language, alternatives), timeout=self._stall))
        try:
            # Pebble's time begins when a child takes the task; ours ends also when none ever does.
            async with asyncio.timeout(self._stall + _STARTING.total_seconds()):
                return believed(await task, samples=len(pcm) // 2)
        except TimeoutError:
            if not task.done() or task.cancelled():
                self._replace().close()
            raise EngineFailed from None

    def _replace(self) -> Connection:
        """Begin a new pool; the old one, if any, ends in the background. Return where its children report."""
        if self._pool is not None:
            self._pool.stop()
            threading.Thread(target=self._pool.join, daemon=True).start()
        context = _Context()
        reports, report = context.Pipe(duplex=False)
        self._pool = pebble.ProcessPool(
            max_workers=self._children,
            initializer=_prepare,
            initargs=(self._recognizer, self._model, self._memory, report),
            context=context,
        )
        return reports


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


def _prepare(recognizer: str, model: Path | None, memory: int, report: Connection) -> None:
    """Begin a child: load what is confined already, and confine it for good. An error ends it.

    It says why before there is any audio that the reason could tell of; then its way to report is closed.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # pebble has just set a handler of its own
    told: _Started | _Unusable
    try:
        os.environ.update(_ONE_THREAD)
        kind = find(recognizer)  # imported from wherever it is; what it loads is its model
        isolation = sandbox.confine(
            memory=memory, load=functools.partial(_load, kind, model), readable=[model] if model else []
        )
        told = _Started(isolation=dict(isolation), offer=_state()["engine"].offer)
    except Exception as error:  # noqa: BLE001 - engines raise what they like
        told = _Unusable(reason=_reason(error)[:_LONGEST_REASON])
    with report, contextlib.suppress(BrokenPipeError):  # nobody listens when a child is replaced
        report.send_bytes(msgspec.json.encode(told))
    if isinstance(told, _Unusable):
        os._exit(1)


def _load(kind: type[Recognizer], model: Path | None) -> None:
    os.environ.update(_ONE_THREAD)
    engine = kind(model)
    # What is loaded late, and threads that begin late, are there before the doors close.
    engine.recognize(bytes(32000), language=engine.offer.languages[0], alternatives=1)
    _state()["engine"] = engine


def _reason(error: Exception) -> str:
    """Say why an engine cannot be had; an exception that is not made for the operator, with its kind."""
    if isinstance(error, MemoryError):
        return "its model needs more memory than child_memory allows"
    text = str(error)
    return (
        text
        if text and isinstance(error, ValueError | ImportError | LookupError)
        else f"{type(error).__name__}: {text}"
    )


def _recognize(pcm: bytes, language: str, alternatives: int) -> bytes:
    """Recognise in a child. Nothing at all stands for an error, whose text might tell of the audio."""
    engine: Recognizer = _state()["engine"]
    try:
        return msgspec.msgpack.encode(engine.recognize(pcm, language=language, alternatives=alternatives))
    except Exception:  # noqa: BLE001 - engines raise what they like
        return b""
