"""Requests come from a seed, and shapes are GPT-2's."""

from __future__ import annotations

import pytest

from bench.work import (
    CONTEXT,
    LENGTHS,
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    SHAPES,
    VOCABULARY,
    Lengths,
    output_tokens,
    prompt_tokens,
    requests,
)


def test_equal_requests_have_the_lengths_that_were_asked_for() -> None:
    work = requests(3, "equal", prompt=7, output=5)

    assert [(len(request.prompt), request.output) for request in work] == [(7, 5)] * 3
    assert (prompt_tokens(work), output_tokens(work)) == (21, 15)


def test_unequal_requests_fill_their_ranges_and_fit_the_context() -> None:
    work = requests(400, "unequal", prompt=7, output=5)

    prompts, outputs = {len(request.prompt) for request in work}, {request.output for request in work}
    assert PROMPT_TOKENS[0] <= min(prompts) < 32
    assert 480 < max(prompts) <= PROMPT_TOKENS[1]
    assert OUTPUT_TOKENS[0] <= min(outputs) < 32
    assert 224 < max(outputs) <= OUTPUT_TOKENS[1]
    assert PROMPT_TOKENS[1] + OUTPUT_TOKENS[1] <= CONTEXT


@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_same_arguments_give_every_engine_the_same_work(lengths: Lengths) -> None:
    assert requests(8, lengths, 16, 4) == requests(8, lengths, 16, 4)


@pytest.mark.parametrize("lengths", LENGTHS)
def test_another_turn_has_the_same_lengths_and_no_prompt_that_begins_alike(lengths: Lengths) -> None:
    first, second = requests(8, lengths, 16, 4), requests(8, lengths, 16, 4, turn=1)

    sizes = [[(len(request.prompt), request.output) for request in work] for work in (first, second)]
    assert sizes[0] == sizes[1]
    assert not {tuple(each.prompt[:4]) for each in first} & {tuple(each.prompt[:4]) for each in second}


def test_prompts_differ_and_hold_no_end_of_text() -> None:
    work = requests(64, "equal", prompt=64, output=1)

    assert len({tuple(request.prompt) for request in work}) == 64
    assert all(0 <= id_ < VOCABULARY - 1 for request in work for id_ in request.prompt)


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [("124m", 124_439_808), ("355m", 354_823_168), ("774m", 774_030_080), ("1558m", 1_557_611_200)],
)
def test_shapes_have_as_many_parameters_as_the_released_models(shape: str, parameters: int) -> None:
    assert SHAPES[shape].parameters == parameters
