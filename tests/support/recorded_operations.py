"""Which of torch's operators some work calls: on a device that works by itself, some of them wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "aten::_local_scalar_dense",  # .item(), .tolist(), bool()
    "aten::nonzero",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::_unique2",
    "aten::equal",
    "aten::lift_fresh",  # torch.tensor([...]): a copy of memory that is not pinned
}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operators that are called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name().split(".")[0])
        if func.name().startswith("aten::index"):  # by a mask: as many rows as it has true entries
            masks = [each for each in args[1] if each is not None] if isinstance(args[1], list | tuple) else []
            if any(each.dtype is torch.bool for each in masks):
                self.names.add("aten::nonzero")
        return func(*args, **(kwargs or {}))


def waiting_operations(work: Callable[[], object]) -> set[str]:
    """Those called by the work that would wait for a device."""
    recorder = Recorder()
    with recorder:
        work()
    assert recorder.names
    return recorder.names & WAITING
