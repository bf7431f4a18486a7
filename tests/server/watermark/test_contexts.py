"""A sequence's contexts: from its own tokens alone, and none of them marked twice."""

from __future__ import annotations

import torch
from watermarks import processor_of

from sluicegate.server.watermark.contexts import Contexts
from sluicegate.server.watermark.scheme import hash_context

PROMPT = [7, 8, 9, 10, 11]


def nexts(prompt: list[int], output: list[int]) -> list[int | None]:
    """The context of each output token, and of the one behind."""
    contexts = Contexts(prompt)
    found = [contexts.next]
    for place, id_ in enumerate(output):
        contexts.put(place, [id_])
        found.append(contexts.next)
    return found


def test_the_first_context_is_the_prompts_end() -> None:
    assert nexts(PROMPT, [1, 2]) == [
        hash_context([8, 9, 10, 11]),
        hash_context([9, 10, 11, 1]),
        hash_context([10, 11, 1, 2]),
    ]


def test_a_short_prompt_has_zeros_before_it() -> None:
    assert Contexts([5]).next == hash_context([0, 0, 0, 5])


def test_output_asked_for_in_pieces_has_the_contexts_of_output_in_one() -> None:
    output = [1, 2, 3, 4, 5, 6]

    whole = nexts(PROMPT, output)

    assert [Contexts(PROMPT + output[:length]).next for length in range(len(output) + 1)] == whole


def test_a_context_that_comes_again_is_marked_once() -> None:
    output = [1, 2, 3, 4, 5] * 3

    found = nexts(PROMPT, output)

    assert None not in found[:9]
    assert found[9:] == [None] * 7  # the context before it was 5 1 2 3 4's last four, as at place 4


def test_contexts_that_count_are_those_that_transformers_counts() -> None:
    output = torch.randint(0, 3, (300,), generator=torch.Generator().manual_seed(1))
    mask = processor_of(1).compute_context_repetition_mask(output[None])[0].tolist()

    # transformers reads the output alone: without its first four tokens as the prompt, it sees the same contexts.
    found = nexts(output[:4].tolist(), output[4:-1].tolist())

    assert [context is not None for context in found] == mask
    assert 0 < sum(mask) < len(mask)


def test_tokens_fed_again_or_anew_count_as_if_fed_once() -> None:
    contexts = Contexts(PROMPT)
    contexts.put(0, [1, 2, 3, 4, 5, 1, 2, 3, 4])
    again = contexts.next

    contexts.put(4, [5, 1, 2, 3, 4])
    assert again is None
    assert contexts.next is None
    contexts.put(5, [9])

    assert contexts.next == nexts(PROMPT, [1, 2, 3, 4, 5, 9])[-1]
    contexts.put(0, [])
    assert contexts.next == Contexts(PROMPT).next


def test_a_look_ahead_changes_nothing() -> None:
    contexts = Contexts(PROMPT)
    contexts.put(0, [1, 2, 3, 4, 5, 1, 2])

    ahead = contexts.after([3, 4])

    assert ahead.next is None
    assert contexts.next == hash_context([4, 5, 1, 2])
    contexts.put(7, [3, 4])
    assert contexts.next == ahead.next
