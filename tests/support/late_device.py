"""A device of the graph runner on the CPU: work is done at once, but what it gives is known only after a wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sluicegate.server.gpt2.device import CaptureFailed, Mark, Played, Work

UNKNOWN = 0xA5
"""Each byte of what was not waited for."""


class LateDevice:
    """Plays the Device. `asked` records in order what it was asked for; `capture_fails`: after so many captures."""

    def __init__(self, *, capture_fails: int | None = None) -> None:
        self.asked: list[str] = []
        self.captures = 0
        self.replays = 0
        self._capture_fails = capture_fails
        self._coming: list[tuple[Tensor, Tensor]] = []
        self._marks = 0

    def capture(self, work: Work) -> CountedGraph:
        if self.captures == self._capture_fails:
            raise CaptureFailed("operation not permitted when stream is capturing")
        self.captures += 1
        work()
        return CountedGraph(self, Played(work))

    @contextmanager
    def beside(self) -> Iterator[None]:
        self.asked.append("beside")
        yield
        self.asked.append("end")

    def join(self) -> None:
        self.asked.append("join")

    def mark(self) -> LateMark:
        self.asked.append("mark")
        self._marks += 1
        return LateMark(self._marks, self._coming)

    def download(self, values: Tensor) -> Tensor:
        self.asked.append("download")
        on_host = torch.empty_like(values)
        on_host.view(torch.uint8).fill_(UNKNOWN)
        self._coming = [*self._coming, (on_host, values.clone())]
        return on_host


@dataclass(slots=True)
class CountedGraph:
    """A graph that plays."""

    device: LateDevice
    played: Played

    def replay(self) -> None:
        self.device.asked.append("replay")
        self.device.replays += 1
        self.played.replay()


@dataclass(slots=True)
class LateMark:
    """The `number`-th mark: seconds are counted in marks."""

    number: int
    coming: list[tuple[Tensor, Tensor]] = field(repr=False)

    @torch.inference_mode()
    def wait(self) -> None:
        for on_host, values in self.coming:
            on_host.copy_(values)

    def seconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, LateMark)
        return float(self.number - earlier.number)
