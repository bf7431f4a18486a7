from __future__ import annotations

import pytest
import torch

from sluicegate.server.gpt2.pages import CACHE_LINE, Arena, arena_bytes

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
