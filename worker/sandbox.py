"""Where hostile audio is handled: a process that can compute, read its own libraries, and nothing else.

Each part is applied where the kernel allows it, and what is in force is reported truthfully, so that
the worker can log it and the tests can hold it to its word. The order matters: namespaces come first
(one thread), capabilities before the signal of the parent's death (changing credentials forgets it),
the refusal of system calls last. Namespaces, capabilities and Landlock hold for the calling thread and
those that it starts from then on, so they come before an engine is loaded, with the threads that it starts;
the refusal of calls, which holds for all threads, comes after.
"""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import retention
import worker
from worker import kernel

Isolation = Mapping[str, str]
"""What is in force, by what it guards: network, files, processes, memory. "none" where nothing is."""

_KEPT = {"PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"}
_OPEN_FILES = 64


def forget_environment() -> None:
    """Take all but the few names in _KEPT from this process for good, and so from all that it starts from here on.

    For good: multiprocessing starts a forkserver that has died again by itself, at any time.
    """
    for name in set(os.environ) - _KEPT:
        del os.environ[name]


def start_forkserver(preload: list[str]) -> None:
    """Start the process from which all children are forked, with the named modules imported."""
    multiprocessing.forkserver.set_forkserver_preload(preload)
    multiprocessing.forkserver.ensure_running()


def confine(
    *,
    memory: int,
    cpu: int | None = None,
    load: Callable[[], object] = lambda: None,
    readable: Iterable[Path] = (),
) -> Isolation:
    """Confine the calling process for good; return what is in force.

    `memory` bounds its address space, in bytes; `cpu` its processor time, in seconds. To be called in a child of
    the forkserver that has one thread. `load` is called when it can read libraries and `readable` only, while it may
    still start threads and write to the standard streams. Raises RuntimeError when there is another thread already,
    and what `load` raises: the process is then not fit for use.
    """
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - names are all that is wanted
        raise RuntimeError("it starts threads before it is confined, when it is imported")
    null = os.open(os.devnull, os.O_RDWR)
    _let_go()
    network, files, processes = [], "none", "none"
    with contextlib.suppress(OSError):
        kernel.leave_namespaces()
        network.append("namespace")
    with contextlib.suppress(OSError):
        kernel.drop_capabilities()
    _die_with_worker()
    kernel.hide_memory()
    kernel.refuse_new_privileges()
    _limit(memory=memory, cpu=cpu)
    with contextlib.suppress(OSError):
        version = kernel.landlock([*_libraries(), *readable])
        files = f"landlock {version}"
        network += [files] if version >= 4 else []  # noqa: PLR2004 - the version that knows TCP
    load()
    _silence(null)
    _bound({resource.RLIMIT_NPROC: 0, resource.RLIMIT_FSIZE: 0})
    with contextlib.suppress(OSError):
        kernel.refuse_calls()
        network.append("seccomp")
        processes = "seccomp"
    return {
        "network": "+".join(network) or "none",
        "files": files,
        "processes": processes,
        "memory": f"rlimit {memory >> 20} MiB",
    }


def _let_go() -> None:
    """Drop what the forkserver hands to every child.

    The forkserver ends when the last copy of its "alive" pipe is closed; a child that kept one would
    outlive a killed worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the worker decides
    os.environ.clear()
    for holder, name in (
        (multiprocessing.forkserver._forkserver, "_forkserver_alive_fd"),  # noqa: SLF001 - there is no public name
        (multiprocessing.resource_tracker._resource_tracker, "_fd"),  # noqa: SLF001 - there is no public name
    ):
        if (descriptor := getattr(holder, name)) is not None:
            os.close(descriptor)
            setattr(holder, name, None)


def _silence(null: int) -> None:
    """Send the standard streams to /dev/null: libraries write about audio there."""
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)


def _die_with_worker() -> None:
    """End when the forkserver ends, and it ends with the worker."""
    forkserver = os.getppid()
    kernel.die_with_parent(signal.SIGKILL)
    process = multiprocessing.parent_process()
    if os.getppid() != forkserver or process is None or not process.is_alive():
        os._exit(1)  # it ended before the signal was asked for


def _limit(*, memory: int, cpu: int | None) -> None:
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    if cpu is not None:
        limits[resource.RLIMIT_CPU] = cpu
    _bound(limits)


def _bound(limits: Mapping[int, int]) -> None:
    for which, most in limits.items():
        hard = resource.getrlimit(which)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (bound, bound))


def _libraries() -> list[Path]:
    """Libraries, ours and others', since imports may be lazy; and the processor's description: they choose by it."""
    packages = [Path(package.__path__[0]) for package in (worker, retention)]
    system = [Path(path) for path in ("/usr", "/lib", "/lib32", "/lib64")]
    processor = [Path("/proc/cpuinfo"), Path("/sys/devices/system/cpu")]
    return [
        Path(sys.base_prefix),
        *(Path(path) for path in sysconfig.get_paths().values()),
        *packages,
        *system,
        *processor,
    ]
