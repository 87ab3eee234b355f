"""What every audio store promises, on each: a directory, moto's S3, Azurite, a server that speaks as Google does."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from retention import audio_directory, audio_objects
from retention.audio import AudioStore
from retention.errors import AudioMissing, SettingsError, Unavailable
from retention.job import JobId, TenantId
from tests.integration.places import KINDS, Place, place_of

T, OTHER = TenantId("tenant-1"), TenantId("tenant-2")
J, K = JobId("6a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c11"), JobId("6a1d6e52-0b8f-4c4f-9f0a-3f6f0d0a7c12")
MINUTE = timedelta(minutes=1)
FOREVER = timedelta(days=-1)  # older than tomorrow: everything
SMALL, LARGE = 300_000, 23 << 20
"""Bytes of recordings: an object of one request, and one of several parts."""


async def stream(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def recording(size: int) -> AsyncIterator[bytes]:
    """Give as many bytes, of which no two pieces are the same."""
    for start in range(0, size, 100_000):
        yield start.to_bytes(4, "big") * (min(100_000, size - start) // 4)


async def content(store: AudioStore, tenant: TenantId, job: JobId) -> list[bytes]:
    return [piece async for piece in store.read(tenant, job)]


@pytest.fixture(params=KINDS)
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """Give a place of each kind that is ready to use."""
    async with place_of(request.param, request, tmp_path, monkeypatch) as place:
        await place.audio.prepare()
        await place.logged.prepare()
        yield place


@pytest.mark.parametrize("size", [0, 4, SMALL, 5 << 20, (5 << 20) + 4, LARGE])
async def test_what_is_written_is_read(place: Place, size: int) -> None:
    """A recording of any size comes back as it was stored, in pieces of at most 256 KiB."""
    assert await place.audio.write(T, J, recording(size)) == size
    read = await content(place.audio, T, J)
    assert b"".join(read) == b"".join([piece async for piece in recording(size)])
    assert max(map(len, read), default=0) <= 256 * 1024
    assert [name for name in place.names() if name.endswith(f"{T}/{J}")] == place.names()
    assert await place.audio.holds(T, J)
    assert not await place.audio.holds(T, K)
    assert not await place.audio.holds(OTHER, J)
    assert place.unfinished() == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_name_is_written_once(place: Place, size: int) -> None:
    """A second recording under the same name is refused, and the first one stays."""
    await place.audio.write(T, J, stream(b"first"))
    with pytest.raises(FileExistsError):
        await place.audio.write(T, J, recording(size))
    assert await content(place.audio, T, J) == [b"first"]
    assert place.unfinished() == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_failing_upload_leaves_nothing(place: Place, size: int) -> None:
    """What the upload raises is passed on; nothing stays."""

    async def breaking() -> AsyncIterator[bytes]:
        async for piece in recording(size):
            yield piece
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await place.audio.write(T, J, breaking())
    assert place.names() == []
    assert place.unfinished() == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_an_upload_cancelled_while_its_client_is_silent_leaves_nothing(place: Place, size: int) -> None:
    """Cancelled while it waits for more, an upload leaves nothing."""
    is_silent = asyncio.Event()

    async def falling_silent() -> AsyncIterator[bytes]:
        async for piece in recording(size):
            yield piece
        is_silent.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(place.audio.write(T, J, falling_silent()))
    await is_silent.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert place.names() == []
    assert place.unfinished() == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_an_upload_cancelled_at_its_end_leaves_nothing(place: Place, size: int) -> None:
    """Cancelled any number of steps after its last byte, an upload leaves nothing, unless it has returned."""
    for steps in range(0, 60, 3):
        has_ended = asyncio.Event()

        async def to_its_end(ended: asyncio.Event = has_ended) -> AsyncIterator[bytes]:
            async for piece in recording(size):
                yield piece
            ended.set()

        upload = asyncio.create_task(place.audio.write(T, J, to_its_end()))
        await has_ended.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        upload.cancel()
        upload.cancel()
        try:
            await upload
        except asyncio.CancelledError:
            assert place.names() == []
            assert place.unfinished() == 0
        else:
            await place.audio.remove(T, J)


async def test_a_reader_may_stop_early(place: Place) -> None:
    """A reader that stops after a piece leaves the recording as it is."""
    await place.audio.write(T, J, recording(LARGE))
    reading = place.audio.read(T, J)
    first = await anext(reading)
    await reading.aclose()  # type: ignore[attr-defined]  # what reads is a generator
    assert (await content(place.audio, T, J))[0] == first


async def test_removing(place: Place) -> None:
    """A removed recording is missing; removing it again is no error; the rest stays."""
    for tenant, job in ((T, J), (T, K), (OTHER, J)):
        await place.audio.write(tenant, job, stream(b"sealed"))
    await place.audio.remove(T)
    await place.audio.remove(T, J)
    await place.audio.remove(T, J)
    await place.audio.remove(TenantId("nobody"), J)
    with pytest.raises(AudioMissing):
        await content(place.audio, T, J)
    assert len(place.names()) == 2
    assert await place.audio.holds(T, K)
    await place.audio.remove(T, J, K)
    assert len(place.names()) == 1
    assert await content(place.audio, OTHER, J) == [b"sealed"]
    await place.audio.write(T, J, stream(b"again"))
    assert await content(place.audio, T, J) == [b"again"]


async def test_removing_a_tenant(place: Place) -> None:
    """All recordings of one tenant go, also of one whose name begins another's; the others stay."""
    longer = TenantId(f"{T}0")
    for number in range(25):
        await place.audio.write(T, JobId(f"job-{number}"), stream(b"sealed"))
    await place.audio.write(longer, J, stream(b"sealed"))
    await place.audio.remove_tenant(T)
    await place.audio.remove_tenant(T)
    await place.audio.remove_tenant(TenantId("nobody"))
    assert [name.rpartition("jobs/")[2] for name in place.names()] == [f"{longer}/{J}"]


async def test_what_is_new_is_not_old(place: Place) -> None:
    """A recording is old once it has been there for so long, and not before; one that went is not."""
    await place.audio.write(T, J, recording(LARGE))
    await place.audio.write(OTHER, K, stream(b"sealed"))
    assert await place.audio.older_than(MINUTE) == []
    assert sorted(await place.audio.older_than(FOREVER)) == [(T, J), (OTHER, K)]
    place.age()
    await place.audio.remove(OTHER, K)
    await place.audio.write(OTHER, J, stream(b"new"))
    assert await place.audio.older_than(MINUTE) == [(T, J)]


async def test_no_recording_hides_behind_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many old recordings some are returned, and each of them sooner or later."""
    monkeypatch.setattr(audio_directory, "_MOST_LISTED", 3)
    monkeypatch.setattr(audio_objects, "_MOST_LISTED", 3)
    for number in range(10):
        await place.audio.write(T, JobId(f"job-{number}"), stream(b"sealed"))
    found: list[tuple[TenantId, JobId]] = []
    while len(set(found)) < 10:
        some = await place.audio.older_than(FOREVER)
        assert len(set(some)) <= 3
        found += some
    while (T, JobId("job-0")) not in await place.audio.older_than(FOREVER):
        pass  # round and round


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a.b", "a\0", "a\n", "ä", "a" * 65])
async def test_no_name_leads_out(place: Place, name: str) -> None:
    """A name that is not one of ours is refused before anything is made of it."""
    for tenant, job in ((TenantId(name), J), (T, JobId(name))):
        with pytest.raises(ValueError, match="not a name"):
            await place.audio.write(tenant, job, stream(b""))
        with pytest.raises(ValueError, match="not a name"):
            await content(place.audio, tenant, job)
        with pytest.raises(ValueError, match="not a name"):
            await place.audio.remove(tenant, job)
    with pytest.raises(ValueError, match="not a name"):
        await place.audio.remove_tenant(TenantId(name))


async def test_preparing_and_checking_leave_nothing(place: Place) -> None:
    """However often, and by however many processes at once."""
    others = [place.another() for _ in range(3)]
    await asyncio.gather(*(store.prepare() for store in others), *(store.check() for store in others))
    await place.audio.prepare()
    await place.audio.check()
    assert place.names() == []


async def test_what_is_out_of_reach_is_unavailable(place: Place) -> None:
    """Every call says so, an upload of any size too; no text tells where the store is."""
    await place.audio.write(T, J, stream(b"sealed"))
    lost = place.lose()
    for attempt in (
        lost.check(),
        lost.write(T, J, recording(SMALL)),
        lost.write(T, J, recording(LARGE)),
        lost.older_than(FOREVER),
    ):
        with pytest.raises(Unavailable) as refusal:
            await attempt
        assert "127.0.0.1" not in str(refusal.value)
        assert T not in str(refusal.value)


async def test_the_log_keeps_its_own(place: Place) -> None:
    """What is kept outlives the job's recording, is no recording of a job, and goes by itself."""
    await place.audio.write(T, J, recording(LARGE))
    await place.audio.write(OTHER, J, recording(SMALL))
    assert await place.logged.keep(T, J) == LARGE
    with pytest.raises(AudioMissing):
        await place.logged.keep(T, K)
    assert sorted(await place.audio.older_than(FOREVER)) == [(T, J), (OTHER, J)]
    assert await place.logged.older_than(FOREVER) == [(T, J)]
    assert await place.logged.older_than(MINUTE) == []
    await place.audio.remove_tenant(T)
    assert b"".join(await content(place.logged, T, J)) == b"".join([piece async for piece in recording(LARGE)])
    await place.logged.remove(T, J)
    await place.logged.remove(T, J)
    assert not await place.logged.holds(T, J)
    assert len(place.names()) == 1


async def test_a_place_that_is_not_there_is_a_wrong_setting(place: Place) -> None:
    """What cannot be reached at the start is told in one sentence, without what the place is called."""
    if isinstance(place.audio, audio_objects.AudioObjects):
        with pytest.raises(SettingsError, match="audio: the object store cannot be used") as refusal:
            await place.lose().prepare()
        assert "127.0.0.1" not in str(refusal.value)
