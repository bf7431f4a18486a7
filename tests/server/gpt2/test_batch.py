from __future__ import annotations

import torch

from sluicegate.server.engine.runner import Chunk
from sluicegate.server.gpt2.batch import Span, lay_out


def test_single_tokens_come_first_and_spans_keep_the_order_of_the_chunks() -> None:
    chunks = [
        Chunk(slot=2, start=4, ids=[10, 11, 12], samples=False),
        Chunk(slot=0, start=7, ids=[20], samples=True),
        Chunk(slot=1, start=0, ids=[30, 31], samples=True),
    ]

    batch = lay_out(chunks, torch.device("cpu"))

    assert batch.ids.tolist() == [20, 10, 11, 12, 30, 31]
    assert batch.positions.tolist() == [7, 4, 5, 6, 0, 1]
    assert batch.slots.tolist() == [0, 2, 2, 2, 1, 1]
    assert batch.spans == (Span(1, 4, 2, 4), Span(0, 1, 0, 7), Span(4, 6, 1, 0))
    assert [span.end for span in batch.spans] == [7, 8, 2]
    assert batch.decode_rows == 1
