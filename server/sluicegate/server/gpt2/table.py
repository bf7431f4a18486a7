"""A structured array as tensors: one for each field, all over the same bytes, so that rows travel in one copy."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TORCH_TYPES = {
    "f8": torch.float64,
    "f4": torch.float32,
    "i8": torch.int64,
    "u8": torch.int64,  # the same 64 bits
    "i4": torch.int32,
    "u4": torch.int32,
}


class Table:
    """Rows of a numpy dtype on a device. The fields of a field that is itself structured stand beside the others.

    Its row must be whole words of eight bytes, and each field be aligned to its own size in it.
    """

    def __init__(self, dtype: np.dtype[np.void], data: Tensor) -> None:
        """`data`: uint8 [rows, dtype.itemsize], contiguous; shared."""
        self.dtype = dtype
        self.data = data
        self._fields = {
            name: data.view(TORCH_TYPES[kind])[:, offset // int(kind[1:])] for name, kind, offset in _fields(dtype)
        }

    @classmethod
    def empty(cls, dtype: np.dtype[np.void], rows: int, device: torch.device) -> Table:
        """All zeros."""
        return cls(dtype, torch.zeros(rows, dtype.itemsize, dtype=torch.uint8, device=device))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, field: str) -> Tensor:
        """One field of all rows: a view, [rows]."""
        return self._fields[field]

    def rows(self, first: int, last: int) -> Table:
        """Some of the rows: a view."""
        return Table(self.dtype, self.data[first:last])


def as_bytes(rows: NDArray[np.void]) -> NDArray[np.uint8]:
    """Rows of a structured array as a Table has them: uint8 [rows, itemsize]."""
    return rows.view(np.uint8).reshape(len(rows), rows.dtype.itemsize)


def _fields(dtype: np.dtype[np.void], start: int = 0) -> list[tuple[str, str, int]]:
    """Name, kind and offset of each plain field."""
    found: list[tuple[str, str, int]] = []
    assert dtype.fields is not None
    for name, (field, offset, *_) in dtype.fields.items():
        if field.fields is None:
            found.append((name, field.str[1:], start + offset))
        else:
            found += _fields(field, start + offset)
    return found
