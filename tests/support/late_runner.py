"""A ScriptedRunner whose results arrive late: a step is launched, and what came of it is told when it is waited for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from scripted_runner import OpenSlot, Script, ScriptedRunner, count_up

from sluicegate.server.engine.errors import StepError
from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Chunk, Drawn, Outcome

POISON = 998
"""Drawn behind a void token: no script gives it, and nobody may ever be told of it."""


class LateRunner(ScriptedRunner):
    """Plays the OverlappingRunner strictly.

    `failures`: what the next launches raise; `late_failures`: what their results do. `void_rate`: of sampling chunks,
    by `chance`. A step in which something is scored, or a sequence of `hosts_draw` (by the first id of the prompt)
    draws, does not feed back.
    """

    def __init__(
        self,
        *,
        slots: int = 4,
        context_length: int = 64,
        script: Script = count_up,
        chance: random.Random | None = None,
        void_rate: float = 0.0,
        hosts_draw: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(slots=slots, context_length=context_length, script=script)
        self.in_flight: list[LateFlight] = []
        self.late_failures: list[Exception] = []
        self.voids = 0
        self.waited = 0
        self._chance = chance or random.Random(0)
        self._void_rate = void_rate
        self._hosts_draw = hosts_draw
        self._void_slots: set[int] = set()

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        super().open(slot, sampling, candidate, prompt)
        self._void_slots.discard(slot)

    def close(self, slot: int) -> None:
        fed = {chunk.slot for flight in self.in_flight for chunk in flight.chunks}
        self._expect(slot not in fed, "a slot is closed while a step feeds it")
        super().close(slot)

    def launch(self, chunks: Sequence[Chunk]) -> LateFlight:
        self._expect(len(self.in_flight) < 2, "a third step is launched")
        self._expect(all(flight.feeds_back for flight in self.in_flight), "what nobody has drawn yet is awaited")
        failure = self.late_failures.pop(0) if self.late_failures else None
        if isinstance(failure, StepError):  # only of what is in the step
            at_fault = failure.slots & {chunk.slot for chunk in chunks}
            failure = StepError(str(failure), at_fault) if at_fault else None
        flight = LateFlight(self, list(chunks), failure, feeds_back=all(map(self._feeds_back, chunks)))
        for chunk in chunks:
            held = self.open_slots[chunk.slot]
            flight.undo.append((held, held.fed, len(held.drawn)))
        live = [chunk for chunk in chunks if not (chunk.awaits and chunk.slot in self._void_slots)]
        ran = dict(zip((chunk.slot for chunk in live), self._run(live), strict=True))
        self._void_slots -= ran.keys()
        flight.outcomes = [ran.get(chunk.slot, Outcome([Drawn(POISON)])) for chunk in chunks]
        for index, chunk in enumerate(chunks):
            if chunk.slot in ran and chunk.samples and flight.feeds_back and self._chance.random() < self._void_rate:
                flight.make_void(index)
                self._void_slots.add(chunk.slot)
                self.voids += 1
        self.in_flight.append(flight)
        return flight

    def land(self, flight: LateFlight) -> None:
        """Take a flight out; if it failed, it and the one behind it have never been."""
        self._expect(flight is self.in_flight[0], "results are taken in another order")
        if isinstance(flight.failure, StepError):
            for slot in flight.failure.slots:
                self.cache[slot] = []
        if flight.failure is not None or flight.is_undone:
            for each in reversed(self.in_flight):
                each.unwind()
        del self.in_flight[0]

    def _run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        return self.run([self._resolved(chunk) for chunk in chunks]) if chunks else []

    def _resolved(self, chunk: Chunk) -> Chunk:
        """With the id that it awaits."""
        if not chunk.awaits:
            return chunk
        self._expect(not chunk.ids and chunk.samples, "an awaited id comes with others")
        self._expect(any(self._draws(flight, chunk) for flight in self.in_flight), "nothing draws what is awaited")
        return replace(chunk, ids=self.open_slots[chunk.slot].drawn[-1:], awaits=False)

    @staticmethod
    def _draws(flight: LateFlight, awaiting: Chunk) -> bool:
        return any(
            chunk.slot == awaiting.slot and chunk.samples and chunk.end == awaiting.start for chunk in flight.chunks
        )

    def _feeds_back(self, chunk: Chunk) -> bool:
        return not chunk.targets and self.open_slots[chunk.slot].prompt[0] not in self._hosts_draw


@dataclass(slots=True, eq=False)
class LateFlight:
    """A step that is over long since, but nobody knows of it."""

    runner: LateRunner
    chunks: list[Chunk]
    failure: Exception | None
    feeds_back: bool
    outcomes: list[Outcome] = field(default_factory=list)
    undo: list[tuple[OpenSlot, int | None, int]] = field(default_factory=list)
    is_undone: bool = False
    seconds: float = 0.5

    def result(self) -> list[Outcome]:
        self.runner.land(self)
        self.runner.waited += 1
        if self.failure is not None:
            raise self.failure
        return self.outcomes

    def make_void(self, index: int) -> None:
        """The token of one chunk was not drawn."""
        self.outcomes[index] = Outcome(is_void=True)
        held, fed, drawn = self.undo[index]
        held.fed = fed
        del held.drawn[drawn:]

    def unwind(self) -> None:
        """As if it had not been launched. Twice is as once."""
        if not self.is_undone:
            self.is_undone = True
            for held, fed, drawn in self.undo:
                held.fed = fed
                del held.drawn[drawn:]
