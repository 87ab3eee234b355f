"""The audio store on a real directory: whole and durable or not at all, for its owner only, in constant memory."""

import asyncio
import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from retention import audio_directory as module
from retention.audio_directory import AudioDirectory
from retention.errors import AudioMissing, SettingsError, Unavailable
from retention.job import JobId, TenantId

T, OTHER = TenantId("tenant-1"), TenantId("tenant-2")
J, K = JobId("6a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c11"), JobId("6a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c12")
FOREVER = timedelta(days=-1)  # older than tomorrow: everything

Patch = Callable[[str, Callable[..., object]], None]


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if not path.is_dir()]


def name(descriptor: int, root: Path) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(str(root))


def descriptors(root: Path) -> int:
    """Count what is open in the store, nameless files included. Others come and go with the garbage of other tests."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(descriptor.readlink())
    return sum(1 for target in targets if target.is_relative_to(root))


async def content(store: AudioDirectory, tenant: TenantId, job: JobId) -> list[bytes]:
    return [piece async for piece in store.read(tenant, job)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "audio"


@pytest.fixture
async def store(root: Path) -> AudioDirectory:
    store = AudioDirectory(root)
    await store.prepare()
    return store


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Put a function in front of one of `os`; it returns whether the real one is called, too."""

    def patch(name: str, before: Callable[..., object]) -> None:
        real = getattr(os, name)

        def both(*arguments: object, **options: object) -> object:
            before(*arguments)
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, both)

    return patch


def failing(code: int, when: Callable[[int], bool]) -> Callable[..., None]:
    def fail(file: int, *_: object) -> None:
        if when(os.fstat(file).st_mode):
            raise OSError(code, os.strerror(code))

    return fail


async def test_what_is_written_is_read(store: AudioDirectory, root: Path) -> None:
    """A recording comes back as it was stored, in pieces of at most 256 KiB, from a file of its owner only."""
    pieces = [os.urandom(200_000) for _ in range(5)] + [b"end"]
    assert await store.write(T, J, stream(*pieces)) == 1_000_003
    read = await content(store, T, J)
    assert b"".join(read) == b"".join(pieces)
    assert max(map(len, read)) <= 256 * 1024
    assert files(root) == [root / T / J]
    assert stat.S_IMODE((root / T / J).stat().st_mode) == 0o600
    assert [stat.S_IMODE(path.stat().st_mode) for path in (root, root / T)] == [0o700, 0o700]


async def test_content_then_name_then_directory(store: AudioDirectory, root: Path, around: Patch) -> None:
    """The file is synced before it has a name, and its directory after; a new tenant's directory is synced above."""
    done: list[str] = []
    around("fsync", lambda file: done.append(name(file, root)))
    around("link", lambda *_: done.append("link"))
    await store.write(T, J, stream(b"sealed"))
    assert [step if not step.startswith(f"/{T}/#") else "file" for step in done] == ["", "file", "link", f"/{T}"]
    await store.remove(T, J)
    assert done[4:] == [f"/{T}"]


async def test_a_directory_made_by_another_is_synced_too(store: AudioDirectory, root: Path, around: Patch) -> None:
    """Whoever finds a tenant's directory does not rely on its maker having synced it; once is enough."""
    (root / T).mkdir(mode=0o700)
    synced: list[bool] = []
    around("fsync", lambda file: synced.append(os.path.samestat(os.fstat(file), root.stat())))
    await store.write(T, J, stream(b"sealed"))
    assert synced == [True, False, False]
    await store.write(T, K, stream(b"sealed"))
    assert synced == [True, False, False, False, False]


async def test_a_name_is_written_once(store: AudioDirectory) -> None:
    """A second recording under the same name is refused, and the first one stays."""
    await store.write(T, J, stream(b"first"))
    with pytest.raises(FileExistsError):
        await store.write(T, J, stream(b"second"))
    assert await content(store, T, J) == [b"first"]


async def test_a_failing_upload_leaves_nothing(store: AudioDirectory, root: Path) -> None:
    """What the upload raises is passed on; no file and no descriptor stays."""

    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(300_000)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.write(T, J, breaking())
    assert files(root) == []
    assert descriptors(root) == 0


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link"])
async def test_a_cancelled_upload_leaves_nothing(
    store: AudioDirectory, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Cancelled during any call, an upload waits for its end, then leaves neither file nor descriptor."""
    await store.write(T, K, stream(b"makes the directory"))
    await store.remove(T, K)
    under_way, go_on, real = threading.Event(), threading.Event(), getattr(os, call)

    def slow(*arguments: object, **options: object) -> object:
        done = real(*arguments, **options)
        under_way.set()
        go_on.wait()
        return done

    monkeypatch.setattr(os, call, slow)
    upload = asyncio.create_task(store.write(T, J, stream(bytes(300_000))))
    await asyncio.to_thread(under_way.wait)
    for _ in range(3):
        upload.cancel()
        await asyncio.wait([upload], timeout=0.01)
    waited, held = not upload.done(), descriptors(root)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert waited
    assert held > 0
    assert files(root) == []
    assert descriptors(root) == 0


async def test_a_cancelled_reader_leaves_no_descriptor(store: AudioDirectory, root: Path) -> None:
    """A reader that stops early closes the file."""
    await store.write(T, J, stream(bytes(1 << 20)))
    reading = store.read(T, J)
    await anext(reading)
    assert descriptors(root) == 1
    await reading.aclose()  # type: ignore[attr-defined]  # what reads is a generator
    assert descriptors(root) == 0


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync"])
async def test_a_full_or_broken_disk_is_unavailable(
    store: AudioDirectory, root: Path, around: Patch, call: str, code: int
) -> None:
    """A refusal of the file system is Unavailable, and nothing is left."""
    around(call, failing(code, stat.S_ISREG))
    with pytest.raises(Unavailable, match=os.strerror(code)):
        await store.write(T, J, stream(bytes(300_000)))
    assert files(root) == []


async def test_a_name_that_may_not_last_is_taken_back(store: AudioDirectory, root: Path, around: Patch) -> None:
    """When the directory cannot be synced, the recording that has its name already goes again."""
    await store.write(T, K, stream(b"makes the directory"))
    refusals = iter([True])
    around("fsync", failing(errno.EIO, lambda mode: stat.S_ISDIR(mode) and next(refusals, False)))
    with pytest.raises(Unavailable):
        await store.write(T, J, stream(b"sealed"))
    assert files(root) == [root / T / K]


async def test_removing(store: AudioDirectory, root: Path) -> None:
    """A removed recording is missing; removing it again is no error; the rest stays."""
    for tenant, job in ((T, J), (T, K), (OTHER, J)):
        await store.write(tenant, job, stream(b"sealed"))
    await store.remove(T, J)
    await store.remove(T, J)
    await store.remove(TenantId("nobody"), J)
    with pytest.raises(AudioMissing):
        await content(store, T, J)
    assert sorted(files(root)) == [root / T / K, root / OTHER / J]
    await store.remove_tenant(T)
    await store.remove_tenant(TenantId("nobody"))
    assert files(root) == [root / OTHER / J]
    await store.write(T, K, stream(b"sealed"))


async def test_age_counts_from_publication(store: AudioDirectory, root: Path, around: Patch) -> None:
    """However long an upload and its syncing took, a recording is new when it gets its name."""
    around("fsync", lambda file: os.utime(file, (0, 0)) if stat.S_ISREG(os.fstat(file).st_mode) else None)
    await store.write(T, J, stream(b"sealed"))
    await store.write(OTHER, K, stream(b"sealed"))
    assert await store.older_than(timedelta(minutes=1)) == []
    aged = time.time() - 61
    os.utime(root / T / J, (aged, aged))
    assert await store.older_than(timedelta(minutes=1)) == [(T, J)]


async def test_no_recording_hides_behind_others(
    store: AudioDirectory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many old recordings some are returned, and each of them sooner or later; foreign files never."""
    monkeypatch.setattr(module, "_MOST_LISTED", 3)
    for number in range(9):
        await store.write(T, JobId(f"job-{number}"), stream(b"sealed"))
    (root / "lost+found").mkdir()
    (root / "lost+found" / "found-1").touch()
    (root / T / "notes.txt").touch()
    (root / "notes").touch()
    found: set[tuple[TenantId, JobId]] = set()
    while len(found) < 9:
        some = await store.older_than(FOREVER)
        assert len(set(some)) == 3
        found.update(some)
    assert found == {(T, JobId(f"job-{number}")) for number in range(9)}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a.b", "a\0", "a\n", "ä", "a" * 65])
async def test_no_name_leads_out(store: AudioDirectory, name: str) -> None:
    """A name that is not one of ours is refused before a path is made of it."""
    for tenant, job in ((TenantId(name), J), (T, JobId(name))):
        with pytest.raises(ValueError, match="not a name"):
            await store.write(tenant, job, stream(b""))
        with pytest.raises(ValueError, match="not a name"):
            await content(store, tenant, job)
        with pytest.raises(ValueError, match="not a name"):
            await store.remove(tenant, job)
    with pytest.raises(ValueError, match="not a name"):
        await store.remove_tenant(TenantId(name))


async def test_preparing_leaves_only_the_root(store: AudioDirectory, root: Path) -> None:
    """Preparing and checking make the directory and nothing in it, however often."""
    await store.prepare()
    await store.check()
    assert await asyncio.to_thread(os.listdir, root) == []


async def test_a_directory_that_cannot_serve_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root that others can write to, that is a file, or where no name can be linked, is refused in a sentence."""
    shared, file = tmp_path / "shared", tmp_path / "file"
    shared.mkdir()
    shared.chmod(0o770)
    file.touch()
    with pytest.raises(SettingsError, match="make it 0700"):
        await AudioDirectory(shared).prepare()
    with pytest.raises(SettingsError, match="audio: "):
        await AudioDirectory(file).prepare()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(SettingsError, match="cannot be used"):
        await AudioDirectory(tmp_path / "new").prepare()


async def test_a_directory_that_is_gone_is_unavailable(store: AudioDirectory, root: Path) -> None:
    """The check notices that recordings cannot be stored any more, and so does an upload."""
    await asyncio.to_thread(root.rmdir)
    for attempt in (store.check(), store.write(T, J, stream(b"sealed")), store.older_than(FOREVER)):
        with pytest.raises(Unavailable):
            await attempt
