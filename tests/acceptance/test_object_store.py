"""Whole processes whose audio is in a bucket of S3: recognised from there, deleted there, never left there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from deploy.processes import StackError
from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.remains import completions, nothing_left_over, records
from tests.clouds import Cloud, objects, store_object, unfinished_uploads
from tests.recognizers import QUICK, recording
from tests.speech import AUDIO
from tests.stack import StartStack, wait_until

SPEECH = (AUDIO / "goforward.wav").read_bytes()


@pytest.fixture
def prefix() -> str:
    """Give a prefix of the bucket that nobody else uses."""
    return f"cell-{uuid4()}"


@pytest.fixture
def in_s3(s3: Cloud, prefix: str, tmp_path: Path) -> dict[str, str]:
    """Give the settings of a stack with its audio there."""
    return {"audio": f"{s3.url}/{prefix}", "audio_credentials_file": str(s3.options_file(tmp_path))}


async def test_speech_is_recognised_from_a_bucket(
    fresh_stack: StartStack, s3: Cloud, prefix: str, in_s3: dict[str, str]
) -> None:
    """While the job waits its audio is one sealed object there; it goes as soon as the job is done."""
    stack = fresh_stack(workers=0, **in_s3)
    tenant, apikey = stack.new_tenant()
    async with Client(stack.url, apikey) as client:
        job = await client.submit(SPEECH)
        waiting = objects(s3, prefix)
        assert list(waiting) == [f"jobs/{tenant}/{job}"]
        assert SPEECH[:16] not in waiting[f"jobs/{tenant}/{job}"]
        assert SPEECH[4000:4016] not in waiting[f"jobs/{tenant}/{job}"]
        stack.start_worker()
        await wait_until(lambda: client.ended(job))
        _, body = await client.look_up(job)
        assert "go forward ten meters" in str(body["results"])
    await completions(stack, job)
    assert objects(s3, prefix) == {}
    assert not (stack.data / "audio").exists()
    await nothing_left_over(stack)


async def test_a_deleted_job_leaves_no_object(
    fresh_stack: StartStack, s3: Cloud, prefix: str, in_s3: dict[str, str]
) -> None:
    """When 204 is there the object is not: of one job, of a customer's jobs, of a tenant's."""
    stack = fresh_stack(workers=0, **QUICK, **in_s3)
    tenant, apikey = stack.new_tenant()
    async with Client(stack.url, apikey) as client:
        job = await client.submit(recording(0))
        large = await client.submit(recording(0, lasts=200))
        assert sorted(objects(s3, prefix)) == sorted(f"jobs/{tenant}/{id_}" for id_ in (job, large))
        assert await client.delete(job) == (204, None)
        assert list(objects(s3, prefix)) == [f"jobs/{tenant}/{large}"]
    stack.volant("tenant", "delete", tenant, "--yes")
    assert objects(s3, prefix) == {}
    assert unfinished_uploads(s3, prefix) == 0


async def test_the_request_log_keeps_its_audio_in_the_bucket(
    fresh_stack: StartStack, s3: Cloud, prefix: str, in_s3: dict[str, str], tmp_path: Path
) -> None:
    """A copy, which is exported as what was sent, and goes with the job."""
    stack = fresh_stack(workers=1, request_log="true", **QUICK, **in_s3)
    tenant, apikey = stack.new_tenant()
    audio = recording(0)
    async with Client(stack.url, apikey) as client:
        job = await client.submit(audio)
        await completions(stack, job)
        assert list(objects(s3, prefix)) == [f"log/{tenant}/{job}"]
        stack.volant("request-log", "export", tenant, job, "--to", str(tmp_path))
        assert (tmp_path / f"{job}.audio").read_bytes() == audio
        assert await client.delete(job) == (204, None)
        assert objects(s3, prefix) == {}


async def test_an_api_killed_during_an_upload_leaves_no_object(
    fresh_stack: StartStack, s3: Cloud, prefix: str, in_s3: dict[str, str]
) -> None:
    """Parts of an upload that is not complete are there, as the README says; an object is not, and never will be."""
    stack = fresh_stack(workers=1, **QUICK, **in_s3)
    for_ever = asyncio.Event()

    async def begun() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield recording(0, lasts=120)
        await for_ever.wait()

    async def uploading() -> bool:
        return unfinished_uploads(s3, prefix) == 1

    async with Client(stack.url, stack.apikey) as client:
        upload = asyncio.create_task(client.submit(begun()))
        await wait_until(uploading)
        stack.kill("api")
        with pytest.raises(aiohttp.ClientError):
            await upload
        assert objects(s3, prefix) == {}
        stack.start_api()
        assert await client.listed() == []
        assert records(stack) == []
        job = await client.submit(recording(0))
        await wait_until(lambda: client.ended(job))
    assert objects(s3, prefix) == {}
    await nothing_left_over(stack)


async def test_audio_without_a_job_is_swept_from_the_bucket(
    fresh_stack: StartStack, s3: Cloud, prefix: str, in_s3: dict[str, str]
) -> None:
    """An object that has no record goes within a minute, and one whose job is not done stays."""
    stack = fresh_stack(workers=1, **QUICK, **in_s3)
    tenant, apikey = stack.new_tenant()
    store_object(s3, prefix, f"jobs/{tenant}/{uuid4()}")
    store_object(s3, prefix, f"log/{tenant}/{uuid4()}")
    async with Client(stack.url, apikey) as client:
        job = await client.submit(recording(270))
        assert len(objects(s3, prefix)) == 3

        async def swept() -> bool:
            return list(objects(s3, prefix)) == [f"jobs/{tenant}/{job}"]

        await wait_until(swept, within=60)
        assert await client.status(job) == "processing"
    stack.kill("worker-1")  # it would not have done within its time to stop


def test_a_bucket_that_is_not_there_is_told_at_the_start(s3: Cloud, tmp_path: Path) -> None:
    """In one sentence, and nothing is started."""
    settings = {"audio": "s3://no-such-bucket", "audio_credentials_file": str(s3.options_file(tmp_path))}
    with pytest.raises(StackError, match="there is no such bucket"), Stack(tmp_path / "stack", settings=settings):
        pass
