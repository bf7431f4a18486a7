"""Speculative decoding: a drafter guesses the next tokens of a sequence, and one step of the model checks them.

The model draws its own token at each place, just as it would one step at a time: a draw depends on the sequence's
logits and keys alone. A guess that is the token drawn is accepted; from the first that is not, guesses are dropped
(runner.py, Outcome). So a text is the same with speculation and without, token for token, and it may be switched on
and off in mid-text as the load changes. Rejection sampling (Leviathan et al. 2023, algorithm 1; Chen et al. 2023)
accepts more guesses and keeps the distribution, but not the text, which would depend on who else is served.

"The same" as far as logits are: a step with other rows rounds otherwise, as it does in any other company.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from sluicegate.server.engine.drafters import Drafter, Wish
from sluicegate.server.engine.errors import StepOutOfMemory
from sluicegate.server.engine.lookahead import Lookahead
from sluicegate.server.engine.messages import Sampling, WatermarkKey
from sluicegate.server.engine.runner import Chunk, ModelFacts, Outcome, Runner

log = structlog.get_logger()

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Text:
    """A generation's tokens so far, and how many its end leaves room for."""

    tokens: list[int]
    longest: int


class SpeculativeRunner:
    """`engine.runner.Runner` over another, with drafts as many as `lookahead` chooses. Engine thread only.

    Drafts are for steps in which all sequences decode: one that reads a prompt has rows enough. A step for whose drafts
    there is no memory is run without them. A drafter that fails is not asked again; no sequence ends of it. Steps do
    not overlap (steps.py): what the next one feeds depends on which drafts were right.
    """

    def __init__(self, runner: Runner, drafter: Drafter, lookahead: Lookahead, clock: Callable[[], float]) -> None:
        self._runner = runner
        self._drafter: Drafter | None = drafter
        self._clock = clock
        self._lookahead = lookahead
        self._texts: dict[int, _Text] = {}
        self._facts = replace(runner.facts, cache_bytes=runner.facts.cache_bytes + drafter.cache_bytes)

    @property
    def facts(self) -> ModelFacts:
        """The model's; the cache is that of its drafter too."""
        return self._facts

    def twin(self, slots: int, watermark: WatermarkKey | None) -> Runner:
        return self._runner.twin(slots, watermark)

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        self._runner.open(slot, sampling, candidate, prompt)
        if sampling is None:
            return
        longest = min(len(prompt) + sampling.max_output_tokens, self._facts.context_length)
        self._texts[slot] = _Text(list(prompt), longest)
        self._lookahead.open(slot)
        self._ask(lambda drafter: drafter.open(slot, sampling, candidate, prompt))

    def copy(self, source: int, target: int, length: int) -> None:
        self._runner.copy(source, target, length)

    def close(self, slot: int) -> None:
        self._runner.close(slot)
        if self._texts.pop(slot, None) is not None:
            self._lookahead.close(slot)
            self._ask(lambda drafter: drafter.close(slot))

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        """One step, with drafts where they pay. Raises what the model's runner raises."""
        if all(chunk.samples and len(chunk.ids) == 1 for chunk in chunks):
            outcomes = self._check(chunks, self._draft([chunk.slot for chunk in chunks]))
        else:
            outcomes = self._runner.run(chunks)
        for chunk, outcome in zip(chunks, outcomes, strict=True):
            if outcome.drawn:
                self._texts[chunk.slot].tokens += [drawn.id for drawn in outcome.drawn]
            if outcome.drafted:
                self._lookahead.note_drafts(chunk.slot, outcome.drafted, len(outcome.drawn) - 1)
        return outcomes

    def _draft(self, slots: Sequence[int]) -> dict[int, list[int]]:
        """By slot the drafts of the next step, as many as pay."""
        texts = [(slot, self._texts[slot]) for slot in slots]
        # A step draws one token more than it has drafts.
        rooms = {slot: room for slot, text in texts if (room := text.longest - len(text.tokens) - 1) > 0}
        if self._drafter is None or not rooms:
            return {}
        if self._drafter.costs_nothing:
            found = self._propose(rooms, self._lookahead.most)
            count = self._lookahead.choose(len(slots), found, drafting_is_free=True)
            return {slot: ids[:count] for slot, ids in found.items()} if count else {}
        count = self._lookahead.choose(len(slots), rooms)
        if not count:
            return {}
        began = self._clock()
        drafts = self._propose(rooms, count)
        if len(drafts) == len(rooms):  # else texts were read first
            passes = max(map(len, drafts.values()))
            self._lookahead.note_drafting(len(rooms), (self._clock() - began) / passes)
        return drafts

    def _propose(self, rooms: Mapping[int, int], count: int) -> dict[int, list[int]]:
        wishes = [Wish(slot, self._texts[slot].tokens, min(count, room)) for slot, room in rooms.items()]
        try:
            return self._ask(lambda drafter: drafter.propose(wishes)) or {}
        except StepOutOfMemory:
            self._lookahead.note_drafting(len(rooms), math.inf)
            return {}

    def _check(self, chunks: Sequence[Chunk], drafts: Mapping[int, Sequence[int]]) -> list[Outcome]:
        """Run a step with these drafts, or without any where there is no memory for them."""
        rows = len(chunks) + sum(map(len, drafts.values()))
        began = self._clock()
        try:
            outcomes = self._runner.run([_with_drafts(chunk, drafts.get(chunk.slot, ())) for chunk in chunks])
        except StepOutOfMemory:
            if not drafts:
                raise
            self._lookahead.note_step(rows, math.inf)
            return self._runner.run(chunks)
        self._lookahead.note_step(rows, self._clock() - began)
        return outcomes

    def _ask(self, question: Callable[[Drafter], Answer]) -> Answer | None:
        """The drafter's answer; None if it has failed, which is nothing to the model. Raises StepOutOfMemory."""
        if self._drafter is None:
            return None
        try:
            return question(self._drafter)
        except StepOutOfMemory:
            raise
        except Exception:  # whatever it is: the model's own steps will tell if the device is broken
            log.exception("drafter_failed", advice="the model goes on without; reload it to try again")
            self._drafter = None
            return None


def _with_drafts(chunk: Chunk, drafts: Sequence[int]) -> Chunk:
    return replace(chunk, ids=[*chunk.ids, *drafts], drafted=len(drafts)) if drafts else chunk
