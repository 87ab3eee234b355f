"""The query of a submission: what is honoured, warned about, refused, and unknown."""

import time
from datetime import timedelta

import pytest
from yarl import URL

from api.parameters import Told, Wishes, read
from api.problems import Problem
from retention.job import Recognition
from retention.offer import Offer
from retention.settings import Settings

MODEL = "en-US_BroadbandModel"


ALL = Offer(
    engine="able",
    languages=("en-US", "de-DE"),
    features=frozenset({"times", "confidences", "alternatives", "punctuation"}),
)
"""An engine that can do everything."""
NOTHING = Offer(engine="unable", languages=("en-US",), features=frozenset())


def asked(query: str, settings: Settings | None = None, offer: Offer = ALL) -> Wishes:
    """Read a query as it comes over the wire."""
    return read(URL(f"/?{query}", encoded=True).query, settings or Settings(), offer)


def honoured(query: str, offer: Offer = ALL) -> Recognition:
    """Return what is honoured of a query."""
    return asked(query, offer=offer).recognition


def refusal(query: str) -> tuple[int, str]:
    """Return the status and the sentence with which a query is refused."""
    with pytest.raises(Problem) as caught:
        asked(query)
    return caught.value.refusal.status, caught.value.refusal.sentence


def test_an_empty_query_means_the_defaults() -> None:
    """The model of the contract, one alternative, no extras, a week."""
    plain = Recognition(model=MODEL, profanity_filter=True)
    assert asked("") == Wishes(recognition=plain, results_ttl=timedelta(days=7), told=None)
    assert (plain.max_alternatives, plain.end_of_phrase_silence_time, plain.speech_detector_sensitivity) == (
        1,
        0.8,
        0.5,
    )


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("False", False), ("0", False)]
)
def test_booleans_are_taken_leniently(text: str, value: bool) -> None:  # noqa: FBT001 - it is the value under test
    """Any case, and digits."""
    assert honoured(f"timestamps={text}").timestamps is value


def test_of_a_repeated_parameter_the_first_counts() -> None:
    """Later ones are as if they were not there."""
    assert honoured("timestamps=true&timestamps=false&timestamps=rubbish").timestamps is True


@pytest.mark.parametrize(("text", "value"), [("0", 1), ("1", 1), ("5", 5), ("100", 100), ("9" * 300, 100)])
def test_max_alternatives_is_between_one_and_what_is_looked_for(text: str, value: int) -> None:
    """Zero means one (spec 1.3), and fewer than asked for are legal (spec 4.4)."""
    assert honoured(f"max_alternatives={text}").max_alternatives == value


@pytest.mark.parametrize(
    "query",
    [
        "timestamps=yes",
        "timestamps=",
        "word_confidence=2",
        "max_alternatives=-1",
        "max_alternatives=two",
        "max_alternatives=1.5",
        "max_alternatives=1e3",
        "results_ttl=0",
        "results_ttl=-1",
        "results_ttl=soon",
        "results_ttl=1.5",
        "results_ttl=",
        "results_ttl=%D9%A1",
        "inactivity_timeout=-2",
        "inactivity_timeout=x",
        "keywords_threshold=1.1",
        "keywords_threshold=-0.1",
        "keywords_threshold=nan",
        "keywords_threshold=1_0",
        "word_alternatives_threshold=-1",
        "end_of_phrase_silence_time=120.1",
        "processing_metrics_interval=0.05",
        "processing_metrics_interval=1e999",
        "speech_detector_sensitivity=2",
        "speech_event_sensitivity=2",
        "background_audio_suppression=inf",
        "character_insertion_bias=-1.5",
        "customization_weight=2",
        "sad_module=3",
        "sad_module=1.5",
        "smart_formatting=perhaps",
        "smart_formatting_version=two",
        "speaker_labels=perhaps",
        "redaction=perhaps",
        "profanity_filter=perhaps",
        "keywords=" + ",".join("a" * 1001),
        "keywords=" + "a" * 1025,
    ],
)
def test_a_value_out_of_range_is_400_and_named(query: str) -> None:
    """The sentence says which parameter is wrong."""
    status, sentence = refusal(query)
    assert status == 400
    assert f"'{query.partition('=')[0]}'" in sentence


@pytest.mark.parametrize(
    "query",
    [
        "timestamps=false",
        "word_confidence=false",
        "max_alternatives=0",
        "max_alternatives=1",
        "profanity_filter=false",
        "smart_formatting=false",
        "smart_formatting_version=1",
        "speaker_labels=false",
        "redaction=0",
        "processing_metrics=false",
        "processing_metrics_interval=1.0",
        "audio_metrics=false",
        "end_of_phrase_silence_time=0.8",
        "end_of_phrase_silence_time=0",
        "split_transcript_at_phrase_end=false",
        "speech_detector_sensitivity=0.5",
        "sad_module=1",
        "background_audio_suppression=0.0",
        "low_latency=false",
        "character_insertion_bias=0",
        "speech_begin_event=false",
        "inactivity_timeout=-1",
        "inactivity_timeout=30",
        "keywords=",
        "enrichments=",
        "customization_id=",
        "grammar_name=",
    ],
)
def test_what_equals_the_default_needs_no_word(query: str) -> None:
    """IBM's defaults, written out, are what happens anyway, whatever the engine can do."""
    assert honoured(query).warnings == honoured(query, NOTHING).warnings == ()


@pytest.mark.parametrize(
    "query",
    [
        "smart_formatting=true",
        "smart_formatting_version=2.0",
        "processing_metrics_interval=.5",
        "speech_event_sensitivity=1",
        "sad_module=2",
        "background_audio_suppression=1.0",
        "low_latency=true",
        "character_insertion_bias=-0.5",
        "speech_begin_event=true",
        "word_alternatives_threshold=0",
        "enrichments=anything",
        "hints=date",
        "customization_weight=0.3",
        "base_model_version=en-US_BroadbandModel.v07-06082016.06202016",
    ],
)
def test_what_only_makes_the_result_poorer_is_warned_about(query: str) -> None:
    """The warning has IBM's shape."""
    assert honoured(query).warnings == (f"Unsupported arguments: {query.partition('=')[0]}.",)


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("timestamps=true", "timestamps", True),
        ("word_confidence=1", "word_confidence", True),
        ("max_alternatives=3", "max_alternatives", 3),
        ("keywords=a b,C&keywords=c,&keywords_threshold=0", "keywords", ("a b", "C", "c")),
        ("keywords=a&keywords_threshold=.5", "keywords_threshold", 0.5),
        ("profanity_filter=false", "profanity_filter", False),
        ("profanity_filter=true", "profanity_filter", True),
        ("end_of_phrase_silence_time=1.2", "end_of_phrase_silence_time", 1.2),
        ("end_of_phrase_silence_time=0", "end_of_phrase_silence_time", 0.8),
        ("split_transcript_at_phrase_end=true", "split_transcript_at_phrase_end", True),
        ("speech_detector_sensitivity=0.0", "speech_detector_sensitivity", 0.0),
        ("speech_detector_sensitivity=1", "speech_detector_sensitivity", 1.0),
        ("audio_metrics=true", "audio_metrics", True),
        ("processing_metrics=true", "processing_metrics", True),
        ("enrichments=punctuation", "enrichments", "punctuation"),
    ],
)
def test_what_the_engine_can_do_is_honoured(query: str, name: str, value: object) -> None:
    """The wish is in the submission, under the parameter's name, and there is no warning."""
    recognition = honoured(query)
    assert getattr(recognition, name) == value
    assert recognition.warnings == ()


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("timestamps=true", "timestamps"),
        ("word_confidence=true", "word_confidence"),
        ("max_alternatives=2", "max_alternatives"),
        ("keywords=a", "keywords"),
        ("keywords_threshold=0.5", "keywords_threshold"),
        ("end_of_phrase_silence_time=1", "end_of_phrase_silence_time"),
        ("enrichments=punctuation", "enrichments"),
    ],
)
def test_what_the_engine_cannot_do_is_warned_about(query: str, name: str) -> None:
    """The answer follows from what the engine states, and the submission has the default."""
    recognition = honoured(query, NOTHING)
    assert recognition.warnings == (f"Unsupported arguments: {name}.",)
    assert getattr(recognition, name) == getattr(Recognition(model=MODEL), name)


@pytest.mark.parametrize(("given", "missing"), [("keywords", "keywords_threshold"), ("keywords_threshold", "keywords")])
def test_keywords_and_their_threshold_go_together(given: str, missing: str) -> None:
    """One alone spots nothing (spec 1.3), and the client is told."""
    recognition = honoured(f"{given}=0.5")
    assert recognition.warnings == (f"'{given}' has no effect without '{missing}'.",)
    assert (recognition.keywords, recognition.keywords_threshold) == ((), None)


@pytest.mark.parametrize(
    ("query", "pause"),
    [("", 0.6), ("&end_of_phrase_silence_time=0", 0.6), ("&end_of_phrase_silence_time=0.8", 0.8)],
)
def test_a_pause_in_chinese_is_shorter_by_default(query: str, pause: float) -> None:
    """As the contract has it (spec 1.3)."""
    chinese = Offer(engine="able", languages=("zh-CN",), features=ALL.features)
    recognition = honoured(f"model=zh-CN_Telephony{query}", chinese)
    assert (recognition.end_of_phrase_silence_time, recognition.warnings) == (pause, ())


def test_swear_words_are_filtered_in_english_only() -> None:
    """By default there, and nowhere else; who asks for it elsewhere is told (spec 7)."""
    german = honoured("model=de-DE_Telephony")
    assert (german.profanity_filter, german.warnings) == (False, ())
    german = honoured("model=de-DE_Telephony&profanity_filter=true")
    assert (german.profanity_filter, german.warnings) == (False, ("Unsupported arguments: profanity_filter.",))
    assert honoured("model=de-DE_Telephony&profanity_filter=false").warnings == ()


@pytest.mark.parametrize(
    "query",
    [
        "speaker_labels=true",
        "redaction=true",
        "customization_id=x",
        "language_customization_id=x",
        "acoustic_customization_id=x",
        "grammar_name=x",
    ],
)
def test_what_would_mislead_is_refused(query: str) -> None:
    """In IBM's words."""
    name = query.partition("=")[0]
    assert refusal(f"{query}&model=en-US") == (400, f"{name} is not a supported feature for model en-US")


def test_warnings_are_one_sentence_for_each_kind_in_the_order_of_the_query() -> None:
    """Names are listed as the client wrote them, each once."""
    query = "b=1&low_latency=true&a=&interim_results=true&sad_module=2&b=2&user_token=job25&events=recognitions.failed"
    assert honoured(query).warnings == (
        "unexpected query parameter 'user_token', query parameter 'callback_url' was not specified",
        "unexpected query parameter 'events', query parameter 'callback_url' was not specified",
        "Unsupported arguments: low_latency, sad_module.",
        "Unknown arguments: b, a, interim_results.",
    )


@pytest.mark.parametrize("query", ["continuous=true", "parameter_set=x", "max_active=1", "", "%ff%ed%a0%80=1"])
def test_whatever_a_name_is_it_can_be_written_back(query: str) -> None:
    """Unknown names stay within valid UTF-8, however they came."""
    for warning in honoured(query).warnings:
        assert warning.startswith("Unknown arguments: ")
        assert warning.encode()


@pytest.mark.parametrize("model", ["en-US_NarrowbandModel", "en-US_Multimedia", "en-US_Telephony", "en-US"])
def test_every_name_of_the_locale_is_served(model: str) -> None:
    """Clients of each generation of models find theirs."""
    assert honoured(f"model={model}").model == model


def test_an_empty_name_is_that_of_no_model() -> None:
    """As with other texts, it asks for nothing."""
    assert honoured("model=").model == MODEL


def test_warnings_name_no_more_than_somebody_would_read() -> None:
    """They are kept with the job, and told twice."""
    [warning] = honoured("&".join(f"x{number}=1" for number in range(103))).warnings
    assert warning.startswith("Unknown arguments: x0, x1, ")
    assert warning.endswith(", x99, and 3 more.")


def test_an_unknown_model_is_404() -> None:
    """In the words of the contract."""
    assert refusal("model=xx-XX_Telephony") == (404, "Model xx-XX_Telephony not found")


HOOK = "https://me.example/hook?a=b"


def test_who_wants_to_be_told_is_told_of_three_events() -> None:
    """The contract's default, without results; the URL is as it was given."""
    told = asked(f"callback_url={HOOK}").told
    assert told == Told(
        url=HOOK,
        events=("recognitions.started", "recognitions.completed", "recognitions.failed"),
        user_token="",
    )


def test_events_are_those_named_wherever_they_are_named() -> None:
    """A repeated parameter is merged, a repeated event is one, and the comma may be encoded."""
    query = "events=recognitions.failed%2Crecognitions.completed_with_results&events=recognitions.failed&user_token=a b"
    wishes = asked(f"callback_url={HOOK}&{query}")
    assert wishes.told is not None
    assert wishes.told.events == ("recognitions.failed", "recognitions.completed_with_results")
    assert wishes.told.user_token == "a b"
    assert wishes.recognition.warnings == ()


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("events=recognitions.stopped", "recognitions.stopped"),
        ("events=recognitions.completed,recognitions.completed_with_results", "not both"),
        (f"user_token={'x' * 4097}", "user_token"),
    ],
)
def test_what_cannot_be_told_is_refused(query: str, named: str) -> None:
    """Unknown events, both forms of completion, and a token of any size."""
    status, sentence = refusal(f"callback_url={HOOK}&{query}")
    assert (status, named in sentence) == (400, True)


def test_results_ttl_is_whole_minutes() -> None:
    """The client's wish is kept to the minute."""
    assert asked("results_ttl=1").results_ttl == timedelta(minutes=1)
    assert honoured("results_ttl=10080").warnings == ()


@pytest.mark.parametrize("text", ["10081", "1000000000", "9" * 300])
def test_a_results_ttl_above_the_longest_is_cut_with_a_warning(text: str) -> None:
    """The result is kept as long as the service keeps any."""
    wishes = asked(f"results_ttl={text}")
    assert wishes.results_ttl == timedelta(days=7)
    assert wishes.recognition.warnings == (
        "'results_ttl' was cut to 10080 minutes, the longest that results are kept.",
    )


def test_without_results_ttl_the_setting_counts() -> None:
    """The operator chooses the default."""
    assert asked("", Settings(results_ttl=timedelta(minutes=3))).results_ttl == timedelta(minutes=3)


def test_a_long_number_is_refused_at_once() -> None:
    """Its digits are looked at once, and not in every way in which they could be shared out."""
    began = time.process_time()
    assert refusal(f"keywords_threshold={'1' * 60_000}x")[0] == 400
    assert time.process_time() - began < 5
