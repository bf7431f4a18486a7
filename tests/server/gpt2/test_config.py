from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.gpt2.config import MAX_CONFIG_BYTES, Gpt2Config, load_config, weight_shapes

SMALL: dict[str, Any] = {
    "model_type": "gpt2",
    "n_layer": 2,
    "n_head": 4,
    "n_embd": 64,
    "n_positions": 128,
    "vocab_size": 300,
}


def write(directory: Path, **changes: Any) -> Path:
    (directory / "config.json").write_text(json.dumps(SMALL | changes))
    return directory


def test_config_that_transformers_wrote_is_read(tmp_path: Path) -> None:
    GPT2Config(n_layer=3, n_head=2, n_embd=8, n_positions=16, vocab_size=50, eos_token_id=49).save_pretrained(tmp_path)

    assert load_config(tmp_path) == Gpt2Config(
        layers=3, heads=2, width=8, inner_width=32, context_length=16, vocabulary_size=50, eos_token_id=49
    )


def test_what_a_config_leaves_out_has_the_defaults_of_transformers(tmp_path: Path) -> None:
    config = load_config(write(tmp_path))

    assert config == Gpt2Config(
        layers=2, heads=4, width=64, inner_width=256, context_length=128, vocabulary_size=300, epsilon=1e-5, tied=True
    )


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"n_inner": 100}, "inner_width", 100),
        ({"n_inner": None}, "inner_width", 256),
        ({"layer_norm_epsilon": 1e-6}, "epsilon", 1e-6),
        ({"tie_word_embeddings": False}, "tied", False),
        ({"eos_token_id": 0}, "eos_token_id", 0),
        ({"eos_token_id": None}, "eos_token_id", None),
        ({"activation_function": "gelu_pytorch_tanh"}, "layers", 2),
        ({"attn_pdrop": 0.1, "some_new_key": [1]}, "layers", 2),
    ],
)
def test_served_options_are_read(tmp_path: Path, changes: dict[str, Any], field: str, value: object) -> None:
    assert getattr(load_config(write(tmp_path, **changes)), field) == value


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "llama"}, "model_type is 'llama', not 'gpt2'"),
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"activation_function": ["gelu_new"]}, "activation_function is ['gelu_new']"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False, supported: True"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True, supported: False"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn is True, supported: False"),
        ({"add_cross_attention": 0}, "add_cross_attention is 0, supported: False"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is set"),
        ({"n_layer": 0}, "n_layer is 0, not a whole number in 1..512"),
        ({"n_layer": 10**9}, "n_layer is 1000000000"),
        ({"n_layer": 2.0}, "n_layer is 2.0"),
        ({"n_layer": True}, "n_layer is True"),
        ({"n_layer": "2"}, "n_layer is '2'"),
        ({"n_layer": None}, "n_layer is None"),
        ({"n_head": 3}, "n_embd is 64, which n_head (3) does not divide"),
        ({"n_inner": 0}, "n_inner is 0"),
        ({"n_positions": 1}, "n_positions is 1"),
        ({"vocab_size": 2**31}, "vocab_size is 2147483648"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon is 0.0"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan"),
        ({"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon is '1e-5'"),
        ({"eos_token_id": 300}, "eos_token_id is 300"),
        ({"eos_token_id": -1}, "eos_token_id is -1"),
        ({"eos_token_id": [1, 2]}, "eos_token_id is [1, 2]"),
        ({"eos_token_id": True}, "eos_token_id is True"),
    ],
)
def test_unserved_option_is_named(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelLoadError) as refusal:
        load_config(write(tmp_path, **changes))

    assert problem in str(refusal.value)


@pytest.mark.parametrize("key", ["model_type", "n_layer", "n_head", "n_embd", "n_positions", "vocab_size"])
def test_missing_size_is_named_and_never_guessed(tmp_path: Path, key: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({name: value for name, value in SMALL.items() if name != key}))

    with pytest.raises(ModelLoadError, match=key):
        load_config(tmp_path)


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    write(tmp_path, model_type="bert", n_layer=-1, eos_token_id=-1)

    with pytest.raises(ModelLoadError, match=r"model_type.*; n_layer.*; eos_token_id"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "holds no JSON object"),
        (b"\xff\xfe\xfa", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": "' + b"a" * MAX_CONFIG_BYTES + b'"}', "is larger than 1048576 bytes"),
    ],
    ids=["cut off", "list", "not text", "nested", "huge"],
)
def test_damaged_file_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "config.json").write_bytes(content)

    with pytest.raises(ModelLoadError, match=problem):
        load_config(tmp_path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json is missing"):
        load_config(tmp_path)


def test_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()

    with pytest.raises(ModelLoadError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_weight_shapes_and_parameters_are_those_of_transformers(tied: bool) -> None:
    sizes: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16, "vocab_size": 50, "n_inner": 20}
    model: Any = GPT2LMHeadModel(GPT2Config(**sizes, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0))
    config = Gpt2Config(2, 2, 8, 20, 16, 50, tied=tied)

    expected = {
        name.removeprefix("transformer."): tuple(parameter.shape) for name, parameter in model.named_parameters()
    }

    assert weight_shapes(config) == expected
    assert config.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("layers", "heads", "width", "parameters"),
    [
        (12, 12, 768, 124_439_808),
        (24, 16, 1024, 354_823_168),
        (36, 20, 1280, 774_030_080),
        (48, 25, 1600, 1_557_611_200),
    ],
)
def test_the_four_real_models_have_their_known_number_of_parameters(
    layers: int, heads: int, width: int, parameters: int
) -> None:
    assert Gpt2Config(layers, heads, width, 4 * width, 1024, 50_257).parameters == parameters
