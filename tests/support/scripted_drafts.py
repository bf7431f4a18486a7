"""Drafters and a draft model for tests: right, wrong or anything between, and strict about how they are called."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from scripted_runner import ContractBrokenError, Script

from sluicegate.server.engine.drafters import Wish
from sluicegate.server.engine.lookahead import Lookahead
from sluicegate.server.engine.messages import Sampling, WatermarkKey
from sluicegate.server.engine.runner import Chunk, Drawn, ModelFacts, Outcome, Runner

Guess = Callable[[int, int], int]
"""(The token that is right, its number among the drafts) -> the token that is guessed."""


def right(token: int, number: int) -> int:
    return token


def wrong(token: int, number: int) -> int:
    return token + 1


def right_until(last: int) -> Guess:
    """The first `last` drafts are right, the others wrong."""
    return lambda token, number: token if number < last else token + 1


def at_random(seed: int, rate: float) -> Guess:
    """Each draft is right with probability `rate`."""
    chance = random.Random(seed)
    return lambda token, number: token if chance.random() < rate else chance.randrange(1, 900)


class Always(Lookahead):
    """Chooses the most drafts, whatever they cost."""

    def choose(self, sequences: int, slots: Collection[int], *, drafting_is_free: bool = False) -> int:
        return self.most


class AtRandom(Lookahead):
    """Chooses any number of drafts, none too: no text may depend on when they are switched on and off."""

    def __init__(self, most: int, seed: int = 0) -> None:
        super().__init__(most)
        self._random = random.Random(seed)

    def choose(self, sequences: int, slots: Collection[int], *, drafting_is_free: bool = False) -> int:
        return self._random.randint(0, self.most)


class Counting:
    """A Runner over another that counts the steps, the drafts in them, and those that were accepted."""

    def __init__(self, runner: Runner) -> None:
        self._run = runner.run
        self.facts = runner.facts
        self.twin, self.open, self.close, self.copy = runner.twin, runner.open, runner.close, runner.copy
        self.steps = self.drafted = self.accepted = 0

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        outcomes = self._run(chunks)
        self.steps += 1
        self.drafted += sum(outcome.drafted for outcome in outcomes)
        self.accepted += sum(len(outcome.drawn) - 1 for outcome in outcomes if outcome.drafted)
        return outcomes


class ScriptedDrafter:
    """Knows the script that the model follows, and guesses by it. `silent`: slots that it leaves out."""

    costs_nothing = False

    def __init__(self, script: Script, guess: Guess = right) -> None:
        self._script = script
        self._guess = guess
        self._slots: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.silent: set[int] = set()
        self.wishes: list[list[tuple[int, int]]] = []  # (slot, count) of each call

    @property
    def cache_bytes(self) -> int:
        return 1_000

    @property
    def open_slots(self) -> set[int]:
        return set(self._slots)

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        if slot in self._slots:
            raise ContractBrokenError("an open slot is opened")
        self._slots[slot] = candidate, tuple(prompt)

    def close(self, slot: int) -> None:
        del self._slots[slot]

    def propose(self, wishes: Sequence[Wish]) -> dict[int, list[int]]:
        self.wishes.append([(wish.slot, wish.count) for wish in wishes])
        return {wish.slot: self._propose(wish) for wish in wishes if wish.slot not in self.silent}

    def _propose(self, wish: Wish) -> list[int]:
        candidate, prompt = self._slots[wish.slot]
        if wish.count < 1 or tuple(wish.text[: len(prompt)]) != prompt:
            raise ContractBrokenError("a wish for nothing, or for another text")
        end = len(wish.text)
        return [self._guess(self._script(candidate, end + number, prompt), number) for number in range(wish.count)]


class ScriptedDraftModel:
    """A Runner whose slots are fed anew from any position on, as a draft model's are.

    It draws by the script, through `guess` (the number of a draft is 0 here). `cache[slot]` is what was fed: what a
    chunk attends to must be there. `steps` records the calls; `failures` are raised by the next ones.
    """

    def __init__(self, facts: ModelFacts, script: Script, guess: Guess = right) -> None:
        self._facts = facts
        self._script = script
        self._guess = guess
        self.cache: dict[int, list[int]] = {}
        self._open: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.steps: list[list[Chunk]] = []
        self.failures: list[Exception] = []

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def twin(self, slots: int, watermark: WatermarkKey | None) -> ScriptedDraftModel:
        return ScriptedDraftModel(replace(self._facts, slots=slots), self._script, self._guess)

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        if slot in self._open or sampling is None or sampling.logprobs is not None or slot >= self._facts.slots:
            raise ContractBrokenError("opened twice, for a score, with log-probabilities, or where no slot is")
        self._open[slot] = candidate, tuple(prompt)
        self.cache[slot] = []

    def copy(self, source: int, target: int, length: int) -> None:
        raise ContractBrokenError("a draft model's slots are not copied")

    def close(self, slot: int) -> None:
        del self._open[slot], self.cache[slot]

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        self.steps.append(list(chunks))
        if not chunks or len({chunk.slot for chunk in chunks}) < len(chunks):
            raise ContractBrokenError("an empty step, or two chunks of one slot")
        if self.failures:
            raise self.failures.pop(0)
        return [self._feed(chunk) for chunk in chunks]

    def _feed(self, chunk: Chunk) -> Outcome:
        cached = self.cache[chunk.slot]
        if not chunk.ids or chunk.drafted or chunk.targets or chunk.start > len(cached):
            raise ContractBrokenError("an empty chunk, one with drafts or targets, or a gap")
        cached[chunk.start :] = chunk.ids
        if len(cached) > self._facts.context_length:
            raise ContractBrokenError("the context is overrun")
        if not chunk.samples:
            return Outcome()
        candidate, prompt = self._open[chunk.slot]
        return Outcome([Drawn(self._guess(self._script(candidate, len(cached), prompt), 0))])
