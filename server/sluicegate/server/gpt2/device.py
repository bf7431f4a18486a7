"""What the graph runner needs of a device that works by itself: cuda.CudaDevice.

Nothing here waits but `Mark.wait`. Work is done in the order in which it is asked for, but for what is asked for
`beside` it: that may run at the same time, until `join`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Work = Callable[[], None]
"""Works on tensors that stay where they are, by operations that do not depend on what is in them: no shape does, and
nothing is waited for."""


class CaptureFailed(Exception):
    """Work could not be recorded."""


class Captured(Protocol):
    """Recorded work."""

    def replay(self) -> None:
        """Do it again, with what its tensors hold by then."""


@dataclass(frozen=True, slots=True)
class Played:
    """Work that is not recorded: it is asked for anew each time."""

    work: Work

    def replay(self) -> None:
        self.work()


class Mark(Protocol):
    """A point in what a device was asked to do."""

    def wait(self) -> None:
        """Until all that was asked for before it is done."""

    def seconds_since(self, earlier: Mark) -> float:
        """Between two marks that were waited for, by the device's clock."""


class Device(Protocol):
    """A device that works by itself. Engine thread only."""

    def capture(self, work: Work) -> Captured:
        """Do work a few times and record it. Raises CaptureFailed."""

    def beside(self) -> AbstractContextManager[None]:
        """What is asked for inside begins when all asked for before is done, and need not be done before `join`."""

    def join(self) -> None:
        """What is asked for from now on begins when all that was asked for beside is done."""

    def mark(self) -> Mark: ...

    def download(self, values: Tensor) -> Tensor:
        """A copy on the host; it has them once a mark behind this call was waited for."""


def staged(values: Tensor, device: torch.device) -> Tensor:
    """A host tensor as a device can copy it while the host goes on (with `non_blocking`); on a CPU as it is.

    That takes pinned memory: a copy of other memory waits for all that its stream was asked for. torch's allocator of
    pinned memory hands none out again before copies of it are done.
    """
    return values if device.type == "cpu" else values.pin_memory()


def upload(values: Tensor, device: torch.device) -> Tensor:
    """A copy of a host tensor on the device, or on a CPU the tensor itself. Waits for nothing."""
    return staged(values, device).to(device, non_blocking=True)
