"""What the kernel offers to confine a process, called directly: namespaces, Landlock, seccomp.

Python has no binding for these before 3.12, and for most of them none at all. Linux only; a call
that the kernel does not know or refuses raises OSError, and `worker.sandbox` decides what that means.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38

_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446  # the same on every machine
_LANDLOCK_READ_FILE = 1 << 2
_LANDLOCK_READ_DIR = 1 << 3

# Rights on files known to each version of the Landlock interface: all are handled, so all are refused but reading.
_LANDLOCK_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_LANDLOCK_TCP = 0b11  # bind, connect
_LANDLOCK_SCOPES = 0b11  # abstract unix sockets, signals
_ABI_WITH_TCP, _ABI_WITH_SCOPES = 4, 6

_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1

# Calls that neither decoding nor recognising makes, by machine: the audit identity, the numbers of prlimit64 and of
# seccomp, then those refused. Sockets (a namespace does not close those of the file system), processes, signals,
# others' memory and scheduling, modes, owners, times and attributes of files (Landlock does not guard them),
# namespaces, interfaces.
_REFUSED = {
    "x86_64": (
        0xC000003E,
        302,
        317,
        (
            "29 30 31 41 42 43 44 46 49 50 53 56 57 58 59 62 64 65 66 68 69 70 71 90 91 92 93 94 101 129 132 141 142 "
            "144 155 161 165 166 188 189 190 197 198 199 200 203 234 235 240 248 249 250 251 256 260 261 268 272 279 "
            "280 297 298 304 307 308 310 311 312 314 321 322 323"
        ),
    ),
    "aarch64": (
        0xC00000B7,
        261,
        277,
        (
            "5 6 7 14 15 16 30 39 40 41 51 52 53 54 55 88 97 117 118 119 122 129 130 131 138 140 180 186 187 188 189 "
            "190 191 193 194 195 196 198 199 200 201 202 203 206 211 217 218 219 220 221 238 239 240 241 242 265 268 "
            "269 270 271 272 274 280 281 282"
        ),
    ),
}
_REFUSED_EVERYWHERE = {
    *range(424, 443),  # pidfd_send_signal, io_uring_*, mount calls, pidfd_open, clone3 … process_madvise
    *(452, 463, 466, 467, 469),  # fchmodat2, setxattrat, removexattrat, open_tree_attr, file_setattr
} - {436, 437, 439, 441}  # close_range, openat2, faccessat2, epoll_pwait2: files are Landlock's

_X32 = 0x40000000


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _prctl(option: int, first: object, second: object = 0) -> None:
    _check(
        _libc.prctl(
            option,
            *(ctypes.c_ulong(value) if isinstance(value, int) else value for value in (first, second)),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
        )
    )


def _syscall(number: int, *arguments: object) -> int:
    return _check(
        _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    )


def leave_namespaces() -> None:
    """Move into a user, network and IPC namespace of one's own: no interface, not even loopback.

    Only possible while the process has a single thread.
    """
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC))


def drop_capabilities() -> None:
    """Give up every capability: root's, or those that a fresh user namespace brings."""
    _check(_libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24)))


def die_with_parent(signal_number: int) -> None:
    """Ask for a signal when the parent ends. Forgotten when credentials change: call it after that."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)


def hide_memory() -> None:
    """Refuse core dumps, and reading of this process's memory by others of the same user."""
    _prctl(_PR_SET_DUMPABLE, 0)


def refuse_new_privileges() -> None:
    """Let no program gain anything; Landlock and seccomp demand it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def landlock(readable: Iterable[Path]) -> int:
    """Allow to read beneath the given paths and nothing else: no writing, no TCP, no signals to others.

    Returns the version of the kernel's Landlock: TCP is refused from 4 on, abstract unix sockets and
    signals from 6 on.
    """
    version = _syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)
    handled = [_LANDLOCK_FILES[min(version, max(_LANDLOCK_FILES))]]
    if version >= _ABI_WITH_TCP:
        handled.append(_LANDLOCK_TCP)
    if version >= _ABI_WITH_SCOPES:
        handled.append(_LANDLOCK_SCOPES)
    attributes = struct.pack(f"={len(handled)}Q", *handled)
    rules = _syscall(_LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            if path.exists():
                _allow_reading(rules, path)
        _syscall(_LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
    return version


def _allow_reading(rules: int, path: Path) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _LANDLOCK_READ_FILE | (_LANDLOCK_READ_DIR if path.is_dir() else 0)
        _syscall(_LANDLOCK_ADD_RULE, rules, 1, struct.pack("=Qi", rights, beneath), 0)
    finally:
        os.close(beneath)


def refuse_calls() -> None:
    """Make the calls listed above, and prlimit of other processes, fail with EPERM, in all threads and for good.

    Raises OSError on a machine without a list.
    """
    if platform.machine() not in _REFUSED:
        raise OSError(errno.ENOSYS, "no list of calls for this machine")
    identity, prlimit, seccomp, numbers = _REFUSED[platform.machine()]
    refused = [*map(int, numbers.split()), *_REFUSED_EVERYWHERE]
    load, equals, at_least, give = 0x20, 0x15, 0x35, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    count = len(refused)
    program = [
        (load, 0, 0, 4),  # the machine: a foreign calling convention has other numbers
        (equals, 0, count + 6, identity),
        (load, 0, 0, 0),  # the number of the call
        (at_least, count + 4, 0, _X32),
        *((equals, count + 3 - at, 0, number) for at, number in enumerate(refused)),
        (equals, 0, 2, prlimit),
        (load, 0, 0, 16),  # whose limits: getrlimit(3) says 0, oneself; the kernel looks at 32 bits, too
        (equals, 0, 1, 0),
        (give, 0, 0, allow),
        (give, 0, 0, refuse),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    if _syscall(seccomp, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, ctypes.cast(filter_, ctypes.c_void_p)):
        raise OSError(errno.EAGAIN, "a thread has refused calls of its own")
