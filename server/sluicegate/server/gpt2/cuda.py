"""CUDA as the graph runner needs it: graphs, a second stream, events; each a call of torch.cuda's, and little else.

Sources: "CUDA semantics" in torch's documentation, sections on graphs and on streams; torch/cuda/graphs.py.

No tensor needs `record_stream`. What is allocated `beside` belongs to the second stream and is taken anew by that
alone, whose work begins behind that of the first; what the first stream has allocated and the second reads is static.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sluicegate.server.gpt2.device import Captured, CaptureFailed, Mark, Work

WARM_UPS = 2  # before a capture: cuBLAS takes its handle and workspace with the first call, which no graph may do


class CudaMark:
    """An event."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.event.record()

    def wait(self) -> None:
        self.event.synchronize()

    def seconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, CudaMark)
        milliseconds: float = earlier.event.elapsed_time(self.event)
        return milliseconds / 1e3


class CudaDevice:
    """One CUDA device, which becomes the current one: an engine process has no other."""

    def __init__(self, device: torch.device) -> None:
        if device.index is not None:
            torch.cuda.set_device(device)
        self._second = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._capturing = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, work: Work) -> Captured:
        """Into the memory pool that all graphs share: none holds anything there from one replay to the next."""
        current = torch.cuda.current_stream()
        graph = torch.cuda.CUDAGraph()
        try:
            self._capturing.wait_stream(current)
            with torch.cuda.stream(self._capturing):
                for _ in range(WARM_UPS):
                    work()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._capturing):
                work()
        except RuntimeError as error:
            raise CaptureFailed(str(error)) from error
        finally:
            torch.cuda.set_stream(current)  # a capture that fails leaves its own as the current one
        current.wait_stream(self._capturing)
        return graph

    @contextmanager
    def beside(self) -> Iterator[None]:
        self._second.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._second):
            yield

    def join(self) -> None:
        torch.cuda.current_stream().wait_stream(self._second)

    def mark(self) -> CudaMark:
        return CudaMark()

    def download(self, values: Tensor) -> Tensor:
        on_host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return on_host.copy_(values, non_blocking=True)
