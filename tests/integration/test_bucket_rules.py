"""The README's rules and permissions for a bucket are such, and enough."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import boto3
import pytest

from retention.audio_objects import AudioObjects, LoggedObjects
from retention.bucket import Bucket
from retention.errors import SettingsError, Unavailable
from retention.job import JobId, TenantId
from tests.clouds import Cloud, moto
from tests.parameters import README

T, J = TenantId("tenant-1"), JobId("job-1")


def examples() -> list[dict[str, Any]]:
    """Return the JSON of the README's section: the rules, and the policy."""
    section = README.read_text().partition("### Audio in an object store")[2]
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)]


def client(port: int, service: str) -> Any:
    """Return Amazon's own client of a moto."""
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


async def recording(mebibytes: int) -> AsyncIterator[bytes]:
    for _ in range(mebibytes):
        yield bytes(1 << 20)


def test_s3_takes_the_rules(s3: Cloud) -> None:
    """Amazon's own client sends them as they stand."""
    rules, _ = examples()
    buckets = client(s3.port, "s3")
    buckets.put_bucket_lifecycle_configuration(Bucket="recordings", LifecycleConfiguration=rules)
    stored = buckets.get_bucket_lifecycle_configuration(Bucket="recordings")["Rules"]
    assert [rule["ID"] for rule in stored] == ["parts", "jobs", "log"]
    assert stored[0]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


async def test_the_policy_allows_what_is_needed_and_no_more() -> None:
    """With it everything works under its prefix, and nothing elsewhere; without it the start says what is missing."""
    _, policy = examples()
    with moto(INITIAL_NO_AUTH_ACTION_COUNT="4") as port:  # it asks for permission after so many requests
        client(port, "s3").create_bucket(Bucket="recordings")
        users = client(port, "iam")
        users.create_user(UserName="volant")
        users.put_user_policy(UserName="volant", PolicyName="audio", PolicyDocument=json.dumps(policy))
        key = users.create_access_key(UserName="volant")["AccessKey"]
        options = {
            "access_key_id": key["AccessKeyId"],
            "secret_access_key": key["SecretAccessKey"],
            "region": "us-east-1",
            "endpoint": f"http://127.0.0.1:{port}",
            "client": {"allow_http": True},
        }
        bucket = Bucket("s3://recordings/cell-1", options)
        audio, logged = AudioObjects(bucket), LoggedObjects(bucket)
        for store in (audio, logged):
            await store.prepare()
            await store.check()
        for size in (1, 12):
            await audio.write(T, J, recording(size))
            assert await logged.keep(T, J) == size << 20
            assert sum([len(piece) async for piece in logged.read(T, J)]) == size << 20
            await logged.remove_tenant(T)
            await audio.remove(T, J)
            assert not await audio.holds(T, J)
        elsewhere = AudioObjects(Bucket("s3://recordings/cell-2", options))
        with pytest.raises(SettingsError, match="credentials must allow"):
            await elsewhere.prepare()
        for size in (1, 12):
            with pytest.raises(Unavailable):
                await elsewhere.write(T, J, recording(size))
