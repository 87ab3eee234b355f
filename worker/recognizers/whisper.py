"""faster-whisper: Whisper models in the form of CTranslate2, in the directory that its converter makes.

Every segment is shorter than the window of 30 seconds that these models hear, so each is decoded once and as a whole,
without the text before it and without sampling: the same audio always gives the same words.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from retention.offer import Feature, Offer
from worker.recognizers import Utterance, Word, directory

_LOCALES = (
    *("ar-MS", "cs-CZ", "de-DE", "en-AU", "en-GB", "en-IN", "en-US", "en-WW"),
    *("es-AR", "es-CL", "es-CO", "es-ES", "es-LA", "es-MX", "es-PE", "fr-CA", "fr-FR"),
    *("hi-IN", "it-IT", "ja-JP", "ko-KR", "nl-BE", "nl-NL", "pt-BR", "sv-SE", "zh-CN"),
)
"""The locales that clients know (spec 1.8). The model hears the language in each of them."""

_RATE = 16000
_LEAST = _RATE
"""Samples: words of much less cannot be placed in time, so silence is added to that."""


class FasterWhisper:
    """Whichever of the locales the model was trained for, with capitals and punctuation."""

    features: ClassVar[frozenset[Feature]] = frozenset({"times", "confidences", "punctuation"})

    def __init__(self, model: Path | None) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is ever looked for on the network
        try:
            import faster_whisper  # noqa: PLC0415 - an extra, whose absence is told in a sentence
            import numpy as np  # noqa: PLC0415 - comes with it
        except ModuleNotFoundError:
            raise ModuleNotFoundError("its library is not installed: pip install 'volant[faster-whisper]'") from None
        place = directory.opened(model)
        for name in ("model.bin", "config.json", "tokenizer.json"):
            directory.file(place, name)
        try:
            self._model = faster_whisper.WhisperModel(
                str(place), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1, local_files_only=True
            )
        except Exception as error:  # noqa: BLE001 - whatever the library says, it is for the operator
            raise ValueError(f"the model cannot be loaded: {error}") from None
        if self._model.model.n_mels != len(self._model.feature_extractor.mel_filters):
            raise ValueError("recognizer_model: preprocessor_config.json is missing, or of another model")
        self._np = np
        self.offer = Offer(engine="faster-whisper", languages=self._languages(), features=self.features)

    def recognize(self, pcm: bytes, *, language: str, alternatives: int) -> Utterance:
        """See `Recognizer`. The library gives one reading."""
        del alternatives
        np = self._np
        heard = np.frombuffer(pcm, np.int16).astype(np.float32) / 32768
        if not len(heard):
            return Utterance()
        windows, _ = self._model.transcribe(
            np.pad(heard, (0, max(0, _LEAST - len(heard)))),
            language=_code(language),
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            word_timestamps=True,
        )
        # The rest of the window would be decoded once more, from the last word on: that makes up words out of silence.
        window = next(iter(windows), None)
        return Utterance(words=tuple(_words(window.words, len(heard) / _RATE)) if window else ())

    def _languages(self) -> tuple[str, ...]:
        known = {
            code
            for code in self._model.supported_languages
            if not self._model.model.is_multilingual or self._model.hf_tokenizer.token_to_id(f"<|{code}|>") is not None
        }
        languages = tuple(locale for locale in _LOCALES if _code(locale) in known)
        if not languages:
            raise ValueError("recognizer_model: the model has no language that clients could ask for")
        return languages


def _words(found: Iterable[Any], length: float) -> Iterator[Word]:
    """Yield the words of a window, within the segment: the window is longer."""
    now = 0.0
    for word in found:
        if text := " ".join(word.word.split()):
            start = min(max(float(word.start), now), length)
            now = min(max(float(word.end), start), length)
            yield Word(text=text, start=start, end=now, confidence=min(1.0, max(0.0, float(word.probability))))


def _code(locale: str) -> str:
    """Return the language of a locale, in Whisper's words."""
    return locale.partition("-")[0]
