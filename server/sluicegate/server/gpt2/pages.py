"""Memory in huge pages, for what every step reads from end to end.

With pages of 4 KiB, looking addresses up costs as much as reading what is there: on a virtual machine, reads of weights
ran at half the speed that they have with pages of 2 MiB.
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress

import torch
from torch import Tensor

HUGE_PAGE = 2 << 20
CACHE_LINE = 64


class Arena:
    """Zeros to be handed out piece by piece. Lives as long as any of its pieces."""

    def __init__(self, nbytes: int) -> None:
        """Raises MemoryError. The system hands pages over, zeroed, when they are first written to."""
        size = -(-max(nbytes, 1) // HUGE_PAGE) * HUGE_PAGE
        try:
            self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"can't allocate memory: {size} bytes") from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without huge pages
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._whole = torch.frombuffer(self._memory, dtype=torch.uint8)
        self._used = 0

    def take(self, count: int, dtype: torch.dtype) -> Tensor:
        """The next `count` numbers, one dimension, beginning on a cache line. There must be room."""
        end = self._used + count * dtype.itemsize
        assert end <= len(self._whole), "the arena is too small"
        piece = self._whole[self._used : end].view(dtype)
        self._used = _aligned(end)
        return piece


def _aligned(nbytes: int) -> int:
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


def arena_bytes(counts: list[int], dtype: torch.dtype) -> int:
    """What an arena needs for pieces of so many numbers."""
    return sum(_aligned(count * dtype.itemsize) for count in counts)


def return_freed() -> None:
    """Give the system back what was freed, where the C library can (glibc).

    It keeps pieces of up to 32 MiB for later, as most weights are: a model would take twice its memory while weights
    go from where they were read to where they are used, and keep it.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
