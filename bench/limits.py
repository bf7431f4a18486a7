"""What the machine can do at most: bytes read from memory a second, and multiply-adds of matrices a second.

A step can be no faster than both allow, so both are measured in the run that they are held against.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.terminal import say

SOURCE = Path(__file__).with_name("bandwidth.c")
BUFFER_MIB, PASSES = 1_024, 7
ROWS, WIDTH, INNER = 512, 1_024, 4_096
"""Of the products timed: as a prefill multiplies."""
PRODUCTS = 8
SECONDS = 0.3
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}
"""Of one weight."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of so many threads. `flops_per_second`: by format, two for each multiply-add; none where torch has no kernel."""

    read_bytes_per_second: float
    flops_per_second: dict[str, float]
    probe: str  # what measured the bandwidth


def measure(threads: int) -> Limits:
    """Takes some seconds, in which nothing else should run."""
    say("measuring the memory's bandwidth and the rate of products")
    bandwidth, probe = _by_compiler(threads) or (_by_torch(threads), "torch.sum, single precision")
    return Limits(bandwidth, {name: rate for name in BYTES if (rate := product_rate(name, threads)) is not None}, probe)


def product_rate(format_: str, threads: int) -> float | None:
    """Operations a second of torch's own product in this format; None if it has none for it here."""
    multiply = _product(format_)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        multiply()
        seconds = _median_seconds(multiply)
    except (RuntimeError, NotImplementedError):
        return None
    finally:
        torch.set_num_threads(before)
    return 2 * ROWS * WIDTH * INNER / seconds


def _product(format_: str) -> Callable[[], Tensor]:
    """One product a call, each with the next of a few weights, so that they are not all in the nearest cache."""
    if format_ == "int8":
        rows = torch.randint(-127, 127, (ROWS, WIDTH), dtype=torch.int8)
        weights = [torch.randint(-127, 127, (WIDTH, INNER), dtype=torch.int8) for _ in range(PRODUCTS)]
        multiply: Callable[[Tensor, Tensor], Tensor] = torch._int_mm
    else:
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[format_]
        rows = torch.randn(ROWS, WIDTH, dtype=dtype)
        weights = [torch.randn(WIDTH, INNER, dtype=dtype) for _ in range(PRODUCTS)]
        multiply = torch.mm
    turn = 0

    def next_product() -> Tensor:
        nonlocal turn
        turn += 1
        return multiply(rows, weights[turn % PRODUCTS])

    return next_product


def _median_seconds(work: Callable[[], object]) -> float:
    taken, end = list[float](), time.perf_counter() + SECONDS
    while len(taken) < 5 or time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _by_compiler(threads: int) -> tuple[float, str] | None:
    """By a small program in C; None where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "bandwidth"
        build = [compiler, "-O3", "-march=native", "-pthread", "-o", os.fspath(program), os.fspath(SOURCE)]
        subprocess.run(build, check=True)  # noqa: S603  (the system's compiler)
        sizes = [str(threads), str(BUFFER_MIB), str(PASSES)]
        found = subprocess.run([program, *sizes], check=True, capture_output=True, text=True)  # noqa: S603
    return statistics.median(map(float, found.stdout.split())), f"{SOURCE.name}, {BUFFER_MIB} MiB"


def _by_torch(threads: int) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        buffer = torch.ones(BUFFER_MIB << 18)
        buffer.sum()
        return buffer.nbytes / _median_seconds(buffer.sum)
    finally:
        torch.set_num_threads(before)
