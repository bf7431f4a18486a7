"""Guesses at the next tokens of sequences, for the model to check several in one step.

Whatever a drafter says, the text is the model's: a guess only saves steps where it is right (speculation.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import structs

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Sampling, WatermarkKey
from sluicegate.server.engine.runner import Chunk, ModelFacts, Runner

LONGEST_MATCH, SHORTEST_MATCH = 3, 2
"""Tokens at the end of a text that are looked up, the longest first. One alone is found nearly always, and is followed
by the same token too rarely."""

FED_ALONG = 4
"""A draft model that has missed no more tokens of a text than these feeds them with its first draft: it is as quick. At
least two: the last token, and before it a guess that was right."""


@dataclass(frozen=True, slots=True)
class Wish:
    """`count` >= 1 guesses are wanted at what follows `text`, the tokens of a slot's sequence so far."""

    slot: int
    text: Sequence[int]
    count: int


class Drafter(Protocol):
    """Makes guesses. Engine thread only. A slot's text only ever grows between its `open` and its `close`."""

    @property
    def cache_bytes(self) -> int:
        """Memory that it takes for all slots together."""

    @property
    def costs_nothing(self) -> bool:
        """Whether to propose takes no time worth mention."""

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        """Take a slot that is free."""

    def close(self, slot: int) -> None:
        """Release what `open` took."""

    def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
        """By slot the guesses, at most as many as wanted. One for which there are none is left out, or not read yet.

        Raises StepOutOfMemory: it may be asked again.
        """


class PromptLookup:
    """Finds where the end of a text stood in it before, and says that it goes on as it did there the last time.

    Prompt lookup decoding (Saxena 2023), as transformers' PromptLookupCandidateGenerator and vLLM's n-gram proposer.
    It costs a dictionary's look-up, and is right where a text repeats itself or quotes its prompt.
    """

    costs_nothing = True

    def __init__(self) -> None:
        self._indexes: dict[int, _Index] = {}

    @property
    def cache_bytes(self) -> int:
        return 0

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:  # noqa: ARG002
        self._indexes[slot] = _Index()

    def close(self, slot: int) -> None:
        del self._indexes[slot]

    def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
        found = ((wish.slot, self._indexes[wish.slot].continuation(wish.text, wish.count)) for wish in wishes)
        return {slot: ids for slot, ids in found if ids}


class _Index:
    """Where each run of tokens of a text, but the one at its end, was followed the last time."""

    def __init__(self) -> None:
        self._next: dict[tuple[int, ...], int] = {}
        self._known = 0

    def continuation(self, text: Sequence[int], count: int) -> list[int]:
        """What follows, by this text; empty where it has no such place. A loop is followed round and round."""
        for position in range(self._known, len(text)):
            for length in range(SHORTEST_MATCH, min(LONGEST_MATCH, position) + 1):
                self._next[tuple(text[position - length : position])] = position
        self._known = len(text)
        for length in range(min(LONGEST_MATCH, len(text)), SHORTEST_MATCH - 1, -1):
            found = self._next.get(tuple(text[-length:]))
            if found is not None:
                period = len(text) - found
                return [text[found + index % period] for index in range(count)]
        return []


def draft_twin(draft: Runner, model: ModelFacts, watermark: WatermarkKey | None, setting: str) -> Runner:
    """A runner of the draft model with as many slots as the model that it drafts for, and with that one's watermark.

    Raises ModelLoadError, which names the setting, if it cannot draft for that model or the slots do not fit.
    """
    facts = draft.facts
    if facts.vocabulary_size != model.vocabulary_size:
        raise ModelLoadError(
            f"{setting}: it has {facts.vocabulary_size} token ids and the model {model.vocabulary_size}; "
            "name a model with the same tokenizer"
        )
    if facts.context_length < model.context_length:
        raise ModelLoadError(
            f"{setting}: its context of {facts.context_length} is shorter than the model's {model.context_length}; "
            "name a model with one as long"
        )
    try:
        return draft.twin(model.slots, watermark)
    except ModelLoadError as error:
        raise ModelLoadError(f"{setting}: {error}") from error


@dataclass(slots=True)
class _Fed:
    """What a draft model's slot holds: `positions` of the text, then its own guesses, right or wrong."""

    positions: int = 0
    guesses: list[int] = field(default_factory=list)

    def add(self, chunk: Chunk, *, is_guess: bool) -> None:
        """Note what was fed."""
        if is_guess:
            self.guesses += chunk.ids
        else:
            self.positions += len(chunk.ids)


class DraftModel:
    """A smaller model that draws ahead, each sequence with its own sampling and its own keys.

    It draws from the same waiting times as the model will (gpt2/draws.py), so that where the two models' distributions
    are alike, so are their tokens. What it fed of guesses that were wrong is written over. A text of which it has
    missed much, since it was not asked or the text is new, is read first, at most `step_tokens` a call for all
    together.
    """

    costs_nothing = False

    def __init__(self, runner: Runner, step_tokens: int) -> None:
        """`runner`: with a slot for each of the model's, for this drafter alone."""
        self._runner = runner
        self._step_tokens = step_tokens
        self._fed: dict[int, _Fed] = {}

    @property
    def cache_bytes(self) -> int:
        return self._runner.facts.cache_bytes

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        self._runner.open(slot, structs.replace(sampling, logprobs=None), candidate, prompt)
        self._fed[slot] = _Fed()

    def close(self, slot: int) -> None:
        self._runner.close(slot)
        del self._fed[slot]

    def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
        chunks = self._unread(wishes)
        counts = {wish.slot: wish.count for wish in wishes}
        drafts: dict[int, list[int]] = {}
        while chunks:
            for chunk, outcome in zip(chunks, self._runner.run(chunks), strict=True):
                self._fed[chunk.slot].add(chunk, is_guess=chunk.slot in drafts)
                for drawn in outcome.drawn:
                    drafts.setdefault(chunk.slot, []).append(drawn.id)
            chunks = [self._next(slot, ids) for slot, ids in drafts.items() if len(ids) < counts[slot]]
        return drafts

    def _unread(self, wishes: Iterable[Wish]) -> list[Chunk]:
        """What is to be fed of each text; draws where that is little."""
        budget = self._step_tokens
        chunks = []
        for wish in wishes:
            start = _confirm(self._fed[wish.slot], wish.text)
            if len(wish.text) - start <= FED_ALONG:
                chunks.append(Chunk(wish.slot, start, wish.text[start:], samples=True))
            elif budget:
                ids = wish.text[start : start + budget]
                budget -= len(ids)
                chunks.append(Chunk(wish.slot, start, ids, samples=False))
        return chunks

    def _next(self, slot: int, drafts: Sequence[int]) -> Chunk:
        """Feed the last guess, to draw the one behind it."""
        fed = self._fed[slot]
        return Chunk(slot, fed.positions + len(fed.guesses), drafts[-1:], samples=True)


def _confirm(fed: _Fed, text: Sequence[int]) -> int:
    """Take guesses that became the text as fed, forget the others; the first position to feed.

    The last token is fed anew if need be: what follows it is drawn from its logits.
    """
    for guess, token in zip(fed.guesses, text[fed.positions :], strict=False):
        if guess != token:
            break
        fed.positions += 1
    fed.guesses.clear()
    fed.positions = min(fed.positions, len(text) - 1)
    return fed.positions
