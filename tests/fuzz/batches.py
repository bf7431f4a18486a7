"""Some thousand inputs of one target, and what came of them."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOW_SECONDS = 5.0
"""Of processor time; an input that takes more is a finding: the largest that readers take needs less than one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input of which something came that should not. `place`: what, and where; one finding for each."""

    target: str
    place: str
    data: bytes
    text: str

    def save(self, directory: Path) -> Path:
        """Write the input, and beside it what came of it; gives the input's path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.target}-{hashlib.sha256(self.data).hexdigest()[:12]}"
        path.write_bytes(self.data)
        path.with_name(f"{path.name}.txt").write_text(self.text, encoding="utf-8")
        return path


@dataclass(slots=True)
class Tally:
    """What has been tried of one target."""

    executions: int = 0
    taken: int = 0
    slowest_seconds: float = 0.0


def run_batch(
    name: str,
    check: Callable[[bytes], bool],
    inputs: st.SearchStrategy[bytes],
    tally: Tally,
    *,
    seed: int,
    examples: int,
    clock: Callable[[], float] = time.process_time,
) -> list[Finding]:
    """Try inputs, up to the first that raises, which is made as small as it goes; counts them in `tally`."""
    last = b""
    slow: list[Finding] = []

    @hypothesis.seed(seed)
    @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(inputs)
    def batch(data: bytes) -> None:
        nonlocal last
        last = data
        began = clock()
        try:
            tally.taken += check(data)
        finally:
            seconds = clock() - began
            tally.executions += 1
            tally.slowest_seconds = max(tally.slowest_seconds, seconds)
            if seconds > SLOW_SECONDS:
                slow.append(Finding(name, "slow", data, f"took {seconds:.1f} s\n"))

    try:
        batch()
    except Exception as error:  # whatever it is
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        return [*slow, Finding(name, place, last, "".join(traceback.format_exception(error)))]
    return slow
