"""What a confined child cannot do. Every attempt is made inside one, and held against what it reports."""

import contextlib
import ctypes
import errno
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import platform
import resource
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from worker import kernel, sandbox

_GIBIBYTE = 1 << 30

REFUSED = {errno.EPERM, errno.EACCES, errno.ENETUNREACH, errno.EAGAIN, errno.ENOENT}


def _child(
    answers: Connection, without: list[str], attempt: Callable[..., Any], arguments: tuple[Any, ...], *, in_thread: bool
) -> None:
    """Confine this process, as on a kernel without some of its means, and say what became of an attempt.

    With `in_thread` the attempt is made by a thread that was started while the process was being confined, as those
    of an engine are.
    """
    for means in without:
        setattr(kernel, means, _unknown)
    threads = ThreadPoolExecutor(1)
    isolation = sandbox.confine(
        memory=_GIBIBYTE, cpu=1, load=(lambda: threads.submit(os.getpid).result()) if in_thread else (lambda: None)
    )
    try:
        outcome = threads.submit(attempt, *arguments).result() if in_thread else attempt(*arguments)
    except OSError as error:
        outcome = error.errno
    except MemoryError:
        outcome = "MemoryError"
    answers.send((isolation, outcome))


def _unknown(*_: object) -> int:
    raise OSError(errno.ENOSYS, "not in this kernel")


@pytest.fixture(scope="module", autouse=True)
def forkserver() -> None:
    sandbox.start_forkserver(["worker.preload"])


def confined(
    attempt: Callable[..., Any], *arguments: Any, without: list[str] | None = None, in_thread: bool = False
) -> Any:
    """Return what a confined child reports as in force, and what its attempt gave or the error's number."""
    context = ForkServerContext()
    ours, theirs = context.Pipe(duplex=False)
    with ours:
        child = context.Process(
            target=_child, args=(theirs, without or [], attempt, arguments), kwargs={"in_thread": in_thread}
        )
        child.start()
        theirs.close()
        try:
            return ours.recv()
        except EOFError:
            child.join()
            return None, child.exitcode
        finally:
            child.join()
            child.close()


def _connect_tcp(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()


def _send_udp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"out", ("127.0.0.1", port))


def _connect_unix(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(path)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - the plainest way to try
        return file.read(1)


def _write(path: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - the plainest way to try
        file.write("out")


def _touch_others(path: str) -> dict[str, int | None]:
    """Return what became of each attempt at a file, and at a process, of the same user: an error's number, or None."""
    attempts: dict[str, Callable[[], object]] = {
        "mode": lambda: os.chmod(path, 0o600),  # noqa: PTH101 - the plainest way to try
        "owner": lambda: os.chown(path, -1, -1),
        "times": lambda: os.utime(path),
        "attribute": lambda: os.setxattr(path, "user.seen", b"1"),
        "no attribute": lambda: os.removexattr(path, "user.there"),
        "limit": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE),
        "signal": _queue_signal,
    }
    outcomes: dict[str, int | None] = dict.fromkeys(attempts)
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            outcomes[name] = error.errno
    return outcomes


def _queue_signal() -> None:
    """Send the signal 0, which disturbs nobody, by rt_tgsigqueueinfo, for which no library has a function."""
    number = {"x86_64": 297, "aarch64": 240}[platform.machine()]
    told = struct.pack("=iii", 0, 0, -1).ljust(128, b"\0")
    if ctypes.CDLL(None, use_errno=True).syscall(number, os.getppid(), os.getppid(), 0, told):
        raise OSError(ctypes.get_errno(), "refused")


def _hold(size: int) -> int:
    return len(bytearray(size))


def _work() -> None:
    while True:
        pass


def _open_files() -> list[int]:
    found = []
    for descriptor in range(64):
        with contextlib.suppress(OSError):
            found.append(os.fstat(descriptor).st_ino)
    return found


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _import_late() -> str:
    import colorsys  # noqa: PLC0415 - that is the point

    return colorsys.__name__


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_this_kernel_confines_in_every_way() -> None:
    """The machine that runs the tests offers all means: otherwise those below would prove little."""
    isolation, _ = confined(os.getpid)
    if isolation["network"] != "namespace+landlock 7+seccomp":
        pytest.skip(f"this kernel, or what confines the tests, offers less: {isolation}")
    assert isolation["files"] == "landlock 7"
    assert isolation["processes"] == "seccomp"


NETWORK_MEANS = ["leave_namespaces", "landlock", "refuse_calls"]


@pytest.mark.parametrize("only", [None, *NETWORK_MEANS])
def test_a_child_cannot_connect(listener: int, only: str | None) -> None:
    """With all means, and with each alone, a TCP connection is refused."""
    isolation, outcome = confined(_connect_tcp, listener, without=[m for m in NETWORK_MEANS if only not in (None, m)])
    assert isolation["network"] == "none" or outcome in REFUSED


def test_a_child_cannot_send_datagrams(listener: int) -> None:
    """Nor is a UDP datagram sent."""
    isolation, outcome = confined(_send_udp, listener)
    assert isolation["network"] == "none" or outcome in REFUSED


def test_a_child_cannot_connect_to_a_socket_of_the_file_system(tmp_path: Path) -> None:
    """Nor is a unix socket reached, such as Redis's or the forkserver's."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        isolation, outcome = confined(_connect_unix, str(tmp_path / "socket"))
    assert "seccomp" not in isolation["network"] or outcome in REFUSED


def test_the_attempts_succeed_where_nothing_confines(listener: int) -> None:
    """Without any means the same attempts go through, and the report says so."""
    for attempt, argument in ((_connect_tcp, listener), (_read, str(__file__)), (_send_udp, listener)):
        isolation, outcome = confined(
            attempt, argument, without=["leave_namespaces", "landlock", "refuse_calls", "drop_capabilities"]
        )
        assert isolation | {"memory": ""} == {"network": "none", "files": "none", "processes": "none", "memory": ""}
        assert outcome in (None, b'"')


@pytest.mark.parametrize("name", ["root.key", "audio/sealed", "absent"])
def test_a_child_cannot_write(tmp_path: Path, name: str) -> None:
    """Neither a new file nor an existing one is opened for writing, and what is there stays."""
    (tmp_path / "audio").mkdir()
    for there in ("root.key", "audio/sealed"):
        (tmp_path / there).write_text("there")
    isolation, outcome = confined(_write, str(tmp_path / name))
    assert isolation["files"] == "none" or outcome in REFUSED
    assert not (tmp_path / "absent").exists()
    assert (tmp_path / "root.key").read_text() == "there"


def test_a_child_cannot_read_what_is_not_a_library(tmp_path: Path) -> None:
    """The root key, sealed audio, the password file and the directories that hold them stay closed."""
    (tmp_path / "root.key").write_text("secret")
    for attempt, path in ((_read, tmp_path / "root.key"), (os.listdir, tmp_path), (_read, Path("/etc/passwd"))):
        isolation, outcome = confined(attempt, str(path))
        assert isolation["files"] == "none" or outcome in REFUSED


@pytest.mark.parametrize("file", ["environ", "mem", "maps"])
def test_a_child_cannot_look_into_the_worker(file: str) -> None:
    """The memory and the environment of the worker and of the forkserver are out of reach."""
    for process in (os.getpid(), confined(os.getppid)[1]):
        isolation, outcome = confined(_read, f"/proc/{process}/{file}")
        assert isolation["files"] == "none" or outcome in REFUSED


def test_a_child_cannot_start_or_signal_processes() -> None:
    """Fork, exec and kill are refused."""
    for attempt, arguments in (
        (_fork, ()),
        (os.execv, ("/bin/true", ["true"])),
        (os.kill, (os.getpid(), signal.SIGURG)),
    ):
        isolation, outcome = confined(attempt, *arguments)
        assert isolation["processes"] == "none" or outcome in REFUSED


def test_a_child_touches_nothing_of_the_same_user(tmp_path: Path) -> None:
    """Modes, owners, times and attributes of files, limits and signals of processes: where Landlock has no say."""
    file = tmp_path / "sealed"
    file.touch()
    os.setxattr(file, "user.there", b"1")
    others = ["leave_namespaces", "landlock"]
    for without in ([], others):
        isolation, outcomes = confined(_touch_others, str(file), without=without)
        assert isolation["processes"] == "none" or set(outcomes.values()) == {errno.EPERM}, outcomes
    outcomes = confined(_touch_others, str(file), without=[*others, "refuse_calls"])[1]
    assert set(outcomes.values()) == {None}, outcomes


def test_a_child_is_bounded_in_memory() -> None:
    """More address space than allowed is refused."""
    assert confined(_hold, 2 * _GIBIBYTE)[1] == "MemoryError"


def test_a_child_is_bounded_in_time() -> None:
    """A child that computes longer than allowed is killed."""
    assert confined(_work) == (None, -signal.SIGKILL)


def test_a_child_leaves_no_core() -> None:
    """A crash writes no memory to disk."""
    assert confined(resource.getrlimit, resource.RLIMIT_CORE)[1] == (0, 0)


def test_a_child_has_a_bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the worker's environment reaches a child."""
    monkeypatch.setenv("VOLANT_CANARY", "seen")
    assert confined(_environment)[1] == {}


def test_a_child_holds_neither_the_forkserver_nor_the_log() -> None:
    """What keeps the forkserver alive, the resource tracker's pipe and the standard streams are let go."""
    found = confined(_open_files)[1]
    kept = (
        vars(multiprocessing.forkserver._forkserver)["_forkserver_alive_fd"],
        vars(multiprocessing.resource_tracker._resource_tracker)["_fd"],
    )
    assert not {os.fstat(descriptor).st_ino for descriptor in kept} & set(found)
    assert set(found[:3]) == {Path(os.devnull).stat().st_ino}


def test_a_child_can_import_late() -> None:
    """Libraries stay readable, so that an import in the middle of work succeeds."""
    assert confined(_import_late)[1] == "colorsys"


THREADED: dict[str, tuple[Callable[..., Any], Callable[[int, Path], tuple[Any, ...]]]] = {
    "read": (_read, lambda _, key: (str(key),)),
    "write": (_write, lambda _, key: (str(key),)),
    "connect": (_connect_tcp, lambda port, _: (port,)),
    "send": (_send_udp, lambda port, _: (port,)),
    "fork": (_fork, lambda *_: ()),
    "exec": (os.execv, lambda *_: ("/bin/true", ["true"])),
    "kill": (os.kill, lambda *_: (os.getpid(), signal.SIGURG)),
}


@pytest.mark.parametrize("only", [None, "landlock", "refuse_calls"])
@pytest.mark.parametrize("name", THREADED)
def test_threads_of_an_engine_are_confined_like_the_first(
    listener: int, tmp_path: Path, name: str, only: str | None
) -> None:
    """What an engine's own threads, which meet the audio, attempt is refused by what is reported to be in force."""
    (tmp_path / "root.key").write_text("secret")
    attempt, arguments = THREADED[name]
    means = ["leave_namespaces", "landlock", "refuse_calls"]
    isolation, outcome = confined(
        attempt,
        *arguments(listener, tmp_path / "root.key"),
        without=[m for m in means if only not in (None, m)],
        in_thread=True,
    )
    guard = "files" if name in {"read", "write"} else "network" if name in {"connect", "send"} else "processes"
    if name == "send" and only == "landlock":
        return  # Landlock knows no UDP
    assert isolation[guard] == "none" or outcome in REFUSED


def test_a_child_starts_no_thread_any_more() -> None:
    """The threads that an engine needs are there, or it does without."""
    outcome = confined(_try_thread)[1]
    assert outcome == "can't start new thread"


def _try_thread() -> str:
    try:
        threading.Thread(target=os.getpid).start()
    except RuntimeError as error:
        return str(error)
    return "started"


def _confine_late(answers: Connection) -> None:
    event = threading.Event()
    threading.Thread(target=event.wait).start()
    try:
        sandbox.confine(memory=_GIBIBYTE)
    except RuntimeError as error:
        answers.send(str(error))
    event.set()


def test_a_process_with_threads_already_is_not_confined() -> None:
    """The first thread alone would be, so it is refused."""
    context = ForkServerContext()
    ours, theirs = context.Pipe(duplex=False)
    with ours, theirs:
        child = context.Process(target=_confine_late, args=(theirs,))
        child.start()
        assert ours.recv() == "it starts threads before it is confined, when it is imported"
        child.join()
        child.close()
