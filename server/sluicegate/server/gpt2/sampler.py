"""Draw the next token of many sequences at once, each by its own parameters.

Adjusted logits -> temperature -> filters -> the watermark's tournament, where one is due (marks.py) -> a race whose
times are keyed (draws.py). A draw depends on the sequence's own logits, parameters, seed, candidate, position, and with
a watermark on its last tokens. Greedy rows take the highest logit, and carry no mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Drawn
from sluicegate.server.gpt2.adjustments import Adjustments, adjust
from sluicegate.server.gpt2.draws import pick, pick_among, waiting_times
from sluicegate.server.gpt2.errors import NonFiniteRows
from sluicegate.server.gpt2.filters import Filters, survivors, survivors_among
from sluicegate.server.gpt2.logprobs import log_probabilities
from sluicegate.server.gpt2.marks import Marks, mark
from sluicegate.server.watermark import MOST_CANDIDATES, Contexts, Scheme

# A smaller temperature is as good as greedy, and its quotients would overflow.
MIN_TEMPERATURE = 1e-6

PARAMETERS = np.dtype(
    [
        ("top_p", np.float64),
        ("min_p", np.float64),
        ("typical_p", np.float64),
        ("seed", np.uint64),
        ("temperature", np.float32),
        ("repetition_penalty", np.float32),
        ("presence_penalty", np.float32),
        ("frequency_penalty", np.float32),
        ("top_k", np.int32),  # the vocabulary's size: off
        ("logprobs", np.int32),  # -1: none
        ("candidate", np.uint32),
        ("position", np.uint32),  # where the drawn token will stand
        ("is_greedy", np.int32),
        ("is_filtered", np.int32),
        ("first_adjustment", np.int64),  # the kernels' own: where its adjustments begin and end
        ("last_adjustment", np.int64),
    ]
)
"""How one row is drawn, as Sampling says it. It is SgDraw of kernels/source/sampling.h, too."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What a step is to draw: for each row `parameters` (PARAMETERS [rows]) and its adjustments, if it has any.

    `marks`: of the rows that get a watermark; None where there are none.
    """

    parameters: NDArray[np.void]
    adjustments: Sequence[Adjustments | None]
    marks: Marks | None = None

    def __len__(self) -> int:
        return len(self.parameters)

    def select(self, rows: Sequence[int]) -> Draws:
        """The draws of some rows, in that order."""
        marks = None if self.marks is None else self.marks.select(rows)
        adjustments = [self.adjustments[row] for row in rows]
        return Draws(self.parameters[list(rows)], adjustments, marks if marks and marks.contexts else None)


class Sampler:
    """The sampling parameters of every slot. `scheme`: what sequences that want a watermark are marked by."""

    def __init__(self, slots: int, context_length: int, vocabulary_size: int, scheme: Scheme | None = None) -> None:
        self._context_length = context_length
        self._vocabulary_size = vocabulary_size
        self._parameters = np.zeros(slots, dtype=PARAMETERS)
        self._adjustments: dict[int, tuple[Adjustments, int]] = {}  # with the prompt's length
        self._contexts: dict[int, tuple[Contexts, int]] = {}  # of what is marked; with the prompt's length
        self._scheme = scheme

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        """Note a sequence's parameters. Token ids of bias and prompt must be in the vocabulary."""
        top_k = min(sampling.top_k or self._vocabulary_size, self._vocabulary_size)
        if Adjustments.are_needed(sampling):
            self._adjustments[slot] = Adjustments(sampling, prompt, self._context_length), len(prompt)
        if sampling.watermark and sampling.temperature > 0:
            assert self._scheme is not None  # the front end asks only where it gave a key
            top_k = min(top_k, MOST_CANDIDATES)
            self._contexts[slot] = Contexts(prompt), len(prompt)
        self._parameters[slot] = (
            sampling.top_p,
            sampling.min_p,
            sampling.typical_p,
            sampling.seed,
            max(sampling.temperature, MIN_TEMPERATURE),
            sampling.repetition_penalty,
            sampling.presence_penalty,
            sampling.frequency_penalty,
            top_k,
            -1 if sampling.logprobs is None else sampling.logprobs,
            candidate,
            0,
            sampling.temperature == 0,
            top_k < self._vocabulary_size or sampling.top_p < 1 or sampling.min_p > 0 or sampling.typical_p < 1,
            0,
            0,
        )

    def close(self, slot: int) -> None:
        """Forget a slot."""
        self._adjustments.pop(slot, None)
        self._contexts.pop(slot, None)

    def feed(self, slot: int, start: int, ids: Sequence[int]) -> None:
        """Note what a step fed at positions start..: ids past the prompt are output, for penalties and watermark.

        What was fed there before, and behind, counts no more.
        """
        if slot in self._adjustments:
            adjustments, prompt_length = self._adjustments[slot]
            adjustments.count(max(start - prompt_length, 0), ids[max(prompt_length - start, 0) :])
        if slot in self._contexts:
            contexts, prompt_length = self._contexts[slot]
            contexts.put(max(start - prompt_length, 0), ids[max(prompt_length - start, 0) :])

    def draws(
        self,
        slots: list[int],
        positions: Sequence[int],
        drafts: Mapping[int, Sequence[int]] = MappingProxyType({}),
    ) -> Draws:
        """What rows of these slots are to draw; a slot may have several rows.

        `positions`: where in its sequence each drawn token will stand. `drafts`: for rows whose token will stand behind
        guesses, these; penalties and watermark count them in such a row.
        """
        parameters = self._parameters[slots]
        parameters["position"] = positions
        adjustments: list[Adjustments | None] = [None] * len(slots)
        for row, slot in enumerate(slots) if self._adjustments else ():
            if slot in self._adjustments:
                own = self._adjustments[slot][0]
                adjustments[row] = own.after(drafts[row]) if row in drafts else own
        return Draws(parameters, adjustments, self._marks(slots, drafts) if self._contexts else None)

    def _marks(self, slots: Sequence[int], drafts: Mapping[int, Sequence[int]]) -> Marks | None:
        """Of the rows of these slots that get a watermark; None if none does."""
        found: dict[int, int | None] = {}
        for row, slot in enumerate(slots):
            if slot in self._contexts:
                contexts = self._contexts[slot][0]
                found[row] = (contexts.after(drafts[row]) if row in drafts else contexts).next
        return Marks(self._scheme, found) if found and self._scheme is not None else None


def draw(logits: Tensor, draws: Draws) -> list[Drawn]:
    """One token for each row of `logits` (float32 [rows, vocabulary], finite; changed in place), by torch."""
    adjusted = [(row, item) for row, item in enumerate(draws.adjustments) if item is not None]
    if adjusted:
        adjust(logits, *zip(*adjusted, strict=True))
    ids = _choose(logits, draws)
    drawn = [Drawn(id_) for id_ in ids.tolist()]
    _add_logprobs(drawn, logits, draws.parameters["logprobs"], ids)
    return drawn


def draw_checked(logits: Tensor, draws: Draws) -> list[Drawn]:
    """The same for logits that may not be finite. Raises NonFiniteRows."""
    finite = logits.sum(-1).isfinite()
    if not finite.all():
        raise NonFiniteRows((~finite).nonzero()[:, 0].tolist())
    return draw(logits, draws)


def _choose(logits: Tensor, draws: Draws) -> Tensor:
    """int64 [rows]."""
    parameters, marks = draws.parameters, draws.marks
    is_greedy, is_filtered = parameters["is_greedy"] != 0, parameters["is_filtered"] != 0
    if is_greedy.all():
        return logits.argmax(-1)
    ids = torch.empty(len(parameters), dtype=torch.int64, device=logits.device)
    groups: list[tuple[NDArray[np.bool_], Callable[[Tensor, NDArray[np.void]], Tensor]]] = [
        (is_greedy, _choose_likeliest),
        (~is_greedy & ~is_filtered, _choose_of_all),
        (~is_greedy & is_filtered, _choose_of_survivors),
    ]
    if marks is not None:
        is_marked = marks.among(len(draws))
        groups = [(group & ~is_marked, choose) for group, choose in groups]
        groups.append((is_marked, partial(_choose_marked, marks=marks.select(np.flatnonzero(is_marked).tolist()))))
    for group, choose in groups:
        if group.any():
            rows = torch.from_numpy(np.flatnonzero(group)).to(logits.device)
            part = logits if group.all() else logits[rows]
            ids[rows] = choose(part, parameters[group])
    return ids


def _choose_likeliest(logits: Tensor, _parameters: NDArray[np.void]) -> Tensor:
    return logits.argmax(-1)


def _choose_of_all(logits: Tensor, parameters: NDArray[np.void]) -> Tensor:
    scores = _scores(logits, parameters)
    return pick((scores - scores.amax(-1, keepdim=True)).exp(), _times(logits, parameters))


def _choose_of_survivors(logits: Tensor, parameters: NDArray[np.void]) -> Tensor:
    times = _times(logits, parameters)
    ids = torch.empty(len(parameters), dtype=torch.int64, device=logits.device)
    for left in survivors(_scores(logits, parameters), _filters(logits, parameters)):
        ids[left.rows] = pick_among(left.ids, left.weights, times[left.rows])
    return ids


def _choose_marked(logits: Tensor, parameters: NDArray[np.void], marks: Marks) -> Tensor:
    """On the host from the likeliest scores on: what is chosen of the same logits is the same on every device."""
    times = torch.from_numpy(_host_times(parameters, logits.shape[1]))
    ids = torch.empty(len(parameters), dtype=torch.int64)
    for left in survivors_among(_scores(logits, parameters), _filters(times, parameters), MOST_CANDIDATES):
        weights = mark(left.ids, left.weights, marks.select(left.rows.tolist()))
        ids[left.rows] = pick_among(left.ids, weights, times[left.rows])
    return ids.to(logits.device)


def _filters(like: Tensor, parameters: NDArray[np.void]) -> Filters:
    """On the device of `like`."""
    top_k, *others = (_column(parameters, name, like) for name in ("top_k", "top_p", "min_p", "typical_p"))
    return Filters(top_k.long(), *others)


def _times(logits: Tensor, parameters: NDArray[np.void]) -> Tensor:
    return torch.from_numpy(_host_times(parameters, logits.shape[1])).to(logits.device)


def _host_times(parameters: NDArray[np.void], vocabulary_size: int) -> NDArray[np.float64]:
    seeds, candidates, positions = (parameters[name] for name in ("seed", "candidate", "position"))
    return waiting_times(seeds, candidates, positions, vocabulary_size)


def _scores(logits: Tensor, parameters: NDArray[np.void]) -> Tensor:
    return logits / _column(parameters, "temperature", logits)[:, None]


def _column(parameters: NDArray[np.void], name: str, logits: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(parameters[name])).to(logits.device)


def _add_logprobs(drawn: list[Drawn], logits: Tensor, wanted: NDArray[np.int32], ids: Tensor) -> None:
    asked = {row: n for row, n in enumerate(wanted.tolist()) if n >= 0}
    if not asked:
        return
    if len(asked) < len(drawn):
        rows = torch.tensor(list(asked), device=logits.device)
        logits, ids = logits[rows], ids[rows]
    chosen, top = log_probabilities(logits, ids, max(asked.values()))
    for (row, count), logprob, alternatives in zip(asked.items(), chosen, top, strict=True):
        drawn[row] = Drawn(drawn[row].id, logprob, alternatives[:count])
