"""Where a step's time goes: linears, attention, LM head, sampler, and what it costs whatever the model's width.

    python -m bench.step
    python -m bench.step --dtypes float32 bfloat16 --context 512 --json

The model runs in this process, through the runner that the engine steps. The parts are differences: of steps that draw
and do not, with a full context and an empty one, of the model and of one as deep and hardly wide. So they hold whatever
the kernels are. Beside them stands what this machine reads and multiplies. bench/README.md says what is measured and
what is not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import limits, machine
from bench.checkpoint import cache_directory, narrow_checkpoint, random_checkpoint
from bench.driving import MODEL
from bench.figures import Spread, spread
from bench.limits import Limits
from bench.model import StepModel
from bench.terminal import document, headline, run, say, table
from bench.work import CONTEXT, SHAPES, VOCABULARY
from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.messages import Load, Sampling
from sluicegate.server.engine.runner import Chunk, Runner
from sluicegate.server.gpt2.loading import load_runner
from sluicegate.server.gpt2.sampler import Sampler, draw
from sluicegate.server.observe.log import configure

GREEDY = Sampling(temperature=0, ignore_eos=True)
PREFILL_TOKENS = 256
EMPTY = 1
"""Tokens in the cache of an empty context: position 0 has seen nothing yet, and is a prompt's."""


@dataclass(frozen=True, slots=True)
class Part:
    """Of a decode step, in milliseconds: the median over the rounds with their spread, and the least that bandwidth and
    products allow; None where neither bounds it."""

    name: str
    ms: Spread
    floor_ms: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One dtype and batch. `prefill_gflops`: operations of all layers' linears a second, in billions, while a prompt is
    read by itself."""

    dtype: str
    batch: int
    context: int
    step_ms: Spread
    floor_ms: float
    parts: list[Part]
    prefill_gflops: Spread
    disturbed_rounds: int


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one round's steps."""

    whole: float  # with the context, drawing
    silent: float  # with the context, not drawing
    empty: float  # with an empty context, not drawing
    fixed: float  # the same of the narrow model
    sampler: float  # the draw alone, from logits that are there
    prefill: float

    def parts(self) -> Mapping[str, float]:
        """They add up to `whole`; noise can make one negative, and it is shown as it is."""
        return {
            "linears and norms": self.empty - self.fixed,
            "attention": self.silent - self.empty,
            "LM head": self.whole - self.silent - self.sampler,
            "sampler": self.sampler,
            "fixed": self.fixed,
        }


def main() -> int:
    """Measure and print."""
    options = parsed()
    configure("warning", "console")
    torch.set_num_threads(options.threads)
    checkpoint = random_checkpoint(options.shape, options.directory)
    narrow = narrow_checkpoint(options.shape, options.directory)
    found = limits.measure(options.threads)
    rows, missing = list[Row](), dict[str, str]()
    for dtype in options.dtypes:
        for batch in options.batch:
            try:
                rows.append(measured(options, checkpoint, narrow, dtype=dtype, batch=batch, found=found))
            except ModelLoadError as error:
                missing[dtype] = str(error)
    if options.json:
        print(document("step", options, {"limits": found, "rows": rows, "missing": missing}))
    else:
        print(page(options, rows, found, missing))
    return 0 if rows else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.step", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--shape", choices=SHAPES, default="124m", help="of the random weights (%(default)s)")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="as the setting (%(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], help="rows of a step (%(default)s)")
    parser.add_argument("--context", type=int, default=256, help="tokens in the cache of each row (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="of each kind in a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of a step (%(default)s)")
    parser.add_argument("--directory", type=Path, default=cache_directory(), help="of checkpoints, kept (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    if not EMPTY < options.context < CONTEXT or min(*options.batch, options.steps, options.rounds) < 1:
        parser.error(f"--context must be above {EMPTY} and below {CONTEXT}; --batch, --steps and --rounds 1 at least")
    return options


def measured(
    options: argparse.Namespace, checkpoint: Path, narrow: Path, *, dtype: str, batch: int, found: Limits
) -> Row:
    """All rounds of one dtype and batch. Raises ModelLoadError."""
    say(f"{dtype}, batch {batch}")
    model, hardly = opened(checkpoint, dtype, batch, options.context), opened(narrow, dtype, batch, EMPTY)
    prompt = [Chunk(0, 0, [1] * PREFILL_TOKENS, samples=False)]
    kinds = {
        "whole": stepping(model, batch, options.context, samples=True),
        "silent": stepping(model, batch, options.context, samples=False),
        "empty": stepping(model, batch, EMPTY, samples=False),
        "fixed": stepping(hardly, batch, EMPTY, samples=False),
        "sampler": drawing(batch, options.context),
        # What this writes into slot 0 is as good as what was there: all are positions of some text.
        "prefill": lambda: model.run(prompt),
    }
    rounds, disturbed = list[Times](), 0
    for number in range(options.rounds + 1):
        with machine.usage([os.getpid()]) as use:
            taken = Times(**median_seconds(kinds, options.steps))
        if number:
            rounds.append(taken)
            disturbed += use.is_disturbed
    facts = model.facts
    cache_bytes = facts.cache_bytes / facts.slots / facts.context_length
    return row(options, StepModel(SHAPES[options.shape], facts.dtype, cache_bytes, found), batch, rounds, disturbed)


def opened(checkpoint: Path, dtype: str, slots: int, context: int) -> Runner:
    """The model with all slots open, and so many tokens in the cache of each. Raises ModelLoadError."""
    load = Load(
        model=MODEL,
        directory=str(checkpoint),
        weights_sha256=None,
        device="cpu",
        dtype=dtype,
        slots=slots,
        step_tokens=CONTEXT,
    )
    runner = load_runner(load)
    for slot in range(slots):
        runner.open(slot, GREEDY, 0, [slot])
        runner.run([Chunk(slot, 0, [slot] * context, samples=False)])
    return runner


def stepping(runner: Runner, batch: int, start: int, *, samples: bool) -> Callable[[], object]:
    """A decode step of all slots at this position. It can be run again: it writes the same into the cache."""
    chunks = [Chunk(slot, start, [slot], samples=samples) for slot in range(batch)]
    return lambda: runner.run(chunks)


def drawing(batch: int, position: int) -> Callable[[], object]:
    """The sampler's share of such a step."""
    sampler = Sampler(batch, CONTEXT, VOCABULARY)
    for slot in range(batch):
        sampler.open(slot, GREEDY, 0, [slot])
    logits, slots, positions = torch.randn(batch, VOCABULARY), list(range(batch)), [position + 1] * batch
    return lambda: draw(logits, sampler.draws(slots, positions))


def median_seconds(kinds: Mapping[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Of each kind, so many steps in a row after one that does not count: steps of other kinds leave the processor's
    caches as no step of its own would."""
    return {name: statistics.median([seconds_of(work) for _ in range(times + 1)][1:]) for name, work in kinds.items()}


def seconds_of(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def row(options: argparse.Namespace, model: StepModel, batch: int, rounds: Sequence[Times], disturbed: int) -> Row:
    """Medians and spreads, beside the floors of `model`."""
    shape = model.shape
    floors = {
        "linears and norms": model.product_seconds(shape.layer_weights, batch),
        "attention": model.attention_seconds(batch, options.context),
        "LM head": model.product_seconds(shape.head_weights, batch),
    }
    return Row(
        dtype=model.format,
        batch=batch,
        context=options.context,
        step_ms=spread([each.whole * 1e3 for each in rounds]),
        floor_ms=model.seconds(batch, options.context) * 1e3,
        parts=[
            Part(
                name=name,
                ms=spread([each.parts()[name] * 1e3 for each in rounds]),
                floor_ms=floors[name] * 1e3 if name in floors else None,
            )
            for name in rounds[0].parts()
        ],
        prefill_gflops=spread([2 * shape.layer_weights * PREFILL_TOKENS / each.prefill / 1e9 for each in rounds]),
        disturbed_rounds=disturbed,
    )


def page(options: argparse.Namespace, rows: Sequence[Row], found: Limits, missing: Mapping[str, str]) -> str:
    """For people."""
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in found.flops_per_second.items())
    lines = [
        headline(),
        f"GPT-2 {options.shape}, random weights, {options.threads} threads, {options.rounds} rounds",
        f"limits: {found.read_bytes_per_second / 1e9:.1f} GB/s ({found.probe}); GFLOP/s: {rates}",
    ]
    for each in rows:
        busy = f", {each.disturbed_rounds} rounds disturbed" if each.disturbed_rounds else ""
        lines += [
            "",
            f"{each.dtype}, batch {each.batch}, context {each.context}; "
            f"prefill {each.prefill_gflops:.0f} GFLOP/s in linears{busy}",
            table(["part", "ms", "floor ms", "of the step"], part_lines(each)),
        ]
    lines += [f"not measured: {name}: {cause}" for name, cause in missing.items()]
    return "\n".join(lines)


def part_lines(each: Row) -> list[list[str]]:
    found = [
        [
            part.name,
            f"{part.ms:.2f}",
            "-" if part.floor_ms is None else f"{part.floor_ms:.2f}",
            f"{part.ms.median / each.step_ms.median:.0%}",
        ]
        for part in each.parts
    ]
    return [*found, ["step", f"{each.step_ms:.2f}", f"{each.floor_ms:.2f}", "100%"]]


if __name__ == "__main__":
    run(main)
