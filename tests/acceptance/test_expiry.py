"""A result is readable for exactly as long as was asked, and a minute later no copy is left (promise P2)."""

from datetime import UTC, datetime, timedelta

from deploy.stack import Stack
from tests.acceptance.client import Client
from tests.acceptance.remains import traces
from tests.recognizers import recording
from tests.stack import wait_until


async def test_a_job_is_there_for_its_minute_and_leaves_no_trace_after_it(stack: Stack) -> None:
    """`results_ttl=1`: readable 55 s after completion, 404 and unlisted at 61 s, gone from Redis and disk at 121 s.

    A failed job is kept and forgotten like a completed one.
    """
    async with Client(stack.url, stack.new_tenant()[1]) as client:
        began = datetime.now(UTC) - timedelta(milliseconds=1)  # moments are cut to whole ones
        jobs = [
            await client.submit(recording(0), results_ttl=1),
            await client.submit(b"RIFF" + bytes(4) + b"WAVE" + bytes(200), results_ttl=1),
        ]
        ended = []
        for job, status in zip(jobs, ["completed", "failed"], strict=True):
            await wait_until(lambda job=job: client.ended(job))  # type: ignore[misc]
            code, body = await client.look_up(job)
            assert (code, body["status"]) == (200, status)
            ended.append(datetime.fromisoformat(body["updated"]))
            assert began <= ended[-1] <= datetime.now(UTC)

        await clock_shows(min(ended) + timedelta(seconds=55))
        assert [(await client.look_up(job))[0] for job in jobs] == [200, 200]
        assert sorted(await client.listed()) == sorted(jobs)

        await clock_shows(max(ended) + timedelta(seconds=61))
        assert [(await client.look_up(job))[0] for job in jobs] == [404, 404]
        assert await client.listed() == []

        async def gone() -> bool:
            return not any(traces(stack, job) for job in jobs)

        left = max(ended) + timedelta(seconds=121) - datetime.now(UTC)
        await wait_until(gone, within=left.total_seconds())


async def clock_shows(moment: datetime) -> None:
    """Return at this moment: the promise is about time itself."""

    async def reached() -> bool:
        return datetime.now(UTC) >= moment

    await wait_until(reached, within=120)
