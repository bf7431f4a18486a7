"""Decode steps recorded when a model is loaded: one graph for each number of rows and width, one for each kind of draw.

At GPT-2's sizes a step is some hundreds of kernels of a few microseconds each: to ask for them one by one takes the
host longer than the device needs. A graph is asked for at once. It knows its shapes and its tensors' places, so that a
step goes into tensors that stay where they are (`inputs`), and its rows are filled up to the next number that was
recorded. Rows that fill up are of a sequence that nobody has, in a slot of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from sluicegate.server.gpt2.attention import Decodes
from sluicegate.server.gpt2.cache import Cache
from sluicegate.server.gpt2.device import Captured, CaptureFailed, Device, Played, Work, staged
from sluicegate.server.gpt2.draws import WaitingTimes, times_count
from sluicegate.server.gpt2.network import Network
from sluicegate.server.gpt2.static_draws import RESULT, ROW, Reach, draw_static
from sluicegate.server.gpt2.table import Table, as_bytes

NARROWEST = 128
"""Positions. Attention reads as many of each row as the longest has, up to the next power of two."""

log = structlog.get_logger()


def buckets(smallest: int, largest: int) -> list[int]:
    """Powers of two from the smallest, and the largest: any size is at most doubled."""
    sizes = [largest]
    size = smallest
    while size < largest:
        sizes.append(size)
        size *= 2
    return sorted(sizes)


def fitting(sizes: Sequence[int], needed: int) -> int:
    """The smallest that is enough; one is."""
    return next(size for size in sizes if size >= needed)


class DecodeGraphs:
    """Graphs over the slots of one cache, and the tensors that they read and write. Engine thread only.

    `cache` has one slot more than sequences can take: the last is that of rows that fill up. A step is `feed`,
    `forward` and `draw`. `results` has room for `slots` rows of decodes, and behind them for as many of prompts.
    """

    def __init__(self, network: Network, cache: Cache, device: Device) -> None:
        config, place = network.config, network.device
        self.slots = cache.slots - 1
        self._network = network
        self._cache = cache
        self._device = device
        self._row_sizes = buckets(1, self.slots)
        self._widths = buckets(min(NARROWEST, config.context_length), config.context_length)
        self._filling = np.zeros(self.slots, ROW)
        self._filling["slot"] = self.slots
        for name in ("temperature", "top_p", "typical_p", "top_k", "is_greedy"):
            self._filling["parameters"][name] = 1
        self.inputs = Table.empty(ROW, self.slots, place)
        self.results = Table.empty(RESULT, 2 * self.slots, place)
        self.hidden = torch.zeros(self.slots, config.width, dtype=network.dtype, device=place)
        self._waiting_times = WaitingTimes(config.vocabulary_size, place)
        self._times = torch.ones(self.slots, times_count(config.vocabulary_size), dtype=torch.float64, device=place)
        self._last_drawn = torch.zeros(self.slots + 1, dtype=torch.int64, device=place)
        self._forwards: dict[tuple[int, int], Captured] = {}
        self._draws: dict[tuple[int, Reach], Captured] = {}

    @torch.inference_mode()
    def capture(self) -> None:
        """Record all graphs, the largest first, so that the others fit into its memory. If that fails, go on without.

        Draws among ALL are not recorded: they are rare, and would keep gigabytes.
        """
        began = time.monotonic()
        self._upload(self._filling)
        record = self._device.capture
        try:
            for rows in reversed(self._row_sizes):
                for width in reversed(self._widths):
                    self._forwards[rows, width] = record(self._forward_work(rows, width))
                for reach in (Reach.FEW, Reach.UNFILTERED, Reach.LIKELIEST):
                    self._draws[rows, reach] = record(self._draw_work(rows, reach))
        except CaptureFailed as error:
            self._forwards.clear()
            self._draws.clear()
            log.warning("graphs_not_captured", error=str(error), advice="steps are asked for kernel by kernel, slowly")
            return
        count = len(self._forwards) + len(self._draws)
        log.info("graphs_captured", graphs=count, seconds=round(time.monotonic() - began, 1))

    @torch.inference_mode()
    def feed(self, rows: NDArray[np.void]) -> int:
        """Put a step's rows (ROW [1..slots]) into `inputs`. Gives how many there are with those that fill up."""
        size = fitting(self._row_sizes, len(rows))
        self._upload(np.concatenate([rows, self._filling[len(rows) : size]]))
        return size

    @torch.inference_mode()
    def forward(self, size: int, length: int) -> None:
        """Feed `inputs` into the cache; their last hidden states go to `hidden`. `length`: of the longest row."""
        width = fitting(self._widths, length)
        graph = self._forwards.get((size, width)) or Played(self._forward_work(size, width))
        graph.replay()

    @torch.inference_mode()
    def draw(self, size: int, reach: Reach) -> None:
        """Draw a token of each row of `hidden`. What comes of it goes to `results`."""
        graph = self._draws.get((size, reach)) or Played(self._draw_work(size, reach))
        graph.replay()

    @torch.inference_mode()
    def draw_others(self, hidden: Tensor, rows: Table, reach: Reach) -> None:
        """Draw tokens of other rows than a decode's: of prompts. `hidden`: [n, width]; results behind those of decodes.

        Not recorded, but nothing waits here either.
        """
        results = self.results.rows(self.slots, self.slots + len(rows))
        self._draw(hidden, rows, None if reach is Reach.LIKELIEST else self._times_of(rows), results, reach)

    def _upload(self, rows: NDArray[np.void]) -> None:
        data = self.inputs.data
        data[: len(rows)].copy_(staged(torch.from_numpy(as_bytes(rows)), data.device), non_blocking=True)

    def _forward_work(self, size: int, width: int) -> Work:
        rows, network = self.inputs.rows(0, size), self._network
        ids, positions, slots, is_awaited = (rows[name] for name in ("fed_id", "fed_position", "slot", "is_awaited"))

        def work() -> None:
            with self._device.beside():  # they wait for no logit
                self._times[:size].copy_(self._times_of(rows))
            fed = torch.where(is_awaited != 0, self._last_drawn[slots], ids)
            attention = Decodes(slots, positions, network.dtype, width)
            self.hidden[:size].copy_(network.feed(fed, positions, slots, self._cache, attention))
            self._device.join()

        return work

    def _draw_work(self, size: int, reach: Reach) -> Work:
        rows, results = self.inputs.rows(0, size), self.results.rows(0, size)
        hidden, times = self.hidden[:size], self._times[:size]
        return lambda: self._draw(hidden, rows, times, results, reach)

    def _draw(self, hidden: Tensor, rows: Table, times: Tensor | None, results: Table, reach: Reach) -> None:
        logits = self._network.logits(hidden)
        are_finite = logits.sum(-1).isfinite()
        logits = torch.where(are_finite[:, None], logits, 0.0)  # no index may come of a NaN: CUDA would stop for good
        ids, are_settled = draw_static(logits, rows, times, reach)
        logprobs = logits.gather(-1, ids[:, None])[:, 0] - logits.logsumexp(-1)
        for name, values in (
            ("id", ids),
            ("logprob", logprobs),
            ("is_finite", are_finite),
            ("is_settled", are_settled),
        ):
            results[name].copy_(values)
        self._last_drawn[rows["slot"]] = ids

    def _times_of(self, rows: Table) -> Tensor:
        return self._waiting_times(rows["seed"], rows["candidate"].long(), rows["position"].long())
