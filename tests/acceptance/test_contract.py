"""What is served is what the served document says, as schemathesis sees it: `make contract`, with fewer cases."""

from pathlib import Path

import aiohttp
import msgspec

from api.answers import CheckedJob, reference
from api.schemas import plain
from deploy.stack import Stack
from retention.results import Results
from tests.acceptance.client import Client
from tests.contract.trial import SETTINGS, trial
from tests.documented import Document
from tests.speech import AUDIO
from tests.stack import StartStack, wait_until


async def test_schemathesis_finds_nothing_that_is_not_as_the_document_says(
    fresh_stack: StartStack, tmp_path: Path
) -> None:
    """With all of its checks, as two tenants, of which one has a key and the other a token."""
    stack = fresh_stack(**SETTINGS)  # type: ignore[arg-type] # none of them is `workers`
    outcome = await trial(stack, tmp_path, cases=100)
    assert outcome.status == 0, outcome.said
    assert outcome.cases >= 100
    assert '"status": 500' not in stack.logs("api")


async def test_a_real_result_is_as_the_document_says(stack: Stack) -> None:
    """With everything that can be asked for; nothing is in it that the document does not know."""
    asked = {
        **dict.fromkeys(("timestamps", "word_confidence", "split_transcript_at_phrase_end"), "true"),
        **dict.fromkeys(("audio_metrics", "processing_metrics"), "true"),
        "max_alternatives": "3",
        "keywords": "forward",
        "keywords_threshold": "0",
        "nonsense": "1",
    }
    async with Client(stack.url, stack.new_tenant("contract")[1]) as client:
        job = await client.submit((AUDIO / "goforward.wav").read_bytes(), **asked)
        await wait_until(lambda: client.ended(job))
        _, checked = await client.look_up(job)
        await client.delete(job)
    async with aiohttp.ClientSession() as session, session.get(f"{stack.url}/openapi.json") as response:
        document = Document(await response.json())
    document.validator(reference(CheckedJob)).validate(checked)
    [results] = checked["results"]
    assert plain(msgspec.convert(results, Results)) == results
    assert results.keys() == {"result_index", "results", "processing_metrics", "audio_metrics", "warnings"}
    assert results["results"][0].keys() == {"final", "alternatives", "keywords_result", "end_of_utterance"}
