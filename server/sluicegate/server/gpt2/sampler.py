"""Draw the next token of many sequences at once, each by its own parameters.

Adjusted logits -> temperature -> filters -> a race whose times are keyed (draws.py). A draw depends on the
sequence's own logits, parameters, seed, candidate and position only. Greedy rows take the highest logit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.engine.messages import Sampling
from sluicegate.server.engine.runner import Drawn
from sluicegate.server.gpt2.adjustments import Adjustments, adjust
from sluicegate.server.gpt2.draws import pick, pick_among, waiting_times
from sluicegate.server.gpt2.filters import Filters, survivors
from sluicegate.server.gpt2.logprobs import log_probabilities

# A smaller temperature is as good as greedy, and its quotients would overflow.
MIN_TEMPERATURE = 1e-6


class Sampler:
    """The sampling parameters of every slot, as columns of arrays, and the draw."""

    def __init__(self, slots: int, context_length: int, vocabulary_size: int) -> None:
        self._context_length = context_length
        self._vocabulary_size = vocabulary_size
        self._sampling: dict[int, Sampling] = {}
        self._adjustments: dict[int, tuple[Adjustments, int]] = {}  # with the prompt's length
        self._is_greedy = np.zeros(slots, dtype=np.bool_)
        self._is_filtered = np.zeros(slots, dtype=np.bool_)
        self._temperature = np.ones(slots, dtype=np.float32)
        self._top_k = np.zeros(slots, dtype=np.int64)
        self._top_p = np.zeros(slots, dtype=np.float64)
        self._min_p = np.zeros(slots, dtype=np.float64)
        self._typical_p = np.zeros(slots, dtype=np.float64)
        self._seed = np.zeros(slots, dtype=np.uint64)
        self._candidate = np.zeros(slots, dtype=np.uint32)

    def open(self, slot: int, sampling: Sampling, candidate: int, prompt: Sequence[int]) -> None:
        """Note a sequence's parameters. Token ids of bias and prompt must be in the vocabulary."""
        top_k = min(sampling.top_k or self._vocabulary_size, self._vocabulary_size)
        self._sampling[slot] = sampling
        if Adjustments.are_needed(sampling):
            self._adjustments[slot] = Adjustments(sampling, prompt, self._context_length), len(prompt)
        self._is_greedy[slot] = sampling.temperature == 0
        self._temperature[slot] = max(sampling.temperature, MIN_TEMPERATURE)
        self._top_k[slot] = top_k
        self._top_p[slot] = sampling.top_p
        self._min_p[slot] = sampling.min_p
        self._typical_p[slot] = sampling.typical_p
        self._is_filtered[slot] = (
            top_k < self._vocabulary_size or sampling.top_p < 1 or sampling.min_p > 0 or sampling.typical_p < 1
        )
        self._seed[slot] = sampling.seed
        self._candidate[slot] = candidate

    def close(self, slot: int) -> None:
        """Forget a slot."""
        self._sampling.pop(slot, None)
        self._adjustments.pop(slot, None)

    def feed(self, slot: int, start: int, ids: Sequence[int]) -> None:
        """Note what a step fed at positions start..: ids past the prompt are output, for the penalties.

        What was fed there before, and behind, counts no more.
        """
        if slot in self._adjustments:
            adjustments, prompt_length = self._adjustments[slot]
            adjustments.count(max(start - prompt_length, 0), ids[max(prompt_length - start, 0) :])

    def draw(
        self,
        logits: Tensor,
        slots: Sequence[int],
        positions: Iterable[int],
        drafts: Mapping[int, Sequence[int]] = MappingProxyType({}),
    ) -> list[Drawn]:
        """One token for each row of `logits` (float32 [rows, vocabulary], finite; changed in place).

        `slots`: each row's slot, which may have several rows; `positions`: where in its sequence the drawn token will
        stand. `drafts`: for rows whose token will stand behind guesses, these; penalties count them in such a row.
        """
        adjusted = [row for row, slot in enumerate(slots) if slot in self._adjustments]
        adjustments = [self._adjustments[slots[row]][0] for row in adjusted]
        if drafts:
            adjustments = [
                item.after(drafts[row]) if row in drafts else item
                for row, item in zip(adjusted, adjustments, strict=True)
            ]
        adjust(logits, adjusted, adjustments)
        at = np.asarray(slots)
        ids = self._choose(logits, at, np.fromiter(positions, dtype=np.uint32, count=len(at)))
        drawn = [Drawn(id_) for id_ in ids.tolist()]
        self._add_logprobs(drawn, logits, slots, ids)
        return drawn

    def _choose(self, logits: Tensor, slots: NDArray[np.int64], positions: NDArray[np.uint32]) -> Tensor:
        """int64 [rows]."""
        is_greedy, is_filtered = self._is_greedy[slots], self._is_filtered[slots]
        if is_greedy.all():
            return logits.argmax(-1)
        ids = torch.empty(len(slots), dtype=torch.int64, device=logits.device)
        for group, choose in (
            (is_greedy, self._choose_likeliest),
            (~is_greedy & ~is_filtered, self._choose_of_all),
            (~is_greedy & is_filtered, self._choose_of_survivors),
        ):
            if group.any():
                rows = torch.from_numpy(np.flatnonzero(group)).to(logits.device)
                part = logits if group.all() else logits[rows]
                ids[rows] = choose(part, slots[group], positions[group])
        return ids

    def _choose_likeliest(self, logits: Tensor, _slots: NDArray[np.int64], _positions: NDArray[np.uint32]) -> Tensor:
        return logits.argmax(-1)

    def _choose_of_all(self, logits: Tensor, slots: NDArray[np.int64], positions: NDArray[np.uint32]) -> Tensor:
        scores = self._scores(logits, slots)
        return pick((scores - scores.amax(-1, keepdim=True)).exp(), self._times(logits, slots, positions))

    def _choose_of_survivors(self, logits: Tensor, slots: NDArray[np.int64], positions: NDArray[np.uint32]) -> Tensor:
        times = self._times(logits, slots, positions)
        filters = Filters(
            *(
                torch.from_numpy(column[slots]).to(logits.device)
                for column in (self._top_k, self._top_p, self._min_p, self._typical_p)
            )
        )
        ids = torch.empty(len(slots), dtype=torch.int64, device=logits.device)
        for left in survivors(self._scores(logits, slots), filters):
            ids[left.rows] = pick_among(left.ids, left.weights, times[left.rows])
        return ids

    def _times(self, logits: Tensor, slots: NDArray[np.int64], positions: NDArray[np.uint32]) -> Tensor:
        times = waiting_times(self._seed[slots], self._candidate[slots], positions, self._vocabulary_size)
        return torch.from_numpy(times).to(logits.device)

    def _scores(self, logits: Tensor, slots: NDArray[np.int64]) -> Tensor:
        return logits / torch.from_numpy(self._temperature[slots]).to(logits.device)[:, None]

    def _add_logprobs(self, drawn: list[Drawn], logits: Tensor, slots: Sequence[int], ids: Tensor) -> None:
        asked = {row: n for row, slot in enumerate(slots) if (n := self._sampling[slot].logprobs) is not None}
        if not asked:
            return
        if len(asked) < len(drawn):
            rows = torch.tensor(list(asked), device=logits.device)
            logits, ids = logits[rows], ids[rows]
        chosen, top = log_probabilities(logits, ids, max(asked.values()))
        for (row, count), logprob, alternatives in zip(asked.items(), chosen, top, strict=True):
            drawn[row] = Drawn(drawn[row].id, logprob, alternatives[:count])
