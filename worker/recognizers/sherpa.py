"""sherpa-onnx: models of many kinds as ONNX files, each in a directory with a `model.toml` that describes it.

What an utterance has follows from the kind: most give the time at which each token was found, transducers also its
probability, and Whisper, Moonshine and their like only text.
"""

import codecs
import inspect
import itertools
import math
import re
import tomllib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from retention.offer import Feature, Offer
from worker.recognizers import Utterance, Word, directory

_RATE = 16000
_LEAST = _RATE
"""Samples: encoders fail on what is much shorter than a word, so silence is added to that."""

_TOKEN = 0.2
"""Seconds that a token takes at most. Few models say when one ends; without a bound, pauses would belong to words."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACELESS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana and ideographs
_WORD = re.compile(rf"[{_SPACELESS}][^\w\s]*|[^\s{_SPACELESS}]+")


class _Description(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `model.toml` says; `files` and `options` are arguments of the library's function for this type."""

    type: str
    languages: Annotated[tuple[Annotated[str, Meta(pattern=r"^[a-z]{2,3}-[A-Z]{2}$")], ...], Meta(min_length=1)]
    punctuation: bool = False
    files: dict[str, str]
    options: dict[str, str | int | float | bool] = {}


class SherpaOnnx:
    """Whatever languages `model.toml` names."""

    features: ClassVar[frozenset[Feature]] = frozenset({"times", "confidences", "punctuation"})

    def __init__(self, model: Path | None) -> None:
        try:
            import sherpa_onnx  # noqa: PLC0415 - an extra, whose absence is told in a sentence
        except ModuleNotFoundError:
            raise ModuleNotFoundError("its library is not installed: pip install 'volant[sherpa-onnx]'") from None
        place = directory.opened(model)
        described = _described(place)
        self._recognizer = _loaded(sherpa_onnx.OfflineRecognizer, described, place)
        self.offer = Offer(
            engine="sherpa-onnx", languages=described.languages, features=frozenset(_features(described))
        )

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `Recognizer`. The model knows its languages; the library gives one reading."""
        del language, alternatives
        heard = array("h", pcm)
        length = len(heard) / _RATE
        if not heard:
            return Utterance()
        heard.frombytes(bytes(2 * max(0, _LEAST - len(heard))))
        stream = self._recognizer.create_stream()
        stream.accept_waveform(_RATE, array("f", (sample / 32768 for sample in heard)))
        self._recognizer.decode_stream(stream)
        result = stream.result
        if "times" not in self.offer.features:
            return Utterance(words=tuple(Word(text=found[0]) for found in _WORD.finditer(result.text)))
        logs = result.ys_log_probs if "confidences" in self.offer.features else None
        return Utterance(words=tuple(_words(result.tokens, result.timestamps, result.durations, logs, length)))


def _described(place: Path) -> _Description:
    try:
        with open(directory.file(place, "model.toml"), "rb") as file:  # noqa: PTH123 - it is a path as text
            return msgspec.convert(tomllib.load(file), _Description)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(f"model.toml: {error}") from None


def _loaded(library: Any, described: _Description, place: Path) -> Any:
    """Return the library's recognizer, by its own function `from_…` for this type."""
    make = getattr(library, f"from_{described.type}", None)
    if make is None:
        types = sorted(name.removeprefix("from_") for name in dir(library) if name.startswith("from_"))
        raise ValueError(f"model.toml: type must be one of {', '.join(types)}")
    arguments: dict[str, Any] = {
        **_spoken(described, inspect.signature(make).parameters),
        **described.options,
        **{name: directory.file(place, path) for name, path in described.files.items()},
    }
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"model.toml: {described.type}: {error}") from None
    try:
        return make(**arguments)
    except Exception as error:  # noqa: BLE001 - whatever the library says, it is for the operator
        raise ValueError(f"the model cannot be loaded: {error}") from None


def _spoken(described: _Description, parameters: Any) -> dict[str, str]:
    """Return the arguments that tell a model of many languages which one is spoken, where there is but one."""
    codes = {locale.partition("-")[0] for locale in described.languages}
    names = [name for name in ("language", "src_lang", "tgt_lang") if name in parameters]
    if len(codes) == 1:
        return dict.fromkeys(names, codes.pop())
    if "src_lang" in names:
        raise ValueError(f"model.toml: languages: a model of type {described.type} serves one language at a time")
    return dict.fromkeys(names, "")  # the model finds out by itself


def _features(described: _Description) -> Iterator[Feature]:
    if described.punctuation:
        yield "punctuation"
    timed = described.type in {"transducer", "sense_voice"} or described.type.endswith("_ctc")
    if timed or described.options.get("enable_token_timestamps"):
        yield "times"
    if described.type == "transducer":
        yield "confidences"


def _words(
    tokens: Sequence[str],
    times: Sequence[float],
    durations: Sequence[float],
    logs: Sequence[float] | None,
    length: float,
) -> Iterator[Word]:
    """Join tokens to words. Kana and ideographs, which are written without blanks, are words by themselves."""
    text, owner = _spelled(tokens)
    found = [(match[0], owner[match.start()], owner[match.end() - 1]) for match in _WORD.finditer(text)]
    for (word, first, last), following in itertools.zip_longest(found, found[1:]):
        ends = times[last] + (durations[last] if durations else _TOKEN)
        if following:
            ends = min(ends, times[following[1]])
        yield Word(
            text=word,
            start=round(min(times[first], length), 3),
            end=round(min(ends, length), 3),
            confidence=_probability(logs[first : last + 1]) if logs else None,
        )


def _spelled(tokens: Sequence[str]) -> tuple[str, list[int]]:
    """Return the text of tokens, and for each of its characters the token that it comes from."""
    text, owner = "", []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for at, token in enumerate(tokens):
        byte = _BYTE.fullmatch(token)  # of a character for which the model has no token
        piece = decoder.decode(bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode())
        text += piece
        owner += [at] * len(piece)
    return text, owner


def _probability(logs: Sequence[float]) -> float:
    """Return the geometric mean of the tokens' probabilities."""
    return min(1.0, math.exp(sum(logs) / len(logs)))
