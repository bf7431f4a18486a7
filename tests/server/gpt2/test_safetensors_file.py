from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.gpt2.safetensors_file import read_tensors

PAIR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: object, data: bytes = b"") -> Path:
    """A file with this header (bytes: as they are; else as JSON) and this data section."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + data)
    return path


def read(path: Path) -> dict[str, Tensor]:
    return {entry.name: content for entry, content in read_tensors(path, hashlib.sha256())}


def test_tensors_are_those_that_the_reference_implementation_wrote(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(3, 4),
        "half": torch.randn(5).bfloat16(),
        "number": torch.tensor(7),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    digest = hashlib.sha256()

    entries = list(read_tensors(tmp_path / "a.safetensors", digest))

    assert {entry.name: entry.shape for entry, _ in entries} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }
    for entry, content in entries:
        assert content.numpy().tobytes() == tensors[entry.name].reshape(-1).view(torch.uint8).numpy().tobytes()
    assert digest.hexdigest() == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


def test_tensors_come_in_file_order_whatever_the_order_of_the_header(tmp_path: Path) -> None:
    header = {"last": PAIR | {"data_offsets": [8, 16]}, "first": PAIR}

    tensors = read(write(tmp_path / "a.safetensors", header, bytes(range(16))))

    assert {name: content.tolist() for name, content in tensors.items()} == {
        "first": list(range(8)),
        "last": list(range(8, 16)),
    }


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"PK\x03\x04" * 10, b"\xff" * 8 + b"{}", (3).to_bytes(8, "little")]
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)

    with pytest.raises(ModelLoadError, match="truncated or no safetensors file"):
        read(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[1]",
        b"\xff\xff",
        b"[" * 100_000,
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, '
        b'"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        {"a": 1},
        {"a": None},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": PAIR | {"dtype": "F8_E4M3"}},
        {"a": PAIR | {"dtype": ["F32"]}},
        {"a": PAIR | {"shape": [3]}},
        {"a": PAIR | {"shape": [-2]}},
        {"a": PAIR | {"shape": [True, 2]}},
        {"a": PAIR | {"shape": [2.0]}},
        {"a": PAIR | {"shape": "2"}},
        {"a": PAIR | {"shape": [2**63, 2]}},
        {"a": PAIR | {"data_offsets": [0]}},
        {"a": PAIR | {"data_offsets": [8, 0]}},
        {"a": PAIR | {"data_offsets": [-8, 0]}},
    ],
    ids=lambda header: str(header)[:60],
)
def test_damaged_header_is_refused(tmp_path: Path, header: object) -> None:
    path = write(tmp_path / "a.safetensors", header, bytes(8))

    with pytest.raises(ModelLoadError, match="damaged safetensors header"):
        read(path)


@pytest.mark.parametrize(
    ("header", "data_bytes", "problem"),
    [
        ({"a": PAIR}, 7, "is truncated: its header describes 8 bytes of tensors, 7 are there"),
        ({"a": PAIR}, 9, "is too long: its header describes 8 bytes of tensors, 9 are there"),
        ({}, 1, "is too long"),
        ({"a": PAIR | {"data_offsets": [8, 16]}}, 16, "has a hole or an overlap before a"),
        ({"a": PAIR, "b": PAIR | {"data_offsets": [12, 20]}}, 20, "has a hole or an overlap before b"),
        ({"a": PAIR, "b": PAIR | {"data_offsets": [4, 12]}}, 12, "has a hole or an overlap before b"),
        ({"a": PAIR, "b": PAIR}, 8, "has a hole or an overlap before b"),
    ],
    ids=["short", "long", "surplus", "hole at the start", "hole", "overlap", "twice the same bytes"],
)
def test_layout_with_holes_overlaps_or_another_length_is_refused(
    tmp_path: Path, header: dict[str, Any], data_bytes: int, problem: str
) -> None:
    path = write(tmp_path / "a.safetensors", header, bytes(data_bytes))

    with pytest.raises(ModelLoadError, match=problem):
        read(path)


def test_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    large = {"dtype": "U8", "shape": [1 << 20], "data_offsets": [0, 1 << 20]}
    after = {"dtype": "U8", "shape": [1 << 20], "data_offsets": [1 << 20, 2 << 20]}
    path = write(tmp_path / "a.safetensors", {"a": large, "b": after}, bytes(2 << 20))
    tensors = read_tensors(path, hashlib.sha256())
    next(tensors)

    with path.open("r+b") as file:
        file.truncate(1 << 20)

    with pytest.raises(ModelLoadError, match="ended inside b; it was changed while it was read"):
        next(tensors)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"a\.safetensors is missing"):
        read(tmp_path / "a.safetensors")


def test_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be read"):
        read(tmp_path)
