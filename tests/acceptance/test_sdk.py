"""IBM's Python SDK, unmodified, against real processes (promise P8)."""

import gzip
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.stack import Stack
from tests.acceptance.remains import traces
from tests.formats import Form, encoded, speech
from tests.speech import AUDIO, SENTENCE, media
from tests.stack import wait_until

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about escapes in its docstrings, whenever they are compiled anew
    from ibm_cloud_sdk_core import ApiException
    from ibm_cloud_sdk_core.authenticators import BasicAuthenticator
    from ibm_watson import SpeechToTextV1
    from ibm_watson.speech_to_text_v1 import (
        RecognitionJob,
        RecognitionJobs,
        SpeechModel,
        SpeechModels,
        SpeechRecognitionResults,
    )

WAV = (AUDIO / "goforward.wav").read_bytes()


def sdk(url: str, apikey: str) -> SpeechToTextV1:
    """Return the SDK's service as a client configures it."""
    service = SpeechToTextV1(authenticator=BasicAuthenticator("apikey", apikey))
    service.set_service_url(url)
    return service


@pytest.fixture(scope="module")
def apikey(stack: Stack) -> str:
    """Give the key of a tenant that only these tests use."""
    return stack.new_tenant("sdk")[1]


@pytest.fixture
def service(stack: Stack, apikey: str) -> SpeechToTextV1:
    """Give the SDK; every test deletes what it made."""
    return sdk(stack.url, apikey)


async def result_of(service: SpeechToTextV1, job: str) -> Any:
    """Wait until the job is final, and return it."""

    async def final() -> bool:
        return service.check_job(job).get_result()["status"] in {"completed", "failed"}

    await wait_until(final)
    return service.check_job(job).get_result()


def refusal(call: Callable[[], object]) -> ApiException:
    """Return what the SDK raises."""
    with pytest.raises(ApiException) as caught:
        call()
    assert re.fullmatch("[0-9a-f]{32}", caught.value.global_transaction_id)
    return caught.value


async def test_a_job_from_create_to_delete(stack: Stack, service: SpeechToTextV1) -> None:
    """Created, listed, recognised, checked, deleted, gone: in the SDK's own classes all along."""
    created = service.create_job(
        WAV, content_type="audio/wav", results_ttl=5, timestamps=True, word_confidence=True, max_alternatives=2
    )
    assert created.get_status_code() == 201
    job = RecognitionJob.from_dict(created.get_result())
    assert (job.status, job.url, job.warnings) == ("waiting", f"{stack.url}/v1/recognitions/{job.id}", None)

    done = await result_of(service, job.id)
    assert done["status"] == "completed"
    assert done["created"] == job.created < done["updated"]
    [results] = RecognitionJob.from_dict(done).results
    [alternative] = [result.alternatives[0] for result in results.results]
    assert alternative.transcript == "go forward ten meters "
    assert 0 <= alternative.confidence <= 1
    assert [word for word, _, _ in alternative.timestamps] == alternative.transcript.split()
    assert [word for word, _ in alternative.word_confidence] == alternative.transcript.split()
    assert SpeechRecognitionResults.from_dict(done["results"][0]).to_dict() == results.to_dict()

    jobs = RecognitionJobs.from_dict(service.check_jobs().get_result()).recognitions
    assert [(listed.id, listed.status, listed.results) for listed in jobs] == [(job.id, "completed", None)]

    assert service.delete_job(job.id).get_status_code() == 204
    assert service.check_jobs().get_result() == {"recognitions": []}
    for call in (service.check_job, service.delete_job):
        error = refusal(lambda call=call: call(job.id))  # type: ignore[misc] # the default binds it
        assert (error.status_code, error.message) == (404, "job not found")
    assert traces(stack, job.id) == []


@pytest.mark.parametrize(
    "name", ["flite_rms_0.flac", "flite_rms_0.mp3", "flite_rms_0.opus.ogg", "flite_rms_0.webm", "flite_rms_0.l16be"]
)
async def test_formats(service: SpeechToTextV1, name: str) -> None:
    """Each is recognised by its content type, and containers without one, too."""
    known = media(name)
    kind = f"{known.type}; rate={known.rate}; endianness={known.endianness}" if known.rate else None
    job = service.create_job((AUDIO / name).read_bytes(), content_type=kind).get_result()["id"]
    done = await result_of(service, job)
    text = "".join(result["alternatives"][0]["transcript"] for result in done["results"][0]["results"])
    assert text == f"{SENTENCE} "
    service.delete_job(job)


@pytest.mark.parametrize(
    ("kind", "law", "rate"),
    [
        ("audio/basic", "mulaw", 8000),
        ("audio/mulaw;rate=16000", "mulaw", 16000),
        ("audio/alaw; rate=8000", "alaw", 8000),
    ],
)
async def test_raw_formats_of_telephony(service: SpeechToTextV1, kind: str, law: str, rate: int) -> None:
    """What has no signature is believed to be what it is called."""
    content = encoded(speech("flite_rms_0.wav"), Form(muxer=law, encoder=f"pcm_{law}", rate=rate))
    job = service.create_job(content, content_type=kind).get_result()["id"]
    done = await result_of(service, job)
    text = "".join(result["alternatives"][0]["transcript"] for result in done["results"][0]["results"])
    assert text == f"{SENTENCE} "
    service.delete_job(job)


async def test_streams_and_gzip(service: SpeechToTextV1) -> None:
    """Audio from a generator comes chunked, and with the SDK's option it comes compressed."""

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(WAV), 10_000):
            yield WAV[start : start + 10_000]

    streamed = service.create_job(pieces(), content_type="audio/wav").get_result()["id"]
    service.set_enable_gzip_compression()
    compressed = service.create_job(WAV, content_type="audio/wav").get_result()["id"]
    by_hand = service.create_job(gzip.compress(WAV), headers={"Content-Encoding": "gzip"})
    for job in (streamed, compressed, by_hand.get_result()["id"]):
        [result] = (await result_of(service, job))["results"][0]["results"]
        assert result["alternatives"][0]["transcript"] == "go forward ten meters "
        service.delete_job(job)


async def test_warnings_are_told_at_once_and_with_the_results(service: SpeechToTextV1) -> None:
    """What is not done is said twice, and the job goes on."""
    created = service.create_job(
        WAV,
        content_type="audio/wav",
        smart_formatting=True,
        keywords=["a", "b c"],
        word_alternatives_threshold=0.5,
        user_token="mine",
        results_ttl=99999,
    ).get_result()
    assert created["warnings"] == [
        "'results_ttl' was cut to 10080 minutes, the longest that results are kept.",
        "unexpected query parameter 'user_token', query parameter 'callback_url' was not specified",
        "'keywords' has no effect without 'keywords_threshold'.",
        "Unsupported arguments: word_alternatives_threshold, smart_formatting.",
    ]
    done = await result_of(service, created["id"])
    assert done["results"][0]["warnings"] == created["warnings"]
    service.delete_job(created["id"])


async def test_recognition_parameters(service: SpeechToTextV1) -> None:
    """What the embedded engine can do is done, and read by IBM's classes."""
    created = service.create_job(
        WAV,
        content_type="audio/wav",
        model="en-US_Telephony",
        keywords=["Forward ten", "back"],
        keywords_threshold=0.0,
        max_alternatives=3,
        timestamps=True,
        word_confidence=True,
        profanity_filter=True,
        audio_metrics=True,
        processing_metrics=True,
        end_of_phrase_silence_time=2.0,
        split_transcript_at_phrase_end=True,
        speech_detector_sensitivity=0.6,
        background_audio_suppression=0.0,
        low_latency=False,
    ).get_result()
    assert "warnings" not in created
    [shown] = (await result_of(service, created["id"]))["results"]
    results = SpeechRecognitionResults.from_dict(shown)
    [result] = results.results
    assert result.end_of_utterance == "end_of_data"
    [match] = result.keywords_result["Forward ten"]
    assert match["normalized_text"] == "forward ten"
    assert len(result.alternatives) == 3
    assert results.audio_metrics.accumulated.end_time == pytest.approx(2.79, abs=0.01)
    assert results.processing_metrics.processed_audio.received == pytest.approx(2.79, abs=0.01)
    assert 0 < results.processing_metrics.wall_clock_since_first_byte_received < 120
    assert results.to_dict() == shown
    service.delete_job(created["id"])


def test_models(stack: Stack, service: SpeechToTextV1) -> None:
    """All names of the language that the engine serves, as IBM's classes want them; none else."""
    models = SpeechModels.from_dict(service.list_models().get_result()).models
    assert {model.name: model.rate for model in models} == {
        "en-US_BroadbandModel": 16000,
        "en-US_NarrowbandModel": 8000,
        "en-US_Multimedia": 16000,
        "en-US_Telephony": 8000,
        "en-US": 16000,
    }
    for model in models:
        assert model.language == "en-US"
        assert model.url == f"{stack.url}/v1/models/{model.name}"
        assert SpeechModel.from_dict(service.get_model(model.name).get_result()) == model
        assert not model.supported_features.speaker_labels
    error = refusal(lambda: service.get_model("de-DE_Telephony"))
    assert (error.status_code, error.message) == (404, "Model de-DE_Telephony not found")


def test_errors_have_their_status_and_their_text(stack: Stack, service: SpeechToTextV1) -> None:
    """The SDK shows what the service says."""
    stranger = sdk(stack.url, "volant_no_key")
    for call, status, message in [
        (stranger.check_jobs, 401, "Unauthorized: Access is denied due to invalid credentials"),
        (lambda: stranger.create_job(WAV * 50), 401, "Unauthorized: Access is denied due to invalid credentials"),
        (lambda: service.create_job(WAV, content_type="video/mp4"), 415, "unsupported media type 'video/mp4'"),
        (lambda: service.create_job(WAV, model="xx"), 404, "Model xx not found"),
        (lambda: service.create_job(WAV[:44]), 400, "Stream was 44 bytes but needs to be at least 100 bytes."),
        (
            lambda: service.create_job(WAV, speaker_labels=True),
            400,
            "speaker_labels is not a supported feature for model en-US_BroadbandModel",
        ),
    ]:
        error = refusal(call)
        assert error.status_code == status
        assert error.message in {message, "Unauthorized"}
    assert service.check_jobs().get_result() == {"recognitions": []}


async def test_tenants_do_not_see_each_other(stack: Stack, service: SpeechToTextV1) -> None:
    """A foreign job is neither listed nor found nor deleted."""
    other = sdk(f"{stack.url}/instances/whatever", stack.new_tenant("other")[1])
    job = service.create_job(WAV).get_result()["id"]
    assert other.check_jobs().get_result() == {"recognitions": []}
    assert refusal(lambda: other.check_job(job)).status_code == 404
    assert refusal(lambda: other.delete_job(job)).status_code == 404
    assert (await result_of(service, job))["id"] == job
    service.delete_job(job)
