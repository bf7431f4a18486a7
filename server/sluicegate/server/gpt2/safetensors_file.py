"""Read a safetensors file once, front to back, hashing the very bytes that become tensors.

The format (github.com/huggingface/safetensors, README "Format"): 8 bytes little-endian header length, a
JSON header {name: {dtype, shape, data_offsets}}, then the tensors' bytes without holes. The library of that
name maps the file into memory, so what was hashed and what is used could differ if somebody writes to the
file in between.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from sluicegate.server.engine.errors import ModelLoadError

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


class Digest(Protocol):
    """What `hashlib.sha256()` returns."""

    def update(self, data: bytes | memoryview, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the header; `begin` and `end` are byte offsets into the data section."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_tensors(path: Path, digest: Digest) -> Iterator[tuple[Entry, Tensor]]:
    """Each entry with its bytes (uint8 [n], owned by the caller), in file order.

    When the iterator is exhausted, every byte of the file has passed through `digest`, once and in order.
    Raises ModelLoadError for a file that is missing, truncated, too long or not safetensors.
    """
    try:
        with path.open("rb") as file:
            for entry in _read_header(path, file, digest):
                content = np.empty(entry.end - entry.begin, dtype=np.uint8)
                if len(content) and file.readinto(content.data) != len(content):
                    raise ModelLoadError(f"{path} ended inside {entry.name}; it was changed while it was read")
                digest.update(content.data)
                yield entry, torch.from_numpy(content)
    except FileNotFoundError:
        raise ModelLoadError(f"{path} is missing; the directory must hold the whole checkpoint") from None
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error


def _read_header(path: Path, file: BinaryIO, digest: Digest) -> list[Entry]:
    file_bytes = file.seek(0, 2)
    file.seek(0)
    prefix = file.read(8)
    header_bytes = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or header_bytes > min(MAX_HEADER_BYTES, file_bytes - 8):
        raise ModelLoadError(f"{path} is truncated or no safetensors file ({file_bytes} bytes); download it again")
    header = file.read(header_bytes)
    digest.update(prefix)
    digest.update(header)
    try:
        raw = json.loads(header, object_pairs_hook=_refuse_duplicates)
        entries = sorted(
            (_entry(name, value) for name, value in raw.items() if name != "__metadata__"),
            key=lambda entry: (entry.begin, entry.end),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelLoadError(f"{path} has a damaged safetensors header ({error}); download it again") from error
    _check_layout(path, entries, file_bytes - 8 - header_bytes)
    return entries


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")
    return dict(pairs)


def _entry(name: str, raw: dict[str, object]) -> Entry:
    dtype, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ValueError(f"{name} has the unknown dtype {dtype!r}")
    begin, end = _naturals(offsets)
    entry = Entry(name, dtype, _naturals(shape), begin, end)
    if entry.end - entry.begin != prod(entry.shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{name} has other data_offsets than its shape and dtype need")
    return entry


def _naturals(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= sys.maxsize for item in value):
        raise ValueError(f"{value!r} is no list of sizes")
    return tuple(value)


def _check_layout(path: Path, entries: list[Entry], data_bytes: int) -> None:
    expected = 0
    for entry in entries:
        if entry.begin != expected:
            raise ModelLoadError(f"{path} has a hole or an overlap before {entry.name}; download it again")
        expected = entry.end
    if expected != data_bytes:
        state = "truncated" if data_bytes < expected else "too long"
        raise ModelLoadError(
            f"{path} is {state}: its header describes {expected} bytes of tensors, {data_bytes} are there; "
            "download it again"
        )
