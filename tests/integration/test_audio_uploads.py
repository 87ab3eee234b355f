"""Uploads to a bucket that answers late, never, or finds a name taken at the last moment."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from retention.audio_objects import AudioObjects
from retention.bucket import Bucket
from retention.errors import AudioMissing, Unavailable
from retention.job import JobId, TenantId
from tests.google import GoogleStorage

T, J = TenantId("tenant-1"), JobId("job-1")
SIZES = [300_000, 12 << 20]
"""Bytes of a recording that is one request, and of one in parts."""


async def recording(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 1 << 20):
        yield bytes(min(1 << 20, size - start))


@pytest.fixture
async def server() -> AsyncIterator[GoogleStorage]:
    server = GoogleStorage()
    async with server.serving():
        yield server


@pytest.fixture
def store(server: GoogleStorage) -> AudioObjects:
    options = {"base_url": f"http://127.0.0.1:{server.port}", "bearer_token": "x", "client": {"allow_http": True}}
    return AudioObjects(Bucket("gs://recordings/cell", options))


@pytest.mark.parametrize("size", SIZES)
async def test_cancelled_before_it_knows_that_the_object_is_there(
    store: AudioObjects, server: GoogleStorage, size: int
) -> None:
    """However often it is cancelled, an upload waits for the answer to its last request, and takes the object away."""
    server.may_answer.clear()
    upload = asyncio.create_task(store.write(T, J, recording(size)))
    await server.stored.wait()
    for _ in range(3):
        upload.cancel()
        await asyncio.wait([upload], timeout=0.01)
    waits, there = not upload.done(), list(server.objects)
    server.may_answer.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert waits
    assert there == [f"cell/jobs/{T}/{J}"]
    assert server.objects == {}
    assert server.uploads == {}


async def test_a_lost_answer_to_a_small_recording(store: AudioObjects, server: GoogleStorage) -> None:
    """The library asks again, is told that the name is taken, and the upload finds that it is its own: it is stored."""
    server.answers_lost = 1
    assert await store.write(T, J, recording(300_000)) == 300_000
    assert len(server.objects[f"cell/jobs/{T}/{J}"]) == 300_000


async def test_no_answer_to_the_last_part(store: AudioObjects, server: GoogleStorage) -> None:
    """Where it stays unknown whether an object has come of it, the upload is Unavailable, and the object goes."""
    server.answers_lost = 1
    with pytest.raises(Unavailable):
        await store.write(T, J, recording(12 << 20))
    assert server.writes == 1
    assert server.objects == {}
    assert server.uploads == {}


async def test_a_name_taken_while_parts_are_sent(store: AudioObjects, server: GoogleStorage) -> None:
    """A large recording asks for its name at the end, and leaves to the other what is the other's."""

    async def overtaken() -> AsyncIterator[bytes]:
        async for piece in recording(12 << 20):
            yield piece
        await store.write(T, J, recording(4))

    with pytest.raises(FileExistsError):
        await store.write(T, J, overtaken())
    assert server.objects == {f"cell/jobs/{T}/{J}": bytes(4)}
    assert server.uploads == {}


async def test_a_bucket_that_is_gone_is_not_a_missing_recording(server: GoogleStorage) -> None:
    """Nothing can be stored there, and nothing of it may read as the loss of one recording while writing."""
    lost = AudioObjects(
        Bucket(
            "gs://nowhere",
            {"base_url": f"http://127.0.0.1:{server.port}", "bearer_token": "x", "client": {"allow_http": True}},
        )
    )
    for size in SIZES:
        with pytest.raises(Unavailable):
            await lost.write(T, J, recording(size))
    with pytest.raises(Unavailable):
        await lost.check()


async def test_a_recording_that_goes_while_it_is_read(store: AudioObjects, server: GoogleStorage) -> None:
    """A deletion ends a reader at its next request: what was deleted is not read to its end."""
    await store.write(T, J, recording(12 << 20))
    reading = store.read(T, J)
    await anext(reading)
    server.objects.clear()
    with pytest.raises(AudioMissing):
        async for _ in reading:
            pass


async def test_no_page_is_left_out(store: AudioObjects, server: GoogleStorage) -> None:
    """What is listed in many pages is removed, and seen, to the last."""
    server.page = 3
    for number in range(10):
        await store.write(T, JobId(f"job-{number}"), recording(4))
    await store.remove_tenant(T)
    assert server.objects == {}


async def test_asking_is_rare(store: AudioObjects, server: GoogleStorage) -> None:
    """However many ask, the bucket is asked once within five seconds, whether or not it is fit."""
    for _ in range(3):
        await asyncio.gather(*(store.check() for _ in range(5)))
    assert server.writes == 1


async def test_what_is_given_up_never_becomes_an_object(store: AudioObjects, server: GoogleStorage) -> None:
    """Not even for the moment until it is removed: the process may be killed in it."""

    async def breaking() -> AsyncIterator[bytes]:
        async for piece in recording(12 << 20):
            yield piece
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.write(T, J, breaking())
    assert server.writes == 0
    assert server.uploads == {}
