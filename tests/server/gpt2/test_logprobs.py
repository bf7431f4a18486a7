from __future__ import annotations

import pytest
import torch

from sluicegate.server.gpt2.logprobs import log_probabilities


def test_log_probabilities_are_those_of_log_softmax() -> None:
    logits = torch.randn(20, 5000, generator=torch.Generator().manual_seed(1)) * 5
    ids = torch.arange(20) * 7
    expected = logits.double().log_softmax(-1)

    chosen, top = log_probabilities(logits, ids, 3)

    assert chosen == pytest.approx(expected.gather(-1, ids[:, None])[:, 0].tolist(), abs=1e-5)
    for alternatives, row in zip(top, expected, strict=True):
        values, columns = row.topk(3)
        assert [alternative.id for alternative in alternatives] == columns.tolist()
        assert [alternative.logprob for alternative in alternatives] == pytest.approx(values.tolist(), abs=1e-5)


def test_no_alternatives_are_empty_tuples() -> None:
    assert log_probabilities(torch.zeros(2, 4), torch.tensor([0, 1]), 0)[1] == [(), ()]


def test_more_alternatives_than_the_vocabulary_has_give_all_of_it() -> None:
    _, top = log_probabilities(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([0]), 20)

    assert [alternative.id for alternative in top[0]] == [2, 1, 0]
