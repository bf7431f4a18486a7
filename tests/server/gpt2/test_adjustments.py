from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.gpt2.adjustments import Adjustments, adjust

VOCABULARY, CAPACITY = 200, 64


def random_logits(rows: int) -> Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(1)) * 4


def adjusted(logits: Tensor, *adjustments: Adjustments) -> Tensor:
    result = logits.clone()
    adjust(result, range(len(adjustments)), adjustments)
    return result


def reference(logits: Tensor, ids: list[int], sampling: Sampling) -> Tensor:
    """What transformers' processors make of one row, in our order."""
    processors: Any = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.logit_bias:
        biases: Any = [[[id_], bias] for id_, bias in sampling.logit_bias.items()]
        processors.append(SequenceBiasLogitsProcessor(biases))
    result: Tensor = processors(torch.tensor([ids]), logits[None])
    return result[0]


@pytest.mark.parametrize("penalty", [0.5, 1.3, 2.0])
def test_repetition_penalty_over_prompt_and_output_is_that_of_transformers(penalty: float) -> None:
    sampling = Sampling(repetition_penalty=penalty)
    adjustments = Adjustments(sampling, [5, 9, 5, 0], CAPACITY)
    adjustments.count(0, [7, 9, 199])
    logits = random_logits(1)

    result = adjusted(logits, adjustments)

    assert torch.equal(result[0], reference(logits[0], [5, 9, 5, 0, 7, 9, 199], sampling))


def test_bias_on_single_tokens_is_that_of_transformers() -> None:
    sampling = Sampling(logit_bias={3: 5.5, 198: -100.0, 7: 0.25})
    logits = random_logits(1)

    result = adjusted(logits, Adjustments(sampling, [3, 4], CAPACITY))

    assert torch.equal(result[0], reference(logits[0], [3, 4], sampling))


def test_penalty_comes_before_bias() -> None:
    sampling = Sampling(repetition_penalty=1.5, logit_bias={3: 5.5, 4: -2.0})
    logits = random_logits(1)

    result = adjusted(logits, Adjustments(sampling, [3, 8], CAPACITY))

    assert torch.equal(result[0], reference(logits[0], [3, 8], sampling))


def test_presence_and_frequency_count_the_output_and_not_the_prompt() -> None:
    adjustments = Adjustments(Sampling(presence_penalty=0.5, frequency_penalty=0.25), [1, 2, 2], CAPACITY)
    adjustments.count(0, [2])
    adjustments.count(1, [6, 6, 6])

    result = adjusted(torch.zeros(1, VOCABULARY), adjustments)

    expected = torch.zeros(VOCABULARY)
    expected[2] = -0.5 - 0.25
    expected[6] = -0.5 - 3 * 0.25
    assert torch.equal(result[0], expected)


def test_all_adjustments_together_follow_the_order_of_the_fields() -> None:
    sampling = Sampling(repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25, logit_bias={4: 1.0})
    adjustments = Adjustments(sampling, [4], CAPACITY)
    adjustments.count(0, [4, 4])
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 4] = 3.0

    assert adjusted(logits, adjustments)[0, 4] == 3.0 / 2 - 0.5 - 2 * 0.25 + 1.0


@pytest.mark.parametrize(
    "sampling",
    [Sampling(repetition_penalty=1.5), Sampling(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={4: 1.0})],
    ids=str,
)
def test_output_that_is_taken_back_leaves_no_trace(sampling: Sampling) -> None:
    changed, plain = (Adjustments(sampling, [1, 2], CAPACITY) for _ in range(2))
    changed.count(0, [2, 6, 7, 6])
    logits = random_logits(1)

    changed.count(1, [8, 6])
    plain.count(0, [2, 8, 6])

    assert torch.equal(adjusted(logits, changed), adjusted(logits, plain))


def test_output_that_is_taken_back_again_and_again_takes_no_more_room() -> None:
    sampling = Sampling(repetition_penalty=1.3, logit_bias={2: 0.0, 3: 1.0})
    adjustments, plain = (Adjustments(sampling, [5, 9], CAPACITY) for _ in range(2))
    kept = list[int]()

    for guess in range(10, VOCABULARY, 3):  # as a draft model, whose guesses are fed before they are known to be wrong
        adjustments.count(len(kept), [2, guess, guess + 1, 5])
        kept += [2, 9, 3][: len(kept) < 30]
    adjustments.count(0, kept)
    plain.count(0, kept)

    logits = random_logits(1)
    assert len(adjustments) == len(plain)
    assert torch.equal(adjusted(logits, adjustments), adjusted(logits, plain))


def test_what_would_be_after_further_output_is_told_without_noting_it() -> None:
    sampling = Sampling(repetition_penalty=1.5, frequency_penalty=0.25)
    asked, counted, untouched = (Adjustments(sampling, [1, 2], CAPACITY) for _ in range(3))
    for adjustments in (asked, counted, untouched):
        adjustments.count(0, [2, 6])
    logits = random_logits(1)

    after = asked.after([6, 9])
    counted.count(2, [6, 9])

    assert torch.equal(adjusted(logits, after), adjusted(logits, counted))
    assert torch.equal(adjusted(logits, asked), adjusted(logits, untouched))


def test_rows_do_not_touch_each_other_whatever_their_lengths() -> None:
    logits = random_logits(4)
    many = Adjustments(Sampling(repetition_penalty=1.2), list(range(40)), CAPACITY)
    one = Adjustments(Sampling(logit_bias={0: 1.0}), [], CAPACITY)
    none = Adjustments(Sampling(presence_penalty=1.0), [1, 2], CAPACITY)

    together = logits.clone()
    adjust(together, [0, 1, 3], [many, one, none])

    assert torch.equal(together[0], adjusted(logits[:1], many)[0])
    assert torch.equal(together[1], adjusted(logits[1:2], one)[0])
    assert torch.equal(together[2:], logits[2:])


def test_sequence_of_a_whole_context_with_many_biases_fits() -> None:
    biases = dict.fromkeys(range(100, 180), 1.0)
    adjustments = Adjustments(Sampling(repetition_penalty=1.1, logit_bias=biases), range(63), CAPACITY)
    adjustments.count(0, [63])

    assert len(adjustments) == CAPACITY + len(biases)


@pytest.mark.parametrize(
    ("sampling", "needed"),
    [
        (Sampling(), False),
        (Sampling(temperature=0.5, top_k=3, top_p=0.5, min_p=0.1, typical_p=0.5), False),
        (Sampling(repetition_penalty=1.1), True),
        (Sampling(presence_penalty=-0.1), True),
        (Sampling(frequency_penalty=0.1), True),
        (Sampling(logit_bias={1: 1.0}), True),
    ],
)
def test_adjustments_are_kept_only_where_they_change_something(sampling: Sampling, needed: bool) -> None:
    assert Adjustments.are_needed(sampling) is needed
