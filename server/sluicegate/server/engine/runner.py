"""What the engine needs of a model: a Runner executes steps, the scheduler decides them.

The scheduler speaks integers only (slots, positions, token ids), so it is tested with a scripted runner and
imports no torch. `gpt2.runner.TorchRunner` is the real one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sluicegate.server.engine.messages import Sampling, TokenLogprob, WatermarkKey


@dataclass(frozen=True, slots=True)
class Chunk:
    """One slot's share of a step: feed `ids` at positions start, start+1, … of the slot.

    A running sequence's decode step is a chunk of one id. `samples`: draw the next token from the last
    position's logits. `targets`: the ids that follow each fed position, as many as `ids`; the log-probability
    of each is wanted, and of the `score_top` most likely ids there. Empty where nothing is scored.
    `drafted`: so many ids at the end are a guess at the sequence's next tokens, made to be checked by this step; at
    least one id is none, and only chunks with `samples` have them. A token is drawn after the last id that is no
    guess, and after each guess: see Outcome.
    `awaits`: the one id to feed is the token that the step in flight draws for this slot, which only the device knows
    yet; `ids` is empty. Only for an OverlappingRunner.
    """

    slot: int
    start: int
    ids: Sequence[int]
    samples: bool
    targets: Sequence[int] = ()
    score_top: int = 0
    drafted: int = 0
    awaits: bool = False

    @property
    def length(self) -> int:
        """Positions that are fed."""
        return 1 if self.awaits else len(self.ids)

    @property
    def end(self) -> int:
        """The position behind those that are fed."""
        return self.start + self.length

    @property
    def given(self) -> Sequence[int]:
        """The ids that are no guess."""
        return self.ids[: len(self.ids) - self.drafted]

    @property
    def drafts(self) -> Sequence[int]:
        """The guesses."""
        return self.ids[len(self.ids) - self.drafted :]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token drawn for a chunk with `samples`. `logprob` and `top` as Sampling asks, else None, empty."""

    id: int
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one chunk gave: drawn tokens, the scores of its targets, or neither (a middle prefill chunk).

    `drawn`: the sequence's next tokens. One, for a chunk with `samples`; where it had drafts, one more for each draft
    that is the token drawn in its place, up to the first that is not. All drafts but the accepted ones, which are
    `drawn[:-1]`, are as if they had not been fed: their positions will be fed anew.
    `is_void`: the token could not be drawn this time; to be had, the chunk is fed again. Only of an OverlappingRunner.
    """

    drawn: Sequence[Drawn] = ()
    drafted: int = 0  # the chunk's
    logprobs: Sequence[float] = ()
    top: Sequence[tuple[TokenLogprob, ...]] = ()
    is_void: bool = False


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a loaded model is."""

    parameters: int
    context_length: int
    vocabulary_size: int
    eos_token_id: int | None
    weights_sha256: str
    dtype: str
    device: str
    slots: int
    cache_bytes: int


class Runner(Protocol):
    """Executes steps for one model. Engine thread only; never called concurrently."""

    @property
    def facts(self) -> ModelFacts: ...

    def twin(self, slots: int, watermark: WatermarkKey | None) -> Runner:
        """Another runner of the same model, with slots of its own. Raises ModelLoadError if they do not fit.

        `watermark`: the key by which it marks what it draws where that is asked for.
        """

    def open(self, slot: int, sampling: Sampling | None, candidate: int, prompt: Sequence[int]) -> None:
        """Take a free slot: the sequence's sampling (None: score only) and its prompt (for penalties)."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of the KV cache of slot `source` into slot `target`. Both are open."""

    def close(self, slot: int) -> None:
        """Release what `open` took. What was fed stays in the KV cache, so that the next sequence may go on there."""

    def run(self, chunks: Sequence[Chunk]) -> list[Outcome]:
        """One forward pass; one outcome for each chunk, in order. At most one chunk a slot.

        Raises StepError, StepOutOfMemory (engine/errors.py): then it is as if it had not been called.
        """


class Flight(Protocol):
    """A step that was launched and may still run. Engine thread only."""

    @property
    def feeds_back(self) -> bool:
        """Whether the next step may be launched before this one's result is taken, and await what it draws."""

    def result(self) -> list[Outcome]:
        """Wait for the step, once; one outcome for each chunk. Raises as `Runner.run`.

        If it raises, it is as if neither this step had been launched nor the one behind it, whose result is waited for
        all the same, and not used.
        """

    @property
    def seconds(self) -> float:
        """How long the device took for it. Known once its result is taken."""


@runtime_checkable
class OverlappingRunner(Runner, Protocol):
    """A runner whose device works by itself, so that the host can see to one step while the next is under way.

    No slot is closed while a step in flight feeds it. What such a step has in front of what it feeds may be copied.
    """

    def launch(self, chunks: Sequence[Chunk]) -> Flight:
        """Begin a step without waiting for it. Raises StepOutOfMemory: then it is as if it had not been called.

        At most one other is in flight, and its result is taken before the next launch.
        """


def accepted(drafts: Sequence[int], drawn: Sequence[Drawn]) -> Sequence[Drawn]:
    """Those of the draws (one more than drafts) that are the sequence's: up to the first that is not its draft."""
    right = 0
    while right < len(drafts) and drafts[right] == drawn[right].id:
        right += 1
    return drawn[: right + 1]
