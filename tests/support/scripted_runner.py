"""A Runner without a model: tokens come from a function, and every breach of the contract raises."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sluicegate.server.engine.errors import StepError, StepOutOfMemory
from sluicegate.server.engine.messages import Load, Sampling, Speculation, TokenLogprob, WatermarkKey
from sluicegate.server.engine.runner import Chunk, Drawn, ModelFacts, Outcome, Runner, accepted

EOS = 0

Script = Callable[[int, int, tuple[int, ...]], int]


def count_up(candidate: int, position: int, prompt: tuple[int, ...]) -> int:
    """The default script: never the end-of-text token, different for each candidate and position."""
    return 1 + (prompt[0] + 100 * candidate + position) % 900


@dataclass(slots=True)
class OpenSlot:
    """Who holds a slot: `fed` positions are its own, None before its first chunk; and the tokens drawn so far."""

    sampling: Sampling | None
    candidate: int
    prompt: tuple[int, ...]
    fed: int | None = None
    drawn: list[int] = field(default_factory=list)


class ContractBrokenError(AssertionError):
    """The engine called the runner in a way that the Runner contract does not allow."""


class ScriptedRunner:
    """Plays the Runner strictly. `script(candidate, position, prompt)` gives the token at that position.

    `cache[slot]` is a model of the KV cache: the ids that were fed at positions 0, 1, …; it outlives the slot's holder.
    What a chunk attends to must have been fed with the tokens that its sequence has there. `steps` and `copies`
    record the calls. `failures`: exceptions that the next runs raise, first to last; a StepError spoils its slots.
    `memory`: tokens of the largest step that does not run out of it.
    Clear `released` to hold the next run until it is set; `entered` says that a run has begun.
    """

    def __init__(
        self,
        *,
        slots: int | None = 4,
        context_length: int = 64,
        vocabulary_size: int = 1_000,
        parameters: int = 1,
        script: Script = count_up,
    ) -> None:
        slots = slots or 4  # None, as a Load may have it: as many as fit
        self._facts = ModelFacts(
            parameters=parameters,
            context_length=context_length,
            vocabulary_size=vocabulary_size,
            eos_token_id=EOS,
            weights_sha256="00" * 32,
            dtype="float32",
            device="cpu",
            slots=slots,
            cache_bytes=slots * context_length,
        )
        self._script = script
        self.cache: list[list[int]] = [[] for _ in range(slots)]
        self.open_slots: dict[int, OpenSlot] = {}
        self.steps: list[list[Chunk]] = []
        self.copies: list[tuple[int, int, int]] = []
        self.failures: list[Exception] = []
        self.memory = math.inf
        self.entered = threading.Event()
        self.released = threading.Event()
        self.released.set()

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def twin(self, slots: int, watermark: WatermarkKey | None) -> Runner:
        raise ContractBrokenError("a runner that is not to draft is asked to")

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        self._expect(0 <= slot < self._facts.slots, "a slot that does not exist is opened")
        self._expect(slot not in self.open_slots, "an open slot is opened")
        self.open_slots[slot] = OpenSlot(sampling, candidate, tuple(prompt))

    def copy(self, source: int, target: int, length: int) -> None:
        self._expect(source != target, "a slot is copied into itself")
        self._expect(source in self.open_slots and target in self.open_slots, "a closed slot is copied")
        given, taker = self.cache[source][:length], self.open_slots[target]
        self._expect(taker.fed is None, "a filled slot is overwritten")
        self._expect(0 < length == len(given), "more is copied than is cached")
        self._expect(given == list(taker.prompt[:length]), "two prompts are mixed")
        self.cache[target] = given
        self.copies.append((source, target, length))

    def close(self, slot: int) -> None:
        self._expect(slot in self.open_slots, "a closed slot is closed")
        del self.open_slots[slot]

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        self.entered.set()
        self.released.wait()
        self._expect(bool(chunks), "an empty step is run")
        slots = [chunk.slot for chunk in chunks]
        self._expect(len(set(slots)) == len(slots), "two chunks share a slot")
        self.steps.append(list(chunks))
        if self.failures:
            failure = self.failures.pop(0)
            for slot in failure.slots if isinstance(failure, StepError) else ():
                self.cache[slot] = []
            raise failure
        if sum(len(chunk.ids) for chunk in chunks) > self.memory:
            raise StepOutOfMemory("no memory")
        return [self._feed(chunk) for chunk in chunks]

    def _feed(self, chunk: Chunk) -> Outcome:
        self._expect(chunk.slot in self.open_slots, "a closed slot is fed")
        held = self.open_slots[chunk.slot]
        known = [*held.prompt, *held.drawn]
        stop = chunk.start + len(chunk.ids)
        self._expect(len(chunk.ids) > 0, "an empty chunk is fed")
        cached = self.cache[chunk.slot]
        if held.fed is None:  # later on it is what the sequence has fed itself
            self._expect(cached[: chunk.start] == known[: chunk.start], "what is attended to is another text")
        else:
            self._expect(chunk.start == held.fed <= len(cached), "positions have a gap or an overlap")
        self._expect(stop <= self._facts.context_length, "the context is overrun")
        given, behind = list(chunk.given), stop - chunk.drafted
        self._expect(len(given) > 0, "nothing but drafts is fed")
        self._expect(given == known[chunk.start : behind], "other tokens are fed than there are")
        self._expect(all(0 <= id_ < self._facts.vocabulary_size for id_ in chunk.drafts), "a draft is no token")
        cached[chunk.start :] = chunk.ids
        held.fed = behind
        if held.sampling is None:
            self._expect(not chunk.samples, "a score request samples")
            self._expect(len(chunk.targets) == len(chunk.ids), "targets and ids differ in number")
            top = [self._top(chunk.score_top)] * len(chunk.targets)
            return Outcome(logprobs=[target_logprob(target) for target in chunk.targets], top=top)
        self._expect(not chunk.targets, "a generation is scored")
        self._expect(chunk.samples == (behind == len(known)), "a token is drawn in the wrong place, or not drawn")
        self._expect(chunk.samples or not chunk.drafted, "drafts are fed where nothing is drawn")
        if not chunk.samples:
            return Outcome()
        drawn = accepted(chunk.drafts, [self._draw(held, position) for position in range(behind, stop + 1)])
        held.fed = behind + len(drawn) - 1
        held.drawn += [token.id for token in drawn]
        return Outcome(drawn, chunk.drafted)

    def _draw(self, held: OpenSlot, position: int) -> Drawn:
        token = self._script(held.candidate, position, held.prompt)
        if held.sampling is None or held.sampling.logprobs is None:
            return Drawn(token)
        return Drawn(token, target_logprob(token), self._top(held.sampling.logprobs))

    def _top(self, count: int) -> tuple[TokenLogprob, ...]:
        return tuple(TokenLogprob(token, target_logprob(token)) for token in range(count))

    def _expect(self, holds: bool, breach: str) -> None:
        if not holds:
            raise ContractBrokenError(breach)


def target_logprob(token: int) -> float:
    """The log-probability that scripts give a token: exact in binary, so that tests compare with ==."""
    return -token / 8


def scripted_load(
    model: str = "scripted",
    *,
    slots: int | None = 4,
    step_tokens: int = 16,
    directory: str = "/nowhere",
    speculation: Speculation | None = None,
) -> Load:
    """A Load message for a scripted model."""
    return Load(
        model=model,
        directory=directory,
        weights_sha256=None,
        device="cpu",
        dtype="float32",
        slots=slots,
        step_tokens=step_tokens,
        speculation=speculation,
    )
