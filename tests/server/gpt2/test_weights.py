from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gpt2_reference import build_reference
from safetensors.torch import load_file, save_file
from torch import Tensor

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.gpt2.config import Gpt2Config, load_config, weight_shapes
from sluicegate.server.gpt2.weights import INDEX_FILE, SINGLE_FILE, Weights, load_weights

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16, "vocab_size": 50}
CPU = torch.device("cpu")

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers saves it."""
    directory = tmp_path_factory.mktemp("saved")
    build_reference(1, **SIZES).save_pretrained(directory)
    return directory


@pytest.fixture
def tensors(saved: Path) -> Tensors:
    return load_file(saved / SINGLE_FILE)


@pytest.fixture
def config(saved: Path) -> Gpt2Config:
    return load_config(saved)


def load(directory: Path, config: Gpt2Config, sha256: str | None = None, dtype: torch.dtype = torch.float32) -> Weights:
    return load_weights(directory, config, dtype, CPU, sha256)


def test_checkpoint_of_transformers_gives_its_weights(saved: Path, config: Gpt2Config, tensors: Tensors) -> None:
    weights = load(saved, config)

    assert {name: tuple(tensor.shape) for name, tensor in weights.tensors.items()} == weight_shapes(config)
    for name, tensor in weights.tensors.items():
        assert torch.equal(tensor, tensors[f"transformer.{name}"])


def test_names_without_prefix_and_stored_masks_are_taken_as_in_the_first_published_files(
    tmp_path: Path, config: Gpt2Config, tensors: Tensors
) -> None:
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    masks = {"h.0.attn.bias": torch.ones(1, 1, 16, 16).tril().bool(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    save_file(bare | masks, tmp_path / SINGLE_FILE)

    weights = load(tmp_path, config)

    assert set(weights.tensors) == set(weight_shapes(config))


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("served", [torch.float32, torch.bfloat16])
def test_weights_are_converted_from_what_is_stored_to_what_is_served(
    tmp_path: Path, config: Gpt2Config, tensors: Tensors, stored: torch.dtype, served: torch.dtype
) -> None:
    save_file({name: tensor.to(stored) for name, tensor in tensors.items()}, tmp_path / SINGLE_FILE)

    weights = load(tmp_path, config, dtype=served)

    expected = tensors["transformer.wte.weight"].to(stored).to(served)
    assert torch.equal(weights.tensors["wte.weight"], expected)


def test_linears_lie_in_memory_as_they_are_multiplied(saved: Path, config: Gpt2Config) -> None:
    weights = load(saved, config)

    assert weights.tensors["h.1.mlp.c_fc.weight"].t().is_contiguous()


# The LM head


def test_untied_head_is_read(tmp_path: Path) -> None:
    build_reference(2, **SIZES, tie_word_embeddings=False).save_pretrained(tmp_path)

    weights = load(tmp_path, load_config(tmp_path))

    assert not torch.equal(weights.tensors["lm_head.weight"], weights.tensors["wte.weight"])


def test_tied_head_that_is_stored_all_the_same_is_left_out(
    tmp_path: Path, config: Gpt2Config, tensors: Tensors
) -> None:
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}, tmp_path / SINGLE_FILE)

    assert "lm_head.weight" not in load(tmp_path, config).tensors


# What does not fit the config

Change = Callable[[Tensors], object]
WTE, FC = "transformer.wte.weight", "transformer.h.0.mlp.c_fc.weight"


def not_finite(value: float) -> Change:
    def change(tensors: Tensors) -> None:
        tensors[FC][3, 4] = value

    return change


MISFITS: dict[str, tuple[Change, str]] = {
    "missing": (lambda tensors: tensors.pop(FC), r"missing: h\.0\.mlp\.c_fc\.weight"),
    "unexpected": (lambda tensors: tensors.update(adapter=torch.zeros(1)), "unexpected: adapter"),
    "layer too many": (
        lambda tensors: tensors.update({"transformer.h.2.ln_1.weight": torch.ones(8)}),
        r"unexpected: h\.2\.ln_1\.weight",
    ),
    "twice": (
        lambda tensors: tensors.update({"wte.weight": tensors[WTE].clone()}),
        r"wte\.weight occurs twice",
    ),
    "transposed": (
        lambda tensors: tensors.update({FC: tensors[FC].t().contiguous()}),
        r"c_fc\.weight has shape \[32, 8\], expected \[8, 32\]",
    ),
    "other vocabulary": (
        lambda tensors: tensors.update({WTE: tensors[WTE][:49].clone()}),
        r"wte\.weight has shape \[49, 8\], expected \[50, 8\]",
    ),
    "integers": (
        lambda tensors: tensors.update({FC: tensors[FC].to(torch.int8)}),
        r"c_fc\.weight has dtype I8, supported: F32, F16, BF16",
    ),
    "doubles": (lambda tensors: tensors.update({FC: tensors[FC].double()}), r"c_fc\.weight has dtype F64"),
    "NaN": (not_finite(float("nan")), r"c_fc\.weight has values that are not finite"),
    "infinity": (not_finite(float("-inf")), r"c_fc\.weight has values that are not finite"),
    "head of its own": (
        lambda tensors: tensors.update({"lm_head.weight": tensors[WTE] + 1}),
        r"lm_head\.weight differs from wte\.weight although tie_word_embeddings is true",
    ),
    "head of another shape": (
        lambda tensors: tensors.update({"lm_head.weight": torch.zeros(51, 8)}),
        r"lm_head\.weight has shape \[51, 8\]",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_weights_that_do_not_fit_the_config_are_refused(
    tmp_path: Path, config: Gpt2Config, tensors: Tensors, name: str
) -> None:
    change, problem = MISFITS[name]
    change(tensors)
    save_file(tensors, tmp_path / SINGLE_FILE)

    with pytest.raises(ModelLoadError, match=problem):
        load(tmp_path, config)


def test_many_problems_are_listed_up_to_a_limit(tmp_path: Path, config: Gpt2Config) -> None:
    save_file({f"odd{number}": torch.zeros(1) for number in range(20)}, tmp_path / SINGLE_FILE)

    with pytest.raises(ModelLoadError, match=r"unexpected: odd0; .*; and 13 more"):
        load(tmp_path, config)


def test_value_that_overflows_in_the_served_dtype_is_refused(
    tmp_path: Path, config: Gpt2Config, tensors: Tensors
) -> None:
    tensors[FC][0, 0] = 3.4e38
    save_file(tensors, tmp_path / SINGLE_FILE)

    with pytest.raises(ModelLoadError, match="not finite"):
        load(tmp_path, config, dtype=torch.bfloat16)


# Digests


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_digest_is_that_of_the_file(saved: Path, config: Gpt2Config) -> None:
    assert load(saved, config).sha256 == sha256_of(saved / SINGLE_FILE)


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
def test_pinned_digest_is_accepted_in_any_case(saved: Path, config: Gpt2Config, spelling: Callable[[str], str]) -> None:
    pinned = spelling(sha256_of(saved / SINGLE_FILE))

    assert load(saved, config, pinned).sha256 == pinned.lower()


def test_one_changed_bit_is_another_digest(tmp_path: Path, saved: Path, config: Gpt2Config) -> None:
    content = bytearray((saved / SINGLE_FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / SINGLE_FILE).write_bytes(content)
    pinned = sha256_of(saved / SINGLE_FILE)

    with pytest.raises(ModelLoadError, match=f"but {pinned} is pinned; restore the files"):
        load(tmp_path, config, pinned)


# Shards


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A checkpoint that transformers saved in several files."""
    build_reference(1, **SIZES).save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    return tmp_path


def edit_index(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((directory / INDEX_FILE).read_text())
    change(index)
    (directory / INDEX_FILE).write_text(json.dumps(index))


def test_shards_give_the_weights_of_the_single_file(saved: Path, sharded: Path, config: Gpt2Config) -> None:
    whole, parts = load(saved, config).tensors, load(sharded, config).tensors

    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_digest_of_shards_is_that_of_a_checksum_list(sharded: Path, config: Gpt2Config) -> None:
    lines = "".join(f"{path.name}  {sha256_of(path)}\n" for path in sorted(sharded.glob("model-*.safetensors")))

    assert load(sharded, config).sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_missing_shard_is_refused(sharded: Path, config: Gpt2Config) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[0]
    shard.unlink()

    with pytest.raises(ModelLoadError, match=f"{shard.name} is missing"):
        load(sharded, config)


def test_shard_that_holds_other_tensors_than_the_index_lists_is_refused(sharded: Path, config: Gpt2Config) -> None:
    edit_index(sharded, lambda index: index["weight_map"].pop("transformer.ln_f.bias"))

    with pytest.raises(ModelLoadError, match="holds other tensors than the index lists"):
        load(sharded, config)


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin", "", ".safetensors", 7, None]
)
def test_index_that_names_anything_but_a_plain_file_is_refused(
    sharded: Path, config: Gpt2Config, shard: object
) -> None:
    edit_index(sharded, lambda index: index["weight_map"].update({"transformer.wte.weight": shard}))

    with pytest.raises(ModelLoadError, match=r"a shard must be a plain \*\.safetensors file name"):
        load(sharded, config)


@pytest.mark.parametrize("weight_map", [{}, [], None, "model.safetensors"])
def test_index_without_a_weight_map_is_refused(sharded: Path, config: Gpt2Config, weight_map: object) -> None:
    edit_index(sharded, lambda index: index.update(weight_map=weight_map))

    with pytest.raises(ModelLoadError, match="has no weight_map"):
        load(sharded, config)


# Directories


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "weights.pt", "tf_model.h5", "flax_model.msgpack"])
def test_weights_in_a_format_that_can_carry_code_are_refused_with_the_way_out(
    tmp_path: Path, config: Gpt2Config, name: str
) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n")

    with pytest.raises(ModelLoadError, match=r"format that can carry code.*safe_serialization=True"):
        load(tmp_path, config)


def test_empty_directory_is_refused(tmp_path: Path, config: Gpt2Config) -> None:
    with pytest.raises(ModelLoadError, match=r"holds neither model\.safetensors nor model\.safetensors\.index\.json"):
        load(tmp_path, config)


def test_directory_that_does_not_exist_is_refused(tmp_path: Path, config: Gpt2Config) -> None:
    with pytest.raises(ModelLoadError, match="is no directory"):
        load(tmp_path / "nowhere", config)
