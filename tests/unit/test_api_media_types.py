"""Which audio a request carries, by its header and by its first bytes."""

import pytest

from api.media_types import declared, settle
from api.problems import Problem
from retention.job import Media

WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "
BEGINNINGS = [
    (WAV, "audio/wav"),
    (b"RIFF\xff\xff\xff\xffWAVE", "audio/wav"),
    (b"RF64\xff\xff\xff\xffWAVE", "audio/wav"),
    (b"fLaC\x00\x00\x00\x22", "audio/flac"),
    (b"OggS\x00\x02", "audio/ogg"),
    (b"\x1a\x45\xdf\xa3\x9f\x42", "audio/webm"),
    (b"ID3\x04\x00", "audio/mp3"),
    (b"\xff\xfb\x90\x64", "audio/mp3"),
    (b"\xff\xf3\x48\xc4", "audio/mp3"),
]
OTHERS = [
    b"",
    b"RIFF\x24\x00\x00\x00AVI ",
    b"\x00\x00\x00\x20ftypM4A ",
    b"The quick brown fox jumps",
    b"\xff\xf1\x50\x80",  # AAC in ADTS
    b"\xff\xeb\x90\x64",  # a reserved version of MPEG
    b"\xff\xfb\xf0\x64",  # a bit rate that does not exist
    b"\xff\xfb\x9c\x64",  # a sampling rate that does not exist
    b"\xff\xfb",
]


def refusal(header: str, head: bytes = b"") -> tuple[int, str]:
    """Return the status and the sentence of the refusal."""
    with pytest.raises(Problem) as caught:
        settle(declared(header), head)
    return caught.value.refusal.status, caught.value.refusal.sentence


@pytest.mark.parametrize(
    ("header", "type_"),
    [
        ("audio/wav", "audio/wav"),
        ("Audio/WAV", "audio/wav"),
        (" audio/x-wav ", "audio/wav"),
        ("audio/wave", "audio/wav"),
        ("audio/vnd.wave", "audio/wav"),
        ("audio/flac", "audio/flac"),
        ("audio/x-flac", "audio/flac"),
        ("audio/mp3", "audio/mp3"),
        ("audio/mpeg", "audio/mp3"),
        ("audio/ogg", "audio/ogg"),
        ('audio/ogg ; Codecs="opus"', "audio/ogg"),
        ("audio/ogg; codec=opus", "audio/ogg"),
        ("audio/webm;codecs=vorbis", "audio/webm"),
    ],
)
def test_names_of_containers_become_ours(header: str, type_: str) -> None:
    """Names are taken in any case, aliases too; unknown parameters do not matter."""
    assert declared(header) == Media(type=type_)


@pytest.mark.parametrize(
    "header", ["", "application/octet-stream", "application/json; charset=utf-8", "application/x-www-form-urlencoded"]
)
@pytest.mark.parametrize(("head", "type_"), BEGINNINGS)
def test_an_untold_type_is_recognised(header: str, head: bytes, type_: str) -> None:
    """What clients send by default says nothing, so the bytes decide."""
    assert settle(declared(header), head) == Media(type=type_)


@pytest.mark.parametrize(("head", "type_"), BEGINNINGS)
def test_the_bytes_win_over_the_declared_container(head: bytes, type_: str) -> None:
    """A wrong label on a container that is taken does no harm."""
    assert settle(declared("audio/webm"), head) == Media(type=type_)


@pytest.mark.parametrize("head", OTHERS)
def test_unrecognised_audio_without_a_type_is_415(head: bytes) -> None:
    """Nothing says what it is."""
    assert refusal("", head)[0] == 415


def test_an_mp3_may_begin_in_the_middle_of_a_frame() -> None:
    """A capture of a stream is believed when a frame begins anywhere in its first bytes; text is not."""
    assert settle(declared("audio/mpeg"), b"\0" * 300 + b"\xff\xfb\x90\x64" + bytes(40)) == Media(type="audio/mp3")
    assert refusal("audio/mpeg", b"text, and no frame" * 20)[0] == 400


@pytest.mark.parametrize("head", OTHERS)
def test_a_declared_container_that_is_none_is_400_in_ibms_words(head: bytes) -> None:
    """Text as audio, for instance."""
    assert refusal("audio/x-wav", head) == (400, "unable to transcode data stream audio/wav -> audio/x-float-array")


@pytest.mark.parametrize(
    ("header", "media"),
    [
        ("audio/l16;rate=16000", Media(type="audio/l16", rate=16000)),
        ("audio/L16; Rate=8000; channels=2", Media(type="audio/l16", rate=8000, channels=2)),
        (
            'audio/l16; rate="44100" ; endianness="Big-Endian"',
            Media(type="audio/l16", rate=44100, endianness="big-endian"),
        ),
        (
            "audio/l16;rate=16000;rate=x;endianness=little-endian",
            Media(type="audio/l16", rate=16000, endianness="little-endian"),
        ),
        ("audio/l16; rate=48000; channels=16", Media(type="audio/l16", rate=48000, channels=16)),
        ("audio/alaw;rate=8000", Media(type="audio/alaw", rate=8000)),
        ("AUDIO/ALAW ; RATE = 16000 ; channels=2", Media(type="audio/alaw", rate=16000)),
        ('audio/mulaw; rate="8000"', Media(type="audio/mulaw", rate=8000)),
        ("audio/basic", Media(type="audio/mulaw", rate=8000)),
        ("audio/Basic; rate=16000", Media(type="audio/mulaw", rate=8000)),
        ("audio/g729", Media(type="audio/g729")),
        ("audio/G729; annexb=no", Media(type="audio/g729")),
    ],
)
def test_raw_samples_are_as_declared(header: str, media: Media) -> None:
    """Their bytes may begin like anything, a container too."""
    assert settle(declared(header), WAV) == media


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ("audio/l16", "'rate'"),
        ("audio/l16;channels=1", "'rate'"),
        ("audio/alaw", "'rate'"),
        ("audio/alaw;rate=0", "'rate' of audio/alaw"),
        ("audio/mulaw", "'rate'"),
        ("audio/mulaw;rate=384001", "'rate' of audio/mulaw"),
        ("audio/l16;rate=", "'rate'"),
        ("audio/l16;rate=fast", "'rate'"),
        ("audio/l16;rate=-16000", "'rate'"),
        ("audio/l16;rate=999", "'rate'"),
        ("audio/l16;rate=" + "9" * 400, "'rate'"),
        ("audio/l16;rate=16000;channels=0", "'channels'"),
        ("audio/l16;rate=16000;channels=17", "'channels'"),
        ("audio/l16;rate=16000;endianness=middle", "'endianness'"),
    ],
)
def test_wrong_parameters_of_raw_samples_are_400_and_named(header: str, named: str) -> None:
    """The sentence says which parameter is missing or wrong."""
    status, sentence = refusal(header)
    assert (status, named in sentence) == (400, True)


@pytest.mark.parametrize(
    "header",
    [
        "audio/mp4",
        "video/webm",
        "text/plain",
        "multipart/form-data; boundary=x",
        "audio",
        "audio/amr",
        "audio/aac",
        "audio/l8;rate=8000",
        "audio/\udcff",
    ],
)
def test_other_types_are_415_and_named(header: str) -> None:
    """The type that the client sent is in the sentence, whatever it was."""
    status, sentence = refusal(header)
    assert (status, sentence.encode().startswith(b"unsupported media type '")) == (415, True)
