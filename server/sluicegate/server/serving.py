"""What every call that an engine works for is served with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sluicegate.server.gate import Gate
from sluicegate.server.judging import Judge
from sluicegate.server.live import LiveCalls
from sluicegate.server.metering import Meter
from sluicegate.server.models import Models
from sluicegate.server.monitoring import Monitor
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.queueing import Queue
from sluicegate.server.signals import Lexicon


@dataclass(frozen=True, slots=True)
class Serving:
    """One for the process; event loop only. A call ends after `call_seconds` at the latest."""

    gate: Gate
    models: Models
    metrics: Metrics
    queue: Queue
    live: LiveCalls
    judge: Judge
    meter: Meter
    monitor: Monitor
    lexicon: Lexicon
    call_seconds: float
    clock: Callable[[], float] = time.monotonic

    def latest_end(self) -> float:
        """When a call that begins now must be over, in monotonic seconds."""
        return self.clock() + self.call_seconds
