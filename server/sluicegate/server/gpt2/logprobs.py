"""Log-probabilities of given tokens and of the most likely ones."""

from __future__ import annotations

from torch import Tensor

from sluicegate.server.engine.messages import TokenLogprob

TopLogprobs = tuple[TokenLogprob, ...]


def log_probabilities(logits: Tensor, ids: Tensor, top: int) -> tuple[list[float], list[TopLogprobs]]:
    """log_softmax at `ids`, and the `top` most likely tokens, most likely first, for each row.

    `logits`: float32 [rows, vocabulary]; `ids`: int64 [rows]; `top`: 0 or more (empty tuples for 0).
    """
    total = logits.logsumexp(-1, keepdim=True)
    chosen: list[float] = (logits.gather(-1, ids[:, None]) - total)[:, 0].tolist()
    if not top:
        return chosen, [()] * len(chosen)
    values, columns = logits.topk(min(top, logits.shape[1]))
    pairs = zip(columns.tolist(), (values - total).tolist(), strict=True)
    return chosen, [tuple(map(TokenLogprob, *pair)) for pair in pairs]
