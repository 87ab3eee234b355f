"""IBM's Node SDK, unmodified, against real processes (promise P8)."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.stack import Stack
from tests.acceptance.remains import traces
from tests.javascript import Program, Sdk
from tests.recognizers import QUICK, recording
from tests.speech import AUDIO, SENTENCE
from tests.stack import StartStack, wait_until

WAV = str(AUDIO / "goforward.wav")
DENIED = (401, "Access is denied due to invalid credentials.")


@pytest.fixture(scope="module")
def apikey(stack: Stack) -> str:
    """Give the key of a tenant that only these tests use."""
    return stack.new_tenant("node")[1]


@pytest.fixture
def sdk(stack: Stack, drive: Program, apikey: str) -> Sdk:
    """Give the SDK; every test deletes what it made."""
    return Sdk(drive, auth="basic", url=stack.url, apikey=apikey)


async def heard(sdk: Sdk, job: str) -> str:
    """Wait for the job's transcript, and delete the job."""
    [results] = (await sdk.final(job))["results"]
    assert sdk.call("deleteJob", id=job)["status"] == 204
    return "".join(result["alternatives"][0]["transcript"] for result in results["results"])


async def test_a_job_from_create_to_delete(stack: Stack, sdk: Sdk) -> None:
    """Created, listed, recognised, checked, deleted, gone."""
    created = sdk.call(
        "createJob",
        audio={"stream": WAV},
        contentType="audio/wav",
        resultsTtl=5,
        timestamps=True,
        wordConfidence=True,
        maxAlternatives=2,
    )
    assert created["status"] == 201
    assert created["headers"]["x-global-transaction-id"]
    job = created["result"]
    assert job == {
        "id": job["id"],
        "status": "waiting",
        "created": job["created"],
        "url": f"{stack.url}/v1/recognitions/{job['id']}",
    }

    done = await sdk.final(job["id"])
    assert (done["id"], done["status"]) == (job["id"], "completed")
    assert done["created"] == job["created"] < done["updated"]
    [results] = done["results"]
    [alternative, *_] = results["results"][0]["alternatives"]
    assert alternative["transcript"] == "go forward ten meters "
    assert [word for word, _, _ in alternative["timestamps"]] == alternative["transcript"].split()
    assert [word for word, _ in alternative["word_confidence"]] == alternative["transcript"].split()

    listed = {name: done[name] for name in ("id", "created", "updated", "status")}
    assert sdk.result_of("checkJobs") == {"recognitions": [listed]}

    assert sdk.call("deleteJob", id=job["id"])["status"] == 204
    assert sdk.result_of("checkJobs") == {"recognitions": []}
    for method in ("checkJob", "deleteJob"):
        assert sdk.refusal_of(method, id=job["id"]) == (404, "job not found")
    assert traces(stack, job["id"]) == []


async def test_what_is_switched_off_is_off(sdk: Sdk) -> None:
    """`false` arrives as a word in the query, and means false."""
    job = sdk.result_of("createJob", audio={"buffer": WAV}, timestamps=False, wordConfidence=False)["id"]
    [results] = (await sdk.final(job))["results"]
    assert set(results["results"][0]["alternatives"][0]) == {"transcript", "confidence"}
    sdk.call("deleteJob", id=job)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flite_rms_0.wav", None),
        ("flite_rms_0.flac", None),
        ("flite_rms_0.opus.ogg", None),
        ("flite_rms_0.webm", "audio/webm;codecs=opus"),
        ("flite_rms_0.l16be", "audio/l16; rate=16000; endianness=big-endian"),
    ],
)
@pytest.mark.parametrize("form", ["stream", "buffer"])
async def test_audio_with_and_without_a_type(sdk: Sdk, name: str, kind: str | None, form: str) -> None:
    """Without a type the SDK calls the audio `application/json`, and it is recognised all the same."""
    typed = {"contentType": kind} if kind else {}
    job = sdk.result_of("createJob", audio={form: str(AUDIO / name)}, **typed)["id"]
    assert await heard(sdk, job) == f"{SENTENCE} "


@pytest.mark.parametrize("form", ["stream", "buffer"])
async def test_compressed_requests(stack: Stack, drive: Program, apikey: str, form: str) -> None:
    """With the SDK's option, audio comes compressed, and everything else as ever."""
    sdk = Sdk(drive, auth="basic", url=stack.url, apikey=apikey, gzip=True)
    job = sdk.result_of("createJob", audio={form: WAV}, contentType="audio/wav")["id"]
    assert [listed["id"] for listed in sdk.result_of("checkJobs")["recognitions"]] == [job]
    assert await heard(sdk, job) == "go forward ten meters "


async def test_below_an_instance(stack: Stack, drive: Program, apikey: str) -> None:
    """A base URL as IBM hands them out, a slash at its end or not: the same service, and links that stay below it."""
    below = f"{stack.url}/instances/6bf1f4a7-5d2c-4a0b-9e0a-3f1c2b7d8e90"
    sdk = Sdk(drive, auth="basic", url=f"{below}/", apikey=apikey)
    job = sdk.result_of("createJob", audio={"stream": WAV})
    assert job["url"] == f"{below}/v1/recognitions/{job['id']}"
    assert [listed["id"] for listed in sdk.result_of("checkJobs")["recognitions"]] == [job["id"]]
    assert await heard(sdk, job["id"]) == "go forward ten meters "
    assert sdk.refusal_of("checkJob", id=job["id"]) == (404, "job not found")


async def test_credentials_from_the_environment(stack: Stack, node: None, apikey: str) -> None:
    """The SDK finds the URL and the key by itself, also when the key stands as the password of somebody."""
    del node
    environment = {
        "SPEECH_TO_TEXT_URL": stack.url,
        "SPEECH_TO_TEXT_AUTH_TYPE": "basic",
        "SPEECH_TO_TEXT_USERNAME": "somebody",
        "SPEECH_TO_TEXT_PASSWORD": apikey,
    }
    with Program("drive.mjs", environment=environment) as drive:
        assert Sdk(drive, auth="environment").result_of("checkJobs") == {"recognitions": []}


def test_models(stack: Stack, sdk: Sdk) -> None:
    """Listed and shown, each by its name."""
    [first, *_] = sdk.result_of("listModels")["models"]
    assert first["url"] == f"{stack.url}/v1/models/{first['name']}"
    assert sdk.result_of("getModel", modelId=first["name"]) == first
    assert sdk.refusal_of("getModel", modelId="xx/yy") == (404, "Model xx/yy not found")


async def test_warnings(sdk: Sdk) -> None:
    """What has no effect is said twice, and the job goes on."""
    created = sdk.result_of(
        "createJob",
        audio={"stream": WAV},
        userToken="mine",
        events="recognitions.started,recognitions.completed",
        resultsTtl=99999,
    )
    assert created["warnings"] == [
        "'results_ttl' was cut to 10080 minutes, the longest that results are kept.",
        "unexpected query parameter 'events', query parameter 'callback_url' was not specified",
        "unexpected query parameter 'user_token', query parameter 'callback_url' was not specified",
    ]
    assert (await sdk.final(created["id"]))["results"][0]["warnings"] == created["warnings"]
    sdk.call("deleteJob", id=created["id"])


def test_a_wrong_key(fresh_stack: StartStack, drive: Program, tmp_path: Path) -> None:
    """The SDK's own sentence, also to an upload that is refused by its headers; the answer itself is still there."""
    stack = fresh_stack(workers=0)  # of its own: a service may answer otherwise after other tests' wrong keys
    long = tmp_path / "long.wav"
    long.write_bytes(Path(WAV).read_bytes() * 50)
    stranger = Sdk(drive, auth="basic", url=stack.url, apikey="volant_no_key")
    for form in ("stream", "buffer"):
        assert stranger.refusal_of("createJob", audio={form: str(long)}, contentType="audio/wav") == DENIED
    for method in ("checkJob", "deleteJob"):
        assert stranger.refusal_of(method, id="6bf1f4a7-5d2c-4a0b-9e0a-3f1c2b7d8e90") == DENIED
    error = stranger.call("checkJobs")["error"]
    assert (error["code"], error["message"]) == DENIED
    assert json.loads(error["body"])["error"] == "Unauthorized"
    assert error["headers"]["www-authenticate"] == 'Basic realm="Speech to Text"'


def test_errors_have_their_status_and_their_text(sdk: Sdk, tmp_path: Path) -> None:
    """The SDK shows what the service says."""
    short = tmp_path / "short.wav"
    short.write_bytes(Path(WAV).read_bytes()[:44])
    words = tmp_path / "words"
    words.write_bytes(b"The quick brown fox jumps over the lazy dog. " * 10)
    refusals: list[tuple[dict[str, Any], int, str]] = [
        ({"contentType": "video/mp4"}, 415, "unsupported media type 'video/mp4'"),
        (
            {"audio": {"stream": str(words)}},
            415,
            "unsupported media type: none was declared, and the audio begins like none that is taken",
        ),
        ({"audio": {"stream": str(short)}}, 400, "Stream was 44 bytes but needs to be at least 100 bytes."),
        (
            {"contentType": "audio/l16"},
            400,
            "audio/l16 needs the parameter 'rate', as in 'audio/l16; rate=16000'",
        ),
        ({"model": "xx"}, 404, "Model xx not found"),
        ({"resultsTtl": 0}, 400, "'results_ttl' must be a whole number of at least 1"),
        ({"redaction": True}, 400, "redaction is not a supported feature for model en-US_BroadbandModel"),
        (
            {"callbackUrl": "http://example.com/x?y=a b&z=1"},
            400,
            "callback url 'http://example.com/x?y=a b&z=1' is not registered",
        ),
    ]
    for params, status, message in refusals:
        assert sdk.refusal_of("createJob", **{"audio": {"stream": WAV}, **params}) == (status, message)
    for odd in ("nothing", "../models", "6BF1F4A7-5D2C-4A0B-9E0A-3F1C2B7D8E90", "ключ"):
        assert sdk.refusal_of("checkJob", id=odd) == (404, "job not found")
    assert sdk.result_of("checkJobs") == {"recognitions": []}


async def test_a_processing_job_cannot_be_deleted(fresh_stack: StartStack, drive: Program, tmp_path: Path) -> None:
    """400 while a worker holds the job; the job is whole, and can be deleted when it has ended."""
    stack = fresh_stack(workers=1, **QUICK)
    sdk = Sdk(drive, auth="basic", url=stack.url, apikey=stack.apikey)
    audio = tmp_path / "slow.wav"
    audio.write_bytes(recording(2))
    job = sdk.result_of("createJob", audio={"stream": str(audio)})["id"]

    async def is_processing() -> bool:
        return bool(sdk.result_of("checkJob", id=job)["status"] == "processing")

    await wait_until(is_processing)
    assert sdk.refusal_of("deleteJob", id=job) == (400, "job is being processed and cannot be deleted")
    assert await heard(sdk, job) == "done "


async def test_tenants_do_not_see_each_other(stack: Stack, drive: Program, sdk: Sdk) -> None:
    """A foreign job is neither listed nor found nor deleted."""
    other = Sdk(drive, auth="basic", url=stack.url, apikey=stack.new_tenant("other node")[1])
    job = sdk.result_of("createJob", audio={"stream": WAV})["id"]
    assert other.result_of("checkJobs") == {"recognitions": []}
    for method in ("checkJob", "deleteJob"):
        assert other.refusal_of(method, id=job) == (404, "job not found")
    assert await heard(sdk, job) == "go forward ten meters "
