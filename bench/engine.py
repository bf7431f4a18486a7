"""The engine alone: its process asked over ZeroMQ as the server asks it, without gRPC, access or metrics.

    python -m bench.engine
    python -m bench.engine --shape 355m --dtypes float32 bfloat16 --lengths equal unequal --json
    python -m bench.engine --sweep --plot steps.svg

Speed, latency, memory and processor time at batch sizes; with `--sweep`, how long decode steps take over batch and
context, against what bandwidth and products of this machine allow. bench/README.md says what is measured and what is
not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.checkpoint import cache_directory, random_checkpoint
from bench.driving import MODEL, STEP_TOKENS, Steps, ask_engine, running_engine
from bench.figures import Spread, spread
from bench.limits import Limits
from bench.model import Growth, Point, StepModel, growth
from bench.peers.conversation import Round
from bench.peers.results import Measured, measured, rotated
from bench.peers.serving import Output
from bench.terminal import document, headline, run, say, table
from bench.work import LENGTHS, SHAPES, Lengths, Request, output_tokens, requests
from sluicegate.client.load.plot import Series, svg
from sluicegate.server.engine.errors import EngineError
from sluicegate.server.engine.supervisor import Engine
from sluicegate.server.observe.log import configure

SWEEP_BATCHES = (1, 2, 4, 8, 16, 32)
SWEEP_CONTEXTS = (64, 256, 512, 960)
SWEEP_STEPS = 24
"""Decode steps of each point, after one that does not count."""
SWEEP_MARGIN = 8
"""More steps, in which the first to come decode while the last are read."""
SWEEP_STEP_TOKENS = 65_536
"""Of a sweep: all prompts are read in one step, so that all rows are about equally long."""


@dataclass(slots=True)
class Loaded:
    """An engine that runs, and its steps' own figures."""

    dtype: str
    engine: Engine
    steps: Steps
    pid: int
    rounds: dict[tuple[int, Lengths], list[EngineRound]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineRound:
    """One round: what all engines are measured by, and what only ours tells."""

    speed: Measured
    engine_cpu_us: float  # processor time of the engine's process for each token of output
    front_cpu_us: float  # the same of this process, which stands for the front end
    in_steps: float  # share of the time in which a step ran


@dataclass(frozen=True, slots=True)
class Row:
    """One dtype, batch and mix of lengths: medians over the rounds, with their spread."""

    dtype: str
    batch: int
    lengths: Lengths
    tokens_per_second: Spread
    decode_tokens_per_second: Spread
    prefill_tokens_per_second: Spread
    first_ms: Spread
    gap_p50_ms: Spread
    gap_p99_ms: Spread
    engine_cpu_us_per_token: Spread
    front_cpu_us_per_token: Spread
    in_steps: Spread
    peak_mib: int
    disturbed_rounds: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """Decode steps of one dtype, their growth, and the floor at each point."""

    dtype: str
    points: list[Point]
    floors: list[float]
    growth: Growth


def main() -> int:
    """Measure and print."""
    options = parsed()
    configure("warning", "console")
    checkpoint = random_checkpoint(options.shape, options.directory)
    limits = measured_limits(options.threads) if options.sweep else None
    rows, sweeps, missing = asyncio.run(everything(options, checkpoint, limits))
    if options.plot and sweeps:
        options.plot.write_text(plotted(options, sweeps), encoding="utf-8")
    if options.json:
        print(document("engine", options, {"rows": rows, "limits": limits, "sweeps": sweeps, "missing": missing}))
    else:
        print(page(options, rows, sweeps, limits, missing))
    return 0 if rows or sweeps else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--shape", choices=SHAPES, default="124m", help="of the random weights (%(default)s)")
    parser.add_argument(
        "--dtypes", nargs="+", default=["bfloat16"], help="as the setting models.<id>.dtype (%(default)s)"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], help="requests at once (%(default)s)")
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=["equal"], help="(%(default)s)")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each equal request (%(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="of output, of each equal request (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of a step (%(default)s)")
    parser.add_argument("--step-tokens", type=int, default=STEP_TOKENS, help="most tokens of a step (%(default)s)")
    parser.add_argument("--sweep", action="store_true", help="steps over batch and context instead")
    parser.add_argument("--plot", type=Path, help="write the sweep's plot into this file, as SVG")
    parser.add_argument("--directory", type=Path, default=cache_directory(), help="of checkpoints, kept (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    if options.tokens < 2 or options.prompt < 1 or min(options.batch) < 1 or options.rounds < 1:
        parser.error("--tokens needs 2 at least, --prompt, --batch and --rounds 1")
    if options.plot and not options.sweep:
        parser.error("--plot needs --sweep")
    return options


def measured_limits(threads: int) -> Limits:
    """In this process, whose torch does nothing afterwards."""
    from bench import limits

    return limits.measure(threads)


async def everything(
    options: argparse.Namespace, checkpoint: Path, limits: Limits | None
) -> tuple[list[Row], list[Sweep], dict[str, str]]:
    """All rows, or all sweeps where the limits are known; and the dtypes that could not be loaded, with the cause."""
    missing = dict[str, str]()
    async with AsyncExitStack() as stack:
        loaded = await load(options, checkpoint, missing, stack)
        if limits is not None:
            return [], [await sweep(options, each, limits) for each in loaded], missing
        for lengths in options.lengths:
            for batch in options.batch:
                await make_rounds(options, loaded, batch, lengths)
        peaks = {each.dtype: machine.peak_bytes([each.pid]) >> 20 for each in loaded}
    rows = [
        row(each.dtype, *case, rounds, peaks[each.dtype]) for each in loaded for case, rounds in each.rounds.items()
    ]
    return rows, [], missing


async def load(
    options: argparse.Namespace, checkpoint: Path, missing: dict[str, str], stack: AsyncExitStack
) -> list[Loaded]:
    """An engine for each dtype; all stay loaded, and all but one idle."""
    slots = max(SWEEP_BATCHES) if options.sweep else max(options.batch)
    found = list[Loaded]()
    for dtype in options.dtypes:
        say(f"{dtype}: loading")
        steps, known = Steps(), machine.family(os.getpid())
        engine = running_engine(
            checkpoint,
            dtype=dtype,
            slots=slots,
            threads=options.threads,
            step_tokens=SWEEP_STEP_TOKENS if options.sweep else options.step_tokens,
            steps=steps,
        )
        try:
            running = await stack.enter_async_context(engine)
        except EngineError as error:
            say(f"{dtype}: {error}")
            missing[dtype] = str(error)
            continue
        (pid,) = machine.family(os.getpid()) - known
        found.append(Loaded(dtype, running, steps, pid))
    return found


async def make_rounds(options: argparse.Namespace, loaded: Sequence[Loaded], batch: int, lengths: Lengths) -> None:
    """All rounds of one case, the dtypes in turns. The first warms up and does not count."""
    by_name = {each.dtype: each for each in loaded}
    for number in range(options.rounds + 1):
        read, work = (
            requests(batch, lengths, options.prompt, options.tokens, turn=2 * number + part) for part in range(2)
        )
        for name in rotated(list(by_name), number):
            each = by_name[name]
            taken = await one_round(each, read, work)
            say(
                f"batch {batch}, {lengths}, round {number} of {options.rounds}: {name} "
                f"{taken.speed.tokens_per_second:.1f} tokens/s{', disturbed' if taken.speed.is_disturbed else ''}"
            )
            if number:
                each.rounds.setdefault((batch, lengths), []).append(taken)


async def one_round(each: Loaded, read: Sequence[Request], work: Sequence[Request]) -> EngineRound:
    """The prefill alone, of prompts as long as the whole's, then the whole."""
    prefill = await ask(each, [Request(request.prompt, 1) for request in read])
    first_step, own, engines = (
        len(each.steps.taken),
        machine.cpu_seconds([os.getpid()]),
        machine.cpu_seconds([each.pid]),
    )
    whole = await ask(each, work)
    tokens = output_tokens(work)
    return EngineRound(
        speed=measured(work, prefill, whole),
        engine_cpu_us=(machine.cpu_seconds([each.pid]) - engines) / tokens * 1e6,
        front_cpu_us=(machine.cpu_seconds([os.getpid()]) - own) / tokens * 1e6,
        in_steps=sum(step.step_seconds for step in each.steps.taken[first_step:]) / whole.seconds,
    )


async def ask(each: Loaded, work: Sequence[Request]) -> Round:
    with machine.usage([os.getpid()]) as use:
        answers = await ask_engine(each.engine, work)
    output = Output([answer.ids for answer in answers], [answer.arrivals for answer in answers])
    return Round(max(answer.arrivals[-1] for answer in answers), output, use)


def row(dtype: str, batch: int, lengths: Lengths, rounds: Sequence[EngineRound], peak_mib: int) -> Row:
    """Medians and spreads of a case's rounds."""

    def of_speed(name: str) -> Spread:
        return spread([getattr(each.speed, name) or 0.0 for each in rounds])

    return Row(
        dtype=dtype,
        batch=batch,
        lengths=lengths,
        tokens_per_second=of_speed("tokens_per_second"),
        decode_tokens_per_second=of_speed("decode_tokens_per_second"),
        prefill_tokens_per_second=of_speed("prefill_tokens_per_second"),
        first_ms=of_speed("stream_first_ms"),
        gap_p50_ms=of_speed("gap_p50_ms"),
        gap_p99_ms=of_speed("gap_p99_ms"),
        engine_cpu_us_per_token=spread([each.engine_cpu_us for each in rounds]),
        front_cpu_us_per_token=spread([each.front_cpu_us for each in rounds]),
        in_steps=spread([each.in_steps for each in rounds]),
        peak_mib=peak_mib,
        disturbed_rounds=sum(each.speed.is_disturbed for each in rounds),
    )


async def sweep(options: argparse.Namespace, each: Loaded, limits: Limits) -> Sweep:
    """Every batch at every context, `options.rounds` times; a point is the median of its steps."""
    facts = each.engine.facts(MODEL)
    assert facts is not None
    cache_bytes = facts.cache_bytes / facts.slots / facts.context_length
    model = StepModel(SHAPES[options.shape], facts.dtype, cache_bytes, limits)
    points = list[Point]()
    for batch in SWEEP_BATCHES:
        for context in SWEEP_CONTEXTS:
            taken = list[float]()
            for _ in range(options.rounds):
                taken += await decode_steps(each, batch, context)
            points.append(Point(batch, context, statistics.median(taken)))
            say(f"{each.dtype}: batch {batch}, context {context}: {points[-1].seconds * 1e3:.1f} ms a step")
    floors = [model.seconds(point.batch, point.context) for point in points]
    return Sweep(each.dtype, points, floors, growth(points))


async def decode_steps(each: Loaded, batch: int, context: int) -> list[float]:
    """Durations of steps in which all of the batch decode and nothing is prefilled, around this context."""
    before = len(each.steps.taken)
    work = requests(batch, "equal", context - SWEEP_STEPS // 2, SWEEP_STEPS + SWEEP_MARGIN)
    await ask_engine(each.engine, work)
    steps = [step for step in each.steps.taken[before:] if step.batch_rows == batch and not step.prefill_tokens]
    return [step.step_seconds for step in steps[1 : SWEEP_STEPS + 1]]


def page(
    options: argparse.Namespace,
    rows: Sequence[Row],
    sweeps: Sequence[Sweep],
    limits: Limits | None,
    missing: dict[str, str],
) -> str:
    """For people."""
    lines = [
        headline(),
        f"GPT-2 {options.shape}, random weights, greedy, {options.threads} threads, {options.rounds} rounds",
    ]
    if rows:
        header = ["dtype, batch, lengths", "tokens/s", "decode", "prefill", "first ms", "gap p50/p99 ms"]
        header += ["CPU us/token engine/front", "in steps", "peak MiB", "disturbed"]
        lines.append(table(header, [cells(each) for each in rows]))
    if limits is not None:
        rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in limits.flops_per_second.items())
        lines.append(f"limits: {limits.read_bytes_per_second / 1e9:.1f} GB/s ({limits.probe}); GFLOP/s: {rates}")
    for found in sweeps:
        header = ["batch", *(f"context {context}" for context in SWEEP_CONTEXTS)]
        lines += ["", f"{found.dtype}: a decode step, ms, and how many times its floor", table(header, grid(found))]
        by = found.growth
        lines.append(
            f"grows as {by.fixed * 1e3:.2f} ms + {by.row * 1e6:.0f} us a row + {by.position * 1e9:.0f} ns a position "
            f"(explains {by.explained:.1%})"
        )
    lines += [f"not measured: {name}: {cause}" for name, cause in missing.items()]
    return "\n".join(lines)


def cells(each: Row) -> list[str]:
    return [
        f"{each.dtype}, {each.batch}, {each.lengths}",
        f"{each.tokens_per_second:.0f}",
        f"{each.decode_tokens_per_second:.0f}",
        f"{each.prefill_tokens_per_second:.0f}",
        f"{each.first_ms.median:.0f}",
        f"{each.gap_p50_ms.median:.1f}/{each.gap_p99_ms.median:.1f}",
        f"{each.engine_cpu_us_per_token.median:.0f}/{each.front_cpu_us_per_token.median:.0f}",
        f"{each.in_steps.median:.0%}",
        str(each.peak_mib),
        str(each.disturbed_rounds or "-"),
    ]


def grid(found: Sweep) -> list[list[str]]:
    """A line for each batch; each cell a step and how many times its floor it takes."""
    cells = [
        f"{point.seconds * 1e3:.1f} x{point.seconds / floor:.1f}"
        for point, floor in zip(found.points, found.floors, strict=True)
    ]
    width = len(SWEEP_CONTEXTS)
    return [[str(batch), *cells[index * width : (index + 1) * width]] for index, batch in enumerate(SWEEP_BATCHES)]


def plotted(options: argparse.Namespace, sweeps: Sequence[Sweep]) -> str:
    """Of the first dtype: milliseconds over context, a colour for each batch."""
    found = sweeps[0]
    pairs = list(zip(found.points, found.floors, strict=True))
    series = [
        Series(
            label=f"batch {batch}",
            line=[(point.context, floor * 1e3) for point, floor in pairs if point.batch == batch],
            marks=[(point.context, point.seconds * 1e3) for point, _ in pairs if point.batch == batch],
        )
        for batch in SWEEP_BATCHES
    ]
    title = f"Decode steps of GPT-2 {options.shape}, {found.dtype}, {options.threads} threads"
    return svg(
        title,
        "tokens in the cache of each row",
        "milliseconds a step",
        series,
        x_ticks={context: str(context) for context in SWEEP_CONTEXTS},
        note="line: floor",
    )


if __name__ == "__main__":
    run(main)
