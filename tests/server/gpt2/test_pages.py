from __future__ import annotations

import os
import platform

import pytest
import torch
from footprints import footprint

from sluicegate.server.gpt2.pages import CACHE_LINE, Arena, arena_bytes, return_freed

COUNTS = [1, 7, 64, 33]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pieces_are_zeros_on_cache_lines_of_their_own(dtype: torch.dtype) -> None:
    arena = Arena(arena_bytes(COUNTS, dtype))

    pieces = [arena.take(count, dtype) for count in COUNTS]

    assert [len(piece) for piece in pieces] == COUNTS
    assert not any(piece.any() for piece in pieces)
    assert {piece.data_ptr() % CACHE_LINE for piece in pieces} == {0}
    for number, piece in enumerate(pieces, start=1):
        piece.fill_(number)
    assert [{*piece.tolist()} for piece in pieces] == [{1}, {2}, {3}, {4}]


def test_piece_outlives_its_arena() -> None:
    piece = Arena(4).take(1, torch.float32)
    other = Arena(4).take(1, torch.float32)

    piece.fill_(3)

    assert (piece.item(), other.item()) == (3, 0)


def test_more_than_the_system_has_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="can't allocate memory"):
        Arena(1 << 60)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such call")
def test_what_was_freed_goes_back_to_the_system() -> None:
    piece, count = 8 << 20, 32
    torch.ones(2 * piece, dtype=torch.uint8)  # freed at once: from then on the C library keeps pieces of such a size
    pieces = [torch.ones(piece, dtype=torch.uint8) for _ in range(count)]
    last = torch.ones(piece, dtype=torch.uint8)
    del pieces
    before = footprint(os.getpid()).own_bytes

    return_freed()

    # Not all of it: other threads of this process may take memory meanwhile, and some pieces fill holes between others.
    assert before - footprint(os.getpid()).own_bytes > 0.5 * count * piece
    assert last.all()
