from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_drafts import Guess, ScriptedDraftModel, right, right_until, wrong
from scripted_runner import ScriptedRunner, count_up

from sluicegate.server.engine.drafters import Drafter, DraftModel, PromptLookup, Wish, draft_twin
from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Sampling, WatermarkKey
from sluicegate.server.engine.runner import ModelFacts

PROMPT = [5, 6, 7]
FACTS = ScriptedRunner(context_length=200).facts


def next_tokens(text: list[int], count: int) -> list[int]:
    """What the script says of a text that began with PROMPT."""
    return [count_up(0, len(text) + index, tuple(PROMPT)) for index in range(count)]


def opened(drafter: Drafter, prompt: list[int], slots: int = 1) -> Drafter:
    for slot in range(slots):
        drafter.open(slot, Sampling(logprobs=3), 0, prompt)
    return drafter


# Prompt look-up


@pytest.mark.parametrize(
    ("text", "count", "guessed"),
    [
        ([1, 2, 3, 4, 5, 9, 1, 2, 3], 2, [4, 5]),
        ([1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3], 2, [5, 9]),  # the last time counts
        ([7, 2, 3, 4, 9, 1, 2, 3, 5, 9, 7, 2, 3], 2, [4, 9]),  # the longer match counts
        ([8, 2, 3, 4, 9, 1, 2, 3], 2, [4, 9]),  # two tokens are enough
        ([8, 1, 3, 4, 9, 1, 2, 3], 2, []),  # one is not
        ([1, 2, 1, 2, 1], 6, [2, 1, 2, 1, 2, 1]),  # round and round
        ([4, 4, 4], 3, [4, 4, 4]),
        ([1, 2], 3, []),
        ([1], 3, []),
    ],
)
def test_a_text_goes_on_as_where_its_end_stood_before(text: list[int], count: int, guessed: list[int]) -> None:
    drafter = opened(PromptLookup(), text)

    assert drafter.propose([Wish(0, text, count)]) == ({0: guessed} if guessed else {})


def test_a_text_that_grew_is_looked_up_as_if_it_had_been_so_from_the_start() -> None:
    text = [1, 2, 3, 4, 1, 2, 9, 9, 1, 2, 3, 4, 1, 2, 3, 1, 2, 9, 9, 1]
    growing = opened(PromptLookup(), text[:1])

    for length in range(1, len(text) + 1):
        fresh = opened(PromptLookup(), text[:1])
        assert growing.propose([Wish(0, text[:length], 3)]) == fresh.propose([Wish(0, text[:length], 3)])


def test_one_text_knows_nothing_of_another() -> None:
    drafter = opened(PromptLookup(), [1], slots=2)
    drafter.propose([Wish(0, [1, 2, 3, 1, 2], 2)])

    assert drafter.propose([Wish(1, [8, 1, 2], 2)]) == {}
    drafter.close(0)
    drafter.open(0, Sampling(), 0, [8])
    assert drafter.propose([Wish(0, [8, 1, 2], 2)]) == {}


# Draft model


def draft_model(guess: Guess = right, step_tokens: int = 64, slots: int = 1) -> tuple[DraftModel, ScriptedDraftModel]:
    runner = ScriptedDraftModel(FACTS, count_up, guess)
    drafter = DraftModel(runner, step_tokens)
    opened(drafter, PROMPT, slots)
    return drafter, runner


def test_a_draft_model_draws_ahead() -> None:
    drafter, runner = draft_model()

    assert drafter.propose([Wish(0, PROMPT, 4)]) == {0: next_tokens(PROMPT, 4)}
    assert [len(chunk.ids) for step in runner.steps for chunk in step] == [3, 1, 1, 1]


@pytest.mark.parametrize("accepted", range(5))
def test_after_a_step_only_what_became_of_the_drafts_is_fed(accepted: int) -> None:
    drafter, runner = draft_model(right_until(0) if accepted == 0 else right)
    drafter.propose([Wish(0, PROMPT, 4)])
    # The model drew the first `accepted` drafts and then a token of its own.
    text = [*PROMPT, *next_tokens(PROMPT, accepted), 999]
    before = len(runner.steps)

    drafter.propose([Wish(0, text, 2)])

    first = runner.steps[before][0]
    kept = min(accepted, 3)  # the last draft is never fed before it is accepted
    assert (first.start, first.ids) == (len(PROMPT) + kept, text[len(PROMPT) + kept :])
    assert runner.cache[0][: len(text)] == text


@pytest.mark.parametrize("guess", [right, wrong, right_until(0)])
def test_what_a_draft_model_reads_is_the_text_whatever_it_guessed(guess: Guess) -> None:
    drafter, runner = draft_model(guess)
    text = list(PROMPT)

    for count in (4, 1, 3, 2, 4, 4, 1):
        drafts = drafter.propose([Wish(0, text, count)])[0]
        assert len(drafts) == count
        assert runner.cache[0][: len(text)] == text
        assert len(runner.cache[0]) == len(text) + count - 1
        truth = next_tokens(text, count + 1)
        agreeing = next((index for index in range(count) if drafts[index] != truth[index]), count)
        text += truth[: agreeing + 1]


def test_what_was_guessed_counts_as_read_up_to_where_the_text_goes_on_otherwise() -> None:
    drafter, runner = draft_model()
    right_one, *others = drafter.propose([Wish(0, PROMPT, 4)])[0]
    text = [*PROMPT, right_one, 999, *others[1:2]]  # a guess behind a wrong one stands where it was guessed

    drafter.propose([Wish(0, text, 1)])

    assert runner.cache[0] == text


def test_a_step_that_was_not_run_after_all_costs_nothing_but_the_last_token() -> None:
    drafter, runner = draft_model()
    first = drafter.propose([Wish(0, PROMPT, 3)])

    again = drafter.propose([Wish(0, PROMPT, 3)])

    assert again == first
    assert [chunk.ids for chunk in runner.steps[3]] == [PROMPT[-1:]]


def test_a_long_text_is_read_in_parts_and_left_out_until_it_is_read() -> None:
    drafter, runner = draft_model(step_tokens=10, slots=3)
    long = [*PROMPT, *range(100, 122)]

    answers = [drafter.propose([Wish(0, PROMPT, 1), Wish(1, long, 1), Wish(2, long, 1)]) for _ in range(6)]

    assert [sorted(answer) for answer in answers] == [[0], [0], [0], [0, 1], [0, 1], [0, 1, 2]]
    read = [[len(chunk.ids) for chunk in step if chunk.slot] for step in runner.steps]
    assert read == [[10], [10], [5, 5], [1, 10], [1, 10], [1, 1]]
    assert runner.cache[1] == runner.cache[2] == long


@pytest.mark.parametrize("missed", range(1, 8))
def test_a_few_tokens_that_were_missed_are_fed_with_the_first_draft(missed: int) -> None:
    drafter, runner = draft_model()
    drafter.propose([Wish(0, PROMPT, 1)])
    text = [*PROMPT, *range(100, 100 + missed)]

    drafts = drafter.propose([Wish(0, text, 1)])

    assert drafts == ({0: next_tokens(text, 1)} if missed <= 4 else {})
    assert runner.cache[0] == text


def test_sequences_that_want_fewer_drafts_leave_the_later_passes() -> None:
    drafter, runner = draft_model(slots=3)

    drafts = drafter.propose([Wish(0, PROMPT, 1), Wish(1, PROMPT, 3), Wish(2, PROMPT, 2)])

    assert {slot: len(ids) for slot, ids in drafts.items()} == {0: 1, 1: 3, 2: 2}
    assert [[chunk.slot for chunk in step] for step in runner.steps] == [[0, 1, 2], [1, 2], [1]]


# Who may draft for whom


def test_a_draft_model_gets_slots_of_its_own() -> None:
    runner = ScriptedDraftModel(FACTS, count_up)

    twin = draft_twin(runner, replace(FACTS, slots=7), None, "models.large.speculation.draft")

    assert twin is not runner
    assert twin.facts.slots == 7


@pytest.mark.parametrize(
    ("facts", "advice"),
    [
        (replace(FACTS, vocabulary_size=999), "name a model with the same tokenizer"),
        (replace(FACTS, context_length=199), "name a model with one as long"),
    ],
)
def test_a_model_that_cannot_draft_for_another_says_why(facts: ModelFacts, advice: str) -> None:
    draft = ScriptedDraftModel(facts, count_up)

    with pytest.raises(ModelLoadError, match=advice) as failure:
        draft_twin(draft, FACTS, None, "models.large.speculation.draft")

    assert str(failure.value).startswith("models.large.speculation.draft: ")


def test_slots_that_do_not_fit_are_told_by_the_setting() -> None:
    class Large(ScriptedDraftModel):
        def twin(self, slots: int, watermark: WatermarkKey | None) -> ScriptedDraftModel:
            raise ModelLoadError(f"no memory for {slots} slots")

    with pytest.raises(ModelLoadError, match=r"^models\.large\.speculation\.draft: no memory for 4 slots$"):
        draft_twin(Large(FACTS, count_up), FACTS, None, "models.large.speculation.draft")
