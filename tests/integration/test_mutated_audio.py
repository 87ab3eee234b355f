"""Some dozens of the mutants that `make fuzz` tries by the thousand; and that a campaign sees what it is there for."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from retention.job import Media
from tests.fuzz.campaign import Campaign, trap
from tests.fuzz.mutants import Mutant, mutant
from worker import decoding
from worker.transcriber import Transcriber, Undecodable

SEED = 4
SOME = Mutant(content=b"", media=Media(type="audio/wav"), origin="nothing")


async def test_mutants_of_every_format_end_as_they_must() -> None:
    """With a result or a known error, without a death or an escape; twice each format."""
    campaign = Campaign(SEED)
    await campaign.run(range(48))
    assert campaign.failures == []
    assert campaign.ends.total() == 48
    assert min(campaign.ends["result"], campaign.ends["damaged"], campaign.ends["undecodable"]) > 0


def test_a_seed_and_a_number_make_the_same_mutant_again() -> None:
    """Else nothing that was found could be looked at."""
    lures = (b"file:x",)
    assert [mutant(SEED, number, lures) for number in range(30)] == [
        mutant(SEED, number, lures) for number in range(30)
    ]
    assert len({mutant(SEED, number, lures).content for number in range(0, 240, 24)}) > 8


def test_an_escape_is_noticed() -> None:
    """Whoever opens the file, or connects, is."""
    with trap() as waiting:
        assert waiting.sprung() == []
        named = [urlsplit(lure.decode()) for lure in waiting.lures[-2:]]
        Path(named[0].path).read_bytes()
        socket.create_connection((named[1].hostname, named[1].port)).close()
        assert waiting.sprung() == ["a connection was made", "a file was opened"]
        assert waiting.sprung() == []


@pytest.mark.parametrize(
    "end",
    [
        Undecodable("Invalid data found when processing input"),
        ValueError("/usr/lib"),
        b'{"result_index":0,"results":[],"decoder":"mp3float"}',
        b'{"result_index":0,"results":[],"warnings":["mp3float: overread"]}',
        b'{"result_index":0,"results":[{"final":true,"alternatives":[{"transcript":"/etc/passwd "}]}]}',
    ],
)
async def test_an_end_that_tells_too_much_is_noticed(end: Exception | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the inside, or words in the result that are nobody's."""

    async def transcribe(*_: object) -> bytes:
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(Transcriber, "transcribe", transcribe)
    campaign = Campaign(SEED)
    await campaign.run(range(1))
    assert len(campaign.failures) == 1


def _dies(*_: object) -> None:
    os._exit(1)


async def test_the_death_of_a_decoder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails the recording, and with it the campaign."""
    monkeypatch.setattr(decoding, "_decode", _dies)
    campaign = Campaign(SEED)
    await campaign.run(range(1))
    assert ["EngineFailed" in failure for failure in campaign.failures] == [True]
