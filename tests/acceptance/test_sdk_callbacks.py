"""IBM's Python SDK, unmodified, registers callbacks, is told, and erases a customer (promise P8)."""

import asyncio
import json
from typing import Any

from deploy.stack import Stack
from tests.acceptance.receivers import SECRET, Receiver, answers
from tests.acceptance.test_sdk import refusal, sdk
from tests.recognizers import recording
from tests.stack import wait_until

AUDIO = recording(0)
STARTED, WITH_RESULTS = "recognitions.started", "recognitions.completed_with_results"


async def call(method: Any, *arguments: Any, **options: Any) -> Any:
    """Call the SDK, which blocks, in a thread: the receiver answers in this one."""
    return await asyncio.to_thread(method, *arguments, **options)


async def test_a_job_is_told_to_a_url_that_the_sdk_registered(calling: Stack) -> None:
    """Register, create with a token and events, be told with the results, list, unregister."""
    service = sdk(calling.url, calling.new_tenant("told")[1])
    async with Receiver() as receiver:
        for status, said in ((201, "created"), (200, "already created")):
            answer = await call(service.register_callback, receiver.url, user_secret=SECRET)
            assert answer.get_status_code() == status
            assert answer.get_result() == {"status": said, "url": receiver.url}
        created = await call(
            service.create_job,
            AUDIO,
            content_type="audio/wav",
            callback_url=receiver.url,
            events=f"{STARTED},{WITH_RESULTS}",
            user_token="job25",
        )
        job = created.get_result()["id"]

        async def told() -> bool:
            return receiver.events(job) == [STARTED, WITH_RESULTS]

        await wait_until(told)
        checked = (await call(service.check_job, job)).get_result()
        last = receiver.told[-1]
        assert last.is_signed(SECRET)
        assert checked["results"][0]["results"][0]["alternatives"][0]["transcript"] == "done "
        assert json.loads(last.body)["results"] == checked["results"]
        [row] = (await call(service.check_jobs)).get_result()["recognitions"]
        assert (row["id"], row["user_token"]) == (job, "job25")

        assert (await call(service.unregister_callback, receiver.url)).get_status_code() == 200
        refused = await call(refusal, lambda: service.create_job(AUDIO, callback_url=receiver.url))
        assert (refused.status_code, receiver.url in refused.message) == (400, True)
        assert (await call(refusal, lambda: service.unregister_callback(receiver.url))).status_code == 404


async def test_a_receiver_that_does_not_take_the_challenge_is_refused(calling: Stack) -> None:
    """With the receiver's own status, in the words that people look for."""
    service = sdk(calling.url, calling.new_tenant("refused")[1])
    async with Receiver() as receiver:
        receiver.answer = lambda _asked, writer: answers(406)(None, writer)  # type: ignore[arg-type]
        refused = await call(refusal, lambda: service.register_callback(receiver.url))
        assert refused.status_code == 400
        assert "callback server responded with status code 406" in refused.message


async def test_a_customer_is_erased_by_the_sdk(calling: Stack) -> None:
    """The label of one job goes with a header; what it labels goes, and the other job stays."""
    service = sdk(calling.url, calling.new_tenant("erased")[1])
    labelled = service.create_job(AUDIO, headers={"X-Watson-Metadata": "customer_id=Zoë 7".encode()})
    other = service.create_job(AUDIO)
    assert service.delete_user_data("Zoë 7").get_status_code() == 200
    assert refusal(lambda: service.check_job(labelled.get_result()["id"])).status_code == 404
    assert service.check_job(other.get_result()["id"]).get_status_code() == 200
    assert service.delete_user_data("nobody").get_status_code() == 200
    assert refusal(lambda: service.create_job(AUDIO, headers={"X-Watson-Metadata": "customer=7"})).status_code == 400
