"""The contract's shape of a result, from what an engine says."""

import warnings
from typing import Any

import msgspec
import pytest

from retention.job import Media, Submission
from retention.results import Accumulated, AudioMetrics, Bin
from worker import results
from worker.media import RATE
from worker.phrases import Phrases
from worker.recognizers import Utterance, Word
from worker.results import SHORTENED, Presenter

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it has invalid escapes in its docstrings
    from ibm_watson.speech_to_text_v1 import AudioMetrics as IbmAudioMetrics, ProcessingMetrics

SAID = Utterance(
    words=(Word("ten", 0.1, 0.456, 0.987), Word("clubs", 0.5, 1.0, 1.0001)),
    others=("ten of", "two"),
)
PLAIN = Submission(media=Media(type="audio/wav"), model="en-US")


def presented(utterances: list[Utterance], metrics: AudioMetrics | None = None, **asked: Any) -> dict[str, Any]:
    """Return the results object of utterances, each in a segment of two seconds, the first at 10 s."""
    submission = msgspec.structs.replace(PLAIN, **asked)
    phrases = Phrases(
        pause=submission.end_of_phrase_silence_time,
        sentences=submission.split_transcript_at_phrase_end,
        most_readings=submission.max_alternatives,
    )
    presenter = Presenter(submission)
    for number, utterance in enumerate(utterances, 5):
        for phrase in phrases.add(number * 2 * RATE, 2 * RATE, utterance):
            presenter.add(phrase)
    total = (10 + 2 * len(utterances)) * RATE
    for phrase in phrases.end(total):
        presenter.add(phrase)
    told: dict[str, Any] = msgspec.json.decode(presenter.encode(heard=total / RATE, took=1.234, metrics=metrics))
    return told


def told(utterance: Utterance, **asked: Any) -> dict[str, Any]:
    """Return an utterance's result, decoded."""
    [result] = presented([utterance], **asked)["results"]
    assert isinstance(result, dict)
    return result


def test_a_transcript_ends_in_one_space_and_has_its_confidence() -> None:
    """Clients join transcripts with nothing between (spec 4.2)."""
    assert told(SAID) == {"final": True, "alternatives": [{"transcript": "ten clubs ", "confidence": 0.99}]}


def test_times_are_those_of_the_audio() -> None:
    """Word times count from the start of the audio, with two decimals (spec 4.3)."""
    (best,) = told(SAID, timestamps=True)["alternatives"]
    assert best["timestamps"] == [["ten", 10.1, 10.46], ["clubs", 10.5, 11.0]]


def test_probabilities_stay_within_bounds() -> None:
    """What an engine computes beyond 1 is 1."""
    (best,) = told(SAID, word_confidence=True)["alternatives"]
    assert best["word_confidence"] == [["ten", 0.99], ["clubs", 1.0]]


@pytest.mark.parametrize(("wanted", "given"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_alternatives_are_as_many_as_wanted_and_there(wanted: int, given: int) -> None:
    """Zero means one; further ones have nothing but their transcript (spec 4.4)."""
    alternatives = told(SAID, max_alternatives=wanted, timestamps=True, word_confidence=True)["alternatives"]
    assert len(alternatives) == given
    assert alternatives[1:] == [{"transcript": "ten of "}, {"transcript": "two "}][: given - 1]


def test_times_out_of_order_are_put_right() -> None:
    """An engine that claims words before or after its segment, or backwards, does not break the order."""
    odd = Utterance(words=(Word("a", -5.0, 0.5, 1.0), Word("b", 0.2, 0.1, 1.0), Word("c", 0.6, 99.0, 1.0)))
    (best,) = told(odd, timestamps=True)["alternatives"]
    assert best["timestamps"] == [["a", 10.0, 10.5], ["b", 10.5, 10.5], ["c", 10.6, 12.0]]


def test_nothing_said_is_no_result() -> None:
    """A segment without words gives no element, and the whole is an empty list."""
    assert presented([Utterance()]) == {"result_index": 0, "results": []}


def test_without_confidences_none_is_told() -> None:
    """An engine that is not sure of anything has no number made up for it."""
    unsure = Utterance(words=(Word("ten", 0.1, 0.4),))
    assert told(unsure, word_confidence=True) == {"final": True, "alternatives": [{"transcript": "ten "}]}


def test_the_whole_is_compact_and_warns_only_if_there_is_something_to_warn_of() -> None:
    """Spec 4.1 and 4.8: the warnings of the request, and those of the work."""
    presenter = Presenter(PLAIN)
    assert presenter.encode(heard=0, took=0, metrics=None) == b'{"result_index":0,"results":[]}'
    presenter = Presenter(msgspec.structs.replace(PLAIN, warnings=("\u00e4",)))
    told = presenter.encode(heard=0, took=0, metrics=None, warnings=["b"])
    assert told == '{"result_index":0,"results":[],"warnings":["\u00e4","b"]}'.encode()


def test_swear_words_become_asterisks_everywhere_but_in_keywords() -> None:
    """Transcript, further readings and word lists hide them; a keyword that was asked for is found (spec 4.5, 4.7)."""
    rude = Utterance(
        words=(Word("Fucking", 0.0, 0.4, 0.9), Word("clubs,", 0.4, 0.8, 0.9), Word("shit.", 0.8, 1.0, 0.9)),
        others=("ten fuck",),
    )
    asked = {
        "profanity_filter": True,
        "timestamps": True,
        "word_confidence": True,
        "max_alternatives": 2,
        "keywords": ("shit",),
        "keywords_threshold": 0.0,
    }
    result = told(rude, **asked)
    best, other = result["alternatives"]
    assert best["transcript"] == "**** clubs, ****. "
    assert [row[0] for row in best["timestamps"]] == ["****", "clubs,", "****."]
    assert [row[0] for row in best["word_confidence"]] == ["****", "clubs,", "****."]
    assert other["transcript"] == "ten **** "
    assert result["keywords_result"]["shit"][0]["normalized_text"] == "shit."
    assert told(rude)["alternatives"][0]["transcript"] == "Fucking clubs, shit. "


def test_keywords_are_told_as_the_client_wrote_them() -> None:
    """Without a match there is no field (spec 4.5, 8.7)."""
    result = told(SAID, keywords=("Ten", "two"), keywords_threshold=0.5)
    match = {"normalized_text": "ten", "start_time": 10.1, "end_time": 10.46, "confidence": 0.99}
    assert result["keywords_result"] == {"Ten": [match]}
    assert "keywords_result" not in told(SAID, keywords=("two",), keywords_threshold=0.5)


def test_processing_metrics_are_one_final_object() -> None:
    """Seconds of audio and of real time, as IBM's class wants them (spec 4.7)."""
    metrics = presented([SAID], processing_metrics=True)["processing_metrics"]
    assert metrics == {
        "processed_audio": {"received": 12.0, "seen_by_engine": 12.0, "transcription": 12.0},
        "wall_clock_since_first_byte_received": 1.23,
        "periodic": False,
    }
    assert ProcessingMetrics.from_dict(metrics).to_dict() == metrics


def test_audio_metrics_are_told_when_they_were_measured() -> None:
    """The object is IBM's, histograms and all."""
    bins = [Bin(0.0, 0.5, 3), Bin(0.5, 1.0, 0)]
    measured = AudioMetrics(
        sampling_interval=0.1,
        accumulated=Accumulated(
            end_time=0.3,
            signal_to_noise_ratio=20.0,
            speech_ratio=0.5,
            high_frequency_loss=0.0,
            direct_current_offset=bins,
            clipping_rate=bins,
            speech_level=bins,
            non_speech_level=bins,
        ),
    )
    shown = presented([SAID], metrics=measured)["audio_metrics"]
    assert shown["accumulated"]["speech_level"] == [
        {"begin": 0.0, "end": 0.5, "count": 3},
        {"begin": 0.5, "end": 1.0, "count": 0},
    ]
    assert IbmAudioMetrics.from_dict(shown).to_dict() == shown
    assert "audio_metrics" not in presented([SAID])


def test_the_whole_text_comes_with_its_time_when_punctuation_was_asked_for() -> None:
    """Beside the utterances, not in their place (spec 8.17)."""
    results = presented([SAID, SAID], enrichments="punctuation")
    assert results["enriched_results"] == {
        "transcript": {"text": "ten clubs ten clubs", "timestamp": {"from": 10.1, "to": 13.0}},
        "status": "success",
    }
    assert results["results"]
    assert "enriched_results" not in presented([Utterance()], enrichments="punctuation")


def test_a_result_that_grows_too_large_goes_on_without_what_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words and times stay; keywords and other readings end, and the client is told."""
    monkeypatch.setattr(results, "_LARGE", 300)
    asked: dict[str, Any] = {"keywords": ("ten",), "keywords_threshold": 0.0, "max_alternatives": 2, "timestamps": True}
    told = presented([SAID] * 5, end_of_phrase_silence_time=0.1, **asked)
    assert [len(result["alternatives"]) for result in told["results"]] == [2, 2, 1, 1, 1]
    assert ["keywords_result" in result for result in told["results"]] == [True, True, False, False, False]
    assert all("timestamps" in result["alternatives"][0] for result in told["results"])
    assert told["warnings"] == [SHORTENED]
    told = presented([SAID] * 5, end_of_phrase_silence_time=0.1, timestamps=True)
    assert "warnings" not in told
