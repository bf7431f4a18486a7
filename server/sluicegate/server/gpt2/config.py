"""The shape of a GPT-2 model, read from a checkpoint's config.json and strictly checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from sluicegate.server.engine.errors import ModelLoadError

MAX_CONFIG_BYTES = 1 << 20

# transformers' two names for the tanh approximation of GELU (Hendrycks and Gimpel 2016, section 2).
ACTIVATIONS = ("gelu_new", "gelu_pytorch_tanh")

# Options that change the network in ways this implementation does not follow, and the only value served: the
# default of transformers' GPT2Config.
FIXED_OPTIONS: Mapping[str, bool] = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "reorder_and_upcast_attn": False,
    "add_cross_attention": False,
}

# Wide enough for any GPT-2, narrow enough that a damaged or hostile file cannot ask for absurd memory.
BOUNDS: Mapping[str, tuple[int, int]] = {
    "n_layer": (1, 512),
    "n_head": (1, 512),
    "n_embd": (1, 32_768),
    "n_positions": (2, 65_536),
    "vocab_size": (2, 1_048_576),
}
MAX_INNER_WIDTH = 4 * 32_768


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    """Sizes of the network. `width`: n_embd; `inner_width`: the MLP's hidden; `epsilon`: LayerNorm's."""

    layers: int
    heads: int
    width: int
    inner_width: int
    context_length: int
    vocabulary_size: int
    epsilon: float = 1e-5
    tied: bool = True  # the LM head is the token embedding
    eos_token_id: int | None = None

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Number of weights; a tied LM head counts once."""
        return sum(prod(shape) for shape in weight_shapes(self).values())


def weight_shapes(config: Gpt2Config) -> dict[str, tuple[int, ...]]:
    """Each weight's name (without the prefix `transformer.`) and shape; linears are [in, out], as Conv1D."""
    width, inner = config.width, config.inner_width
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config.vocabulary_size, width),
        "wpe.weight": (config.context_length, width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    for layer in range(config.layers):
        for norm in ("ln_1", "ln_2"):
            shapes[f"h.{layer}.{norm}.weight"] = shapes[f"h.{layer}.{norm}.bias"] = (width,)
        for linear, size_in, size_out in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, inner),
            ("mlp.c_proj", inner, width),
        ):
            shapes[f"h.{layer}.{linear}.weight"] = (size_in, size_out)
            shapes[f"h.{layer}.{linear}.bias"] = (size_out,)
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocabulary_size, width)
    return shapes


def load_config(directory: Path) -> Gpt2Config:
    """Read `directory`/config.json. Raises ModelLoadError, listing all that is missing or unsupported."""
    path = directory / "config.json"
    raw = read_json(path, MAX_CONFIG_BYTES)
    problems: list[str] = []
    _check_options(raw, problems)
    sizes = {key: _size(raw, key, low, high, problems) for key, (low, high) in BOUNDS.items()}
    inner = 4 * sizes["n_embd"]
    if raw.get("n_inner") is not None:
        inner = _size(raw, "n_inner", 1, MAX_INNER_WIDTH, problems)
    if sizes["n_embd"] % sizes["n_head"]:
        problems.append(f"n_embd is {sizes['n_embd']}, which n_head ({sizes['n_head']}) does not divide")
    epsilon = _epsilon(raw, problems)
    eos = _eos_token_id(raw, sizes["vocab_size"], problems)
    if problems:
        raise ModelLoadError(f"{path} is not a GPT-2 that can be served: " + "; ".join(problems))
    return Gpt2Config(
        layers=sizes["n_layer"],
        heads=sizes["n_head"],
        width=sizes["n_embd"],
        inner_width=inner,
        context_length=sizes["n_positions"],
        vocabulary_size=sizes["vocab_size"],
        epsilon=epsilon,
        tied=bool(raw.get("tie_word_embeddings", True)),
        eos_token_id=eos,
    )


def read_json(path: Path, max_bytes: int) -> dict[str, object]:
    """A JSON object of at most `max_bytes` from disk. Raises ModelLoadError if there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ModelLoadError(f"{path} is missing; the directory must hold the whole checkpoint") from None
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise ModelLoadError(f"{path} is larger than {max_bytes} bytes, which no such file needs to be")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path} is not JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise ModelLoadError(f"{path} holds no JSON object; download it again")
    return value


def _check_options(raw: Mapping[str, object], problems: list[str]) -> None:
    if raw.get("model_type") != "gpt2":
        problems.append(f"model_type is {raw.get('model_type')!r}, not 'gpt2'")
    activation = raw.get("activation_function", ACTIVATIONS[0])
    if activation not in ACTIVATIONS:
        problems.append(f"activation_function is {activation!r}, supported: {', '.join(ACTIVATIONS)}")
    for key, supported in FIXED_OPTIONS.items():
        if raw.get(key, supported) is not supported:
            problems.append(f"{key} is {raw[key]!r}, supported: {supported}")
    if not isinstance(raw.get("tie_word_embeddings", True), bool):
        problems.append(f"tie_word_embeddings is {raw['tie_word_embeddings']!r}, not true or false")
    if raw.get("quantization_config") is not None:
        problems.append("quantization_config is set; only unquantised checkpoints are served")


def _size(raw: Mapping[str, object], key: str, low: int, high: int, problems: list[str]) -> int:
    value = raw.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    problems.append(f"{key} is {value!r}, not a whole number in {low}..{high}" if key in raw else f"{key} is missing")
    return low


def _epsilon(raw: Mapping[str, object], problems: list[str]) -> float:
    value = raw.get("layer_norm_epsilon", 1e-5)
    if isinstance(value, float) and 0 < value <= 0.1:
        return value
    problems.append(f"layer_norm_epsilon is {value!r}, not a number in (0, 0.1]")
    return 1e-5


def _eos_token_id(raw: Mapping[str, object], vocabulary_size: int, problems: list[str]) -> int | None:
    value = raw.get("eos_token_id")
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < vocabulary_size:
        return value
    problems.append(f"eos_token_id is {value!r}, not one token id below vocab_size")
    return None
