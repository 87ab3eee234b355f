"""Models of a few kilobytes for the engines that need one, made here: what they hear is fixed, how they run is real.

Real models have weights that were learnt; these have weights that were written down. They are loaded and run by the
same libraries in the same way.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

Floats = NDArray[np.float32]

_BANDS = 80
_LOW, _HIGH = slice(5, 20), slice(50, 65)
"""Bands of the spectrum, of those that the libraries make features of: about 200 to 700 Hz, 2500 to 4500 Hz."""

_LOUDER = 2.0
"""How much more of one than of the other is a word, as a logarithm."""


def ctc(directory: Path) -> Path:
    """Make a model for sherpa-onnx that hears "low" in low sounds, "high" in high ones, and nothing in silence."""
    nodes = [helper.make_node("Transpose", ["audio_signal"], ["frames"], perm=[0, 2, 1]), *_hearing("frames", "sums")]
    nodes.append(helper.make_node("LogSoftmax", ["sums"], ["logprobs"], axis=-1))
    _save(
        directory / "model.onnx",
        nodes,
        [_tensor("audio_signal", "N", _BANDS, "T"), _tensor("length", "N", kind=TensorProto.INT64)],
        [_tensor("logprobs", "N", "T", 3)],
        _weights(blank=2),
        vocab_size=2,
        subsampling_factor=1,
        normalize_type="",
        model_type="EncDecCTCModelBPE",
        is_giga_am=0,
    )
    (directory / "tokens.txt").write_text("\u2581low 0\n\u2581high 1\n<blk> 2\n")
    (directory / "model.toml").write_text(
        'type = "nemo_ctc"\nlanguages = ["en-US", "en-GB"]\n\n[files]\nmodel = "model.onnx"\ntokens = "tokens.txt"\n'
    )
    return directory


def transducer(directory: Path) -> Path:
    """Make a model for sherpa-onnx that hears the same with a probability; a word twice in a row it hears once."""
    every = {"begin": [0], "end": [1 << 30], "time": [1], "step": [4]}  # the library takes it that every 4th is kept
    last = {"begin": [1], "end": [2], "token": [1]}
    unlike = np.diag(np.array([0, -100, -100], np.float32))
    _save(
        directory / "encoder.onnx",
        [
            helper.make_node("Slice", ["x", *every], ["frames"]),
            *_hearing("frames", "encoder_out"),
            helper.make_node("Div", ["x_lens", "step"], ["encoder_out_lens"]),
        ],
        [_tensor("x", "N", "T", _BANDS), _tensor("x_lens", "N", kind=TensorProto.INT64)],
        [_tensor("encoder_out", "N", "T2", 3), _tensor("encoder_out_lens", "N", kind=TensorProto.INT64)],
        [*_weights(blank=0), *_constants(every)],
        model_type="zipformer2",
        version=1,
    )
    _save(
        directory / "decoder.onnx",
        [
            helper.make_node("Slice", ["y", *last], ["latest"]),
            helper.make_node("Gather", ["unlike", "latest"], ["gathered"]),
            helper.make_node("Squeeze", ["gathered", "token"], ["decoder_out"]),
        ],
        [_tensor("y", "N", 2, kind=TensorProto.INT64)],
        [_tensor("decoder_out", "N", 3)],
        [numpy_helper.from_array(unlike, "unlike"), *_constants(last)],
        vocab_size=3,
        context_size=2,
    )
    _save(
        directory / "joiner.onnx",
        [helper.make_node("Add", ["encoder_out", "decoder_out"], ["logit"])],
        [_tensor("encoder_out", "N", 3), _tensor("decoder_out", "N", 3)],
        [_tensor("logit", "N", 3)],
        [],
        joiner_dim=3,
    )
    (directory / "tokens.txt").write_text("<blk> 0\n\u2581low 1\n\u2581high 2\n")
    (directory / "model.toml").write_text(
        'type = "transducer"\nlanguages = ["de-DE"]\n\n[files]\ntokens = "tokens.txt"\n'
        'encoder = "encoder.onnx"\ndecoder = "decoder.onnx"\njoiner = "joiner.onnx"\n'
    )
    return directory


def _hearing(features: str, sums: str) -> list[onnx.NodeProto]:
    """Return what turns the features of each moment into how much each token fits."""
    return [
        helper.make_node("MatMul", [features, "weights"], ["products"]),
        helper.make_node("Add", ["products", "bias"], [sums]),
    ]


def _weights(*, blank: int) -> list[onnx.TensorProto]:
    low, high = (token for token in range(3) if token != blank)
    weights, bias = np.zeros((_BANDS, 3), np.float32), np.zeros(3, np.float32)
    weights[_LOW, low] = weights[_HIGH, high] = 1 / 15
    weights[_HIGH, low] = weights[_LOW, high] = -1 / 15
    bias[blank] = _LOUDER
    return [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]


def _constants(named: Mapping[str, Sequence[int]]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in named.items()]


def _tensor(name: str, *shape: str | int, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    takes: list[onnx.ValueInfoProto],
    gives: list[onnx.ValueInfoProto],
    holds: list[onnx.TensorProto],
    **says: str | int,
) -> None:
    graph = helper.make_graph(nodes, path.stem, takes, gives, holds)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {name: str(value) for name, value in says.items()})
    onnx.save(model, path)


_WIDTH = 16
_SAID = ("\u0120Hello", ",", "\u0120wor", "ld", ".")
"""What the Whisper model writes, in the tokens of its kind: a blank is written as \u0120."""


def whisper(directory: Path, languages: Sequence[str] = ("en", "de", "ja")) -> Path:
    """Make a model for faster-whisper that hears "Hello, world." in everything, a token in each fifth of a second.

    Without languages it is one of those for English only.
    """
    # The empty token is how the library tells models of many languages from those of one.
    plain = [*dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *_SAID]), *([""] if languages else [])]
    marks = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{language}|>" for language in languages)]
    marks += [
        f"<|{name}|>" for name in ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    ]
    tokens = plain + marks
    tokenizer = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(plain)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(marks)
    tokenizer.save(str(directory / "tokenizer.json"))
    spec = ctranslate2.specs.WhisperSpec(1, 2, 1, 2)
    _fill(spec)
    steps = [*_SAID, "<|endoftext|>"]
    prompt = 4 if languages else 2
    # Step by step, the position alone says what comes next, and where in the audio it was.
    spec.decoder.position_encodings.encodings = _each(448, lambda at: min(max(at - prompt + 1, 0), len(steps) - 1))
    spec.encoder.position_encodings.encodings = _each(1500, lambda at: min(at // 10, _WIDTH // 2 - 1))
    spec.decoder.embeddings.weight = np.zeros((len(tokens), _WIDTH), np.float32)
    spec.decoder.projection.weight = np.zeros((len(tokens), _WIDTH), np.float32)
    for at, token in enumerate(steps):
        spec.decoder.projection.weight[tokens.index(token), at] = 3
    same = 5 * np.eye(_WIDTH, dtype=np.float32)
    attention = spec.decoder.layer[0].attention
    attention.linear[0].weight = same
    attention.linear[1].weight = np.vstack([same, np.zeros_like(same)])
    spec.config.alignment_heads = [(0, 0)]
    spec.config.suppress_ids = spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [tokens.index(f"<|{language}|>") for language in languages]
    spec.register_vocabulary(tokens)
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(directory))
    return directory


def _each(count: int, which: Callable[[int], int]) -> Floats:
    table = np.zeros((count, _WIDTH), np.float32)
    for at in range(count):
        table[at, which(at)] = 1
    return table


def _fill(spec: Any) -> None:
    """Give every part weights with which it changes nothing."""

    def linear(part: Any, gives: int, takes: int) -> None:
        part.weight, part.bias = np.zeros((gives, takes), np.float32), np.zeros(gives, np.float32)

    def norm(part: Any) -> None:
        part.gamma, part.beta = np.ones(_WIDTH, np.float32), np.zeros(_WIDTH, np.float32)

    for convolution, takes in ((spec.encoder.conv1, _BANDS), (spec.encoder.conv2, _WIDTH)):
        convolution.weight = np.zeros((_WIDTH, takes, 3), np.float32)
        convolution.bias = np.zeros(_WIDTH, np.float32)
    attention = spec.decoder.layer[0].attention
    norm(attention.layer_norm)
    for part, parts in zip(attention.linear, (1, 2, 1), strict=True):
        linear(part, parts * _WIDTH, _WIDTH)
    for half in (spec.encoder, spec.decoder):
        norm(half.layer_norm)
        norm(half.layer[0].ffn.layer_norm)
        norm(half.layer[0].self_attention.layer_norm)
        linear(half.layer[0].self_attention.linear[0], 3 * _WIDTH, _WIDTH)
        linear(half.layer[0].self_attention.linear[1], _WIDTH, _WIDTH)
        linear(half.layer[0].ffn.linear_0, 2 * _WIDTH, _WIDTH)
        linear(half.layer[0].ffn.linear_1, _WIDTH, 2 * _WIDTH)
