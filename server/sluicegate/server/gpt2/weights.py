"""A checkpoint's weights: found, read, checked against config and digest. Nothing is ever unpickled.

The digest of a checkpoint (`weights_sha256` in a policy):
- one file: the SHA-256 of model.safetensors, as `sha256sum` prints it;
- shards: the SHA-256 over one line `name  digest\\n` for each shard, sorted by name: what
  `sha256sum model-*.safetensors | awk '{print $2"  "$1}' | sort | sha256sum` prints.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.gpt2.config import Gpt2Config, read_json, weight_shapes
from sluicegate.server.gpt2.safetensors_file import Entry, read_tensors

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_INDEX_BYTES = 16 << 20
SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# The causal mask, which older versions of transformers saved with the weights.
MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
PROBLEMS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Weights:
    """Named and shaped as in `weight_shapes`; linears lie transposed in memory, as F.linear wants them.

    Who uses them may take them out of the dictionary, so that they are not kept twice.
    """

    tensors: dict[str, Tensor]
    sha256: str


def load_weights(
    directory: Path, config: Gpt2Config, dtype: torch.dtype, device: torch.device, expected_sha256: str | None
) -> Weights:
    """Read every weight of the checkpoint, converted to `dtype` on `device`.

    What is hashed is what is used: each byte is read once. Raises ModelLoadError if a file is missing or
    damaged, the digest is not the expected one, a weight is missing, unexpected, misshapen or not finite.
    """
    reader = _Reader(config, dtype, device)
    shards = _shards(directory)
    digests = {name: reader.read(directory / name, names) for name, names in shards.items()}
    sha256 = digests[SINGLE_FILE] if SINGLE_FILE in digests else _sha256_of_shards(digests)
    if expected_sha256 is not None and sha256 != expected_sha256.lower():
        raise ModelLoadError(
            f"{directory}: the weights' sha256 is {sha256}, but {expected_sha256.lower()} is pinned; "
            "restore the files, or pin the new digest if the change is meant"
        )
    return Weights(reader.finish(directory), sha256)


def _shards(directory: Path) -> dict[str, frozenset[str] | None]:
    """File names in sorted order, each with the tensors that it must hold (None: not said)."""
    if not directory.is_dir():
        raise ModelLoadError(f"{directory} is no directory; give the path of a local checkpoint")
    if (directory / SINGLE_FILE).exists():
        return {SINGLE_FILE: None}
    if (directory / INDEX_FILE).exists():
        return _read_index(directory / INDEX_FILE)
    if any(found for pattern in PICKLE_PATTERNS for found in directory.glob(pattern)):
        raise ModelLoadError(
            f"{directory} holds no {SINGLE_FILE}, only weights in a format that can carry code; "
            "convert them on a machine you can lose: "
            "GPT2LMHeadModel.from_pretrained(...).save_pretrained(..., safe_serialization=True)"
        )
    raise ModelLoadError(f"{directory} holds neither {SINGLE_FILE} nor {INDEX_FILE}; download the whole checkpoint")


def _read_index(path: Path) -> dict[str, frozenset[str] | None]:
    weight_map = read_json(path, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelLoadError(f"{path} has no weight_map; download it again")
    shards: dict[str, set[str]] = {}
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not SHARD_NAME.fullmatch(shard):
            raise ModelLoadError(f"{path} names the shard {shard!r}; a shard must be a plain *.safetensors file name")
        shards.setdefault(shard, set()).add(tensor)
    return {name: frozenset(shards[name]) for name in sorted(shards)}


def _sha256_of_shards(digests: Mapping[str, str]) -> str:
    lines = "".join(f"{name}  {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


class _Reader:
    """Collects weights file by file, and all that is wrong with them."""

    def __init__(self, config: Gpt2Config, dtype: torch.dtype, device: torch.device) -> None:
        self._tied = config.tied
        self._shapes = weight_shapes(config)
        self._dtype = dtype
        self._device = device
        self._tensors: dict[str, Tensor] = {}
        self._spare_head: Tensor | None = None
        self._problems: list[str] = []

    def read(self, path: Path, listed: frozenset[str] | None) -> str:
        """Take one file's weights; its SHA-256 in hex. `listed`: the tensors that the index says it holds."""
        digest = hashlib.sha256()
        found = set()
        for entry, content in read_tensors(path, digest):
            found.add(entry.name)
            self._take(entry, content)
        if listed is not None and found != listed:
            self._problems.append(f"{path.name} holds other tensors than the index lists")
        return digest.hexdigest()

    def finish(self, directory: Path) -> dict[str, Tensor]:
        """Every weight, or ModelLoadError with what is wrong."""
        missing = [name for name in self._shapes if name not in self._tensors]
        if missing:
            self._problems.append(f"missing: {_shorten(missing, ', ')}")
        elif self._spare_head is not None and not torch.equal(self._spare_head, self._tensors["wte.weight"]):
            self._problems.append("lm_head.weight differs from wte.weight although tie_word_embeddings is true")
        if self._problems:
            raise ModelLoadError(
                f"{directory}: the weights do not fit config.json: {_shorten(self._problems, '; ')}. "
                "Check that both come from the same checkpoint"
            )
        return self._tensors

    def _take(self, entry: Entry, content: Tensor) -> None:
        name = entry.name.removeprefix("transformer.")
        if MASK_BUFFER.fullmatch(name):
            return
        spare_head = name == "lm_head.weight" and self._tied
        shape = self._shapes.get("wte.weight" if spare_head else name)
        if shape is None:
            self._problems.append(f"unexpected: {name[:100]}")
        elif name in self._tensors:
            self._problems.append(f"{name} occurs twice")
        elif entry.dtype not in DTYPES:
            self._problems.append(f"{name} has dtype {entry.dtype}, supported: {', '.join(DTYPES)}")
        elif entry.shape != shape:
            self._problems.append(f"{name} has shape {list(entry.shape)}, expected {list(shape)}")
        else:
            tensor = self._convert(name, content.view(DTYPES[entry.dtype]).view(shape))
            if spare_head:
                self._spare_head = tensor
            else:
                self._tensors[name] = tensor

    def _convert(self, name: str, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self._device, self._dtype)
        if not torch.isfinite(tensor).all():
            self._problems.append(f"{name} has values that are not finite")
        if name.startswith("h.") and tensor.dim() == 2:
            return tensor.t().contiguous().t()
        return tensor


def _shorten(items: list[str], separator: str) -> str:
    more = len(items) - PROBLEMS_SHOWN
    return separator.join(items[:PROBLEMS_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")
