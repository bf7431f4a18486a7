"""Generation on a CUDA device beside transformers on the same one, and how near its decode steps are to its limits.

    python -m bench.gpu
    python -m bench.gpu --shapes 124m 1558m --batch 1 64 --profile --json

Our engine runs in this process, scheduler and overlapped steps included, messages and server not. Beside it, in turns:
transformers' `generate` with a static cache, which it compiles, and its continuous batching. bench/README.md says how a
round is made and what the floor is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.checkpoint import cache_directory, random_checkpoint
from bench.figures import Spread, paired, spread
from bench.limits import Limits
from bench.model import StepModel
from bench.terminal import document, headline, run, say, table
from bench.work import SHAPES, Request, requests
from sluicegate.server.engine.messages import Load, Sampling, Submit
from sluicegate.server.engine.runner import OverlappingRunner, Runner
from sluicegate.server.engine.scheduler import Scheduler
from sluicegate.server.engine.steps import OverlappedSteps, PlainSteps, Steps
from sluicegate.server.gpt2.loading import load_runner
from sluicegate.server.observe.log import configure

DTYPE = "bfloat16"
STEP_TOKENS = 2_048
BATCHES = (1, 8, 64, 256)
COPY_BYTES = 1 << 30
PRODUCT = 8_192  # rows, columns and depth
REPEATS = 20
LONGEST_NAME = 60
NO_DEVICE = (
    "bench.gpu needs a CUDA device, and torch {version} finds none: "
    "check the driver and CUDA_VISIBLE_DEVICES, or install a CUDA build of torch"
)

Generate = Callable[[Sequence[Request]], None]


@dataclass(frozen=True, slots=True)
class Timed:
    """One round of one engine: seconds of its prompts with a token each, and of the whole."""

    prefill: float
    whole: float

    def decode_rate(self, batch: int, tokens: int) -> float:
        """Tokens a second: what the whole has more, over what it takes longer."""
        return batch * (tokens - 1) / (self.whole - self.prefill)


@dataclass(frozen=True, slots=True)
class Row:
    """One shape and batch. Rates are decode tokens a second; ratios are ours over the peer's, round by round.

    `of_floor`: the least time that a decode step can take, over the time that it takes.
    """

    shape: str
    batch: int
    rates: dict[str, Spread]
    ratios: dict[str, Spread]
    of_floor: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of a step: how often it runs, and its share of the device's time."""

    name: str
    calls: int
    microseconds: float
    share: float


@dataclass(slots=True)
class Found:
    """What came out."""

    rows: list[Row] = field(default_factory=list)
    profiles: dict[str, list[Kernel]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def main() -> int:
    """Measure and print."""
    options = parsed()
    if not torch.cuda.is_available():
        say(NO_DEVICE.format(version=torch.__version__))
        return 2
    configure("warning", "console")
    limits, found = measured_limits(), Found()
    for shape in options.shapes:
        measure_shape(options, shape, limits, found)
    if options.json:
        results = {"device": torch.cuda.get_device_name(), "limits": limits, **vars_of(found)}
        print(document("gpu", options, results, ("sluicegate", "torch", "transformers")))
    else:
        print(page(options, limits, found))
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").split("\n", 1)[0])
    shapes = [shape for shape in SHAPES if shape != "7m"]
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=shapes, help="of the random weights (%(default)s)"
    )
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES), help="sequences at once (%(default)s)")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt (%(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="of output, for each prompt (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--alone", action="store_true", help="without transformers")
    parser.add_argument("--profile", action="store_true", help="where the device's time goes in a decode step")
    parser.add_argument("--directory", type=Path, default=cache_directory(), help="of checkpoints, kept (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    if options.tokens < 2 or options.prompt < 1 or options.rounds < 1 or min(options.batch) < 1:
        parser.error("--tokens needs 2 at least, --prompt, --batch and --rounds 1")
    return options


def measure_shape(options: argparse.Namespace, shape: str, limits: Limits, found: Found) -> None:
    """All batches of one shape that fit."""
    checkpoint = random_checkpoint(shape, options.directory)
    runner = load_runner(
        Load(
            model=shape,
            directory=str(checkpoint),
            weights_sha256=None,
            device="cuda",
            dtype=DTYPE,
            slots=None,
            step_tokens=STEP_TOKENS,
            memory_share=0.5,  # the peer's cache wants as much
        )
    )
    peers = {} if options.alone else transformers_peers(checkpoint)
    model = StepModel(SHAPES[shape], DTYPE, runner.facts.cache_bytes / runner.facts.slots / 1_024, limits)
    for batch in options.batch:
        name = f"{shape}, batch {batch}"
        if batch > runner.facts.slots:
            found.missing[name] = f"{runner.facts.slots} slots fit"
            continue
        engines = {"ours": lambda work: serve(runner, work), **peers}
        rounds = measure(options, name, batch, engines, found.missing)
        found.rows.append(row(options, shape, batch, rounds, model))
        if options.profile:
            found.profiles[name] = profile(runner, batch, options.prompt)


def measure(
    options: argparse.Namespace, name: str, batch: int, engines: dict[str, Generate], missing: dict[str, str]
) -> dict[str, list[Timed]]:
    """All rounds, the engines in turns; one that fails is left out, and the cause noted."""
    rounds: dict[str, list[Timed]] = {engine: [] for engine in engines}
    for number in range(options.rounds + 1):
        for engine in list(rounds):
            short, whole = (
                requests(batch, "equal", options.prompt, tokens, turn=2 * number + part)
                for part, tokens in enumerate((1, options.tokens))
            )
            try:
                timed = Timed(seconds_of(engines[engine], short), seconds_of(engines[engine], whole))
            except Exception as error:
                if engine == "ours":
                    raise
                missing[f"{name}, {engine}"] = f"{type(error).__name__}: {error}"
                del rounds[engine]
                continue
            say(f"{name}, round {number} of {options.rounds}: {engine} {timed.whole:.2f} s")
            if number:
                rounds[engine].append(timed)
    return rounds


def row(options: argparse.Namespace, shape: str, batch: int, rounds: dict[str, list[Timed]], model: StepModel) -> Row:
    rates = {engine: [each.decode_rate(batch, options.tokens) for each in taken] for engine, taken in rounds.items()}
    spreads = {engine: spread(taken) for engine, taken in rates.items()}
    floor = model.seconds(batch, options.prompt + options.tokens // 2)
    return Row(
        shape=shape,
        batch=batch,
        rates=spreads,
        ratios={engine: paired(rates["ours"], taken) for engine, taken in rates.items() if engine != "ours"},
        of_floor=floor / (batch / spreads["ours"].median),
    )


# The engines


def serve(runner: Runner, work: Sequence[Request]) -> None:
    """All requests at once through scheduler and steps, to their ends."""
    scheduler, steps = stepping(runner)
    for number, request in enumerate(work):
        scheduler.submit("bench", submission(str(number), request))
    while steps.has_work:
        steps.turn()
        scheduler.take_events()


def stepping(runner: Runner) -> tuple[Scheduler, Steps]:
    scheduler = Scheduler(runner, step_tokens=STEP_TOKENS, prefix_reuse=False, clock=time.monotonic)
    if isinstance(runner, OverlappingRunner):
        return scheduler, OverlappedSteps(scheduler, runner)
    return scheduler, PlainSteps(scheduler, runner, time.monotonic)


def submission(name: str, request: Request) -> Submit:
    sampling = Sampling(temperature=0, max_output_tokens=request.output, ignore_eos=True)
    return Submit(request=name, model="bench", prompt=request.prompt, sampling=sampling)


def transformers_peers(checkpoint: Path) -> dict[str, Generate]:
    """transformers' two ways, over one model."""
    import transformers

    model: Any = transformers.GPT2LMHeadModel.from_pretrained(checkpoint, dtype=torch.bfloat16)
    model = model.eval().to("cuda")

    @torch.inference_mode()
    def static(work: Sequence[Request]) -> None:
        ids = torch.tensor([request.prompt for request in work], device="cuda")
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=work[0].output,
            min_new_tokens=work[0].output,
            do_sample=False,
            cache_implementation="static",
            pad_token_id=0,
        )

    def continuous(work: Sequence[Request]) -> None:
        configuration: Any = transformers.GenerationConfig
        config = configuration(max_new_tokens=work[0].output, do_sample=False, eos_token_id=-1, pad_token_id=0)
        model.generate_batch([request.prompt for request in work], generation_config=config, progress_bar=False)

    return {"generate": static, "continuous batching": continuous}


def seconds_of(generate: Generate, work: Sequence[Request]) -> float:
    """Of the device, too: nothing is left in flight."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    generate(work)
    torch.cuda.synchronize()
    return time.perf_counter() - begun


# The device


def measured_limits() -> Limits:
    """By a copy, whose bytes count twice, and by a large product."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copied = event_seconds(lambda: target.copy_(source))
    factor = torch.randn(PRODUCT, PRODUCT, dtype=torch.bfloat16, device="cuda")
    multiplied = event_seconds(lambda: factor @ factor)
    return Limits(2 * COPY_BYTES / copied, {DTYPE: 2 * PRODUCT**3 / multiplied}, "a copy on the device")


def event_seconds(work: Callable[[], object]) -> float:
    """The median of some repeats, by the device's own clock."""
    event: Any = torch.cuda.Event
    taken = list[float]()
    for _ in range(REPEATS):
        begin, end = event(enable_timing=True), event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(taken)


def profile(runner: Runner, batch: int, prompt: int) -> list[Kernel]:
    """The kernels of one decode step, the longest first."""
    scheduler, steps = stepping(runner)
    for number, request in enumerate(requests(batch, "equal", prompt, 32)):
        scheduler.submit("bench", submission(str(number), request))
    for _ in range(16):
        steps.turn()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as recorded:
        steps.turn()
        torch.cuda.synchronize()
    while steps.has_work:
        steps.turn()
    return kernels(
        (str(event.key), int(event.count), float(event.device_time_total)) for event in recorded.key_averages()
    )


def kernels(events: Iterable[tuple[str, int, float]]) -> list[Kernel]:
    """Of names, calls and microseconds: those that took any, the longest first, with their shares."""
    taken = sorted((event for event in events if event[2] > 0), key=lambda event: -event[2])
    total = sum(microseconds for _, _, microseconds in taken)
    return [Kernel(name, calls, microseconds, microseconds / total) for name, calls, microseconds in taken]


# The page


def vars_of(found: Found) -> dict[str, object]:
    return {"rows": found.rows, "profiles": found.profiles, "missing": found.missing}


def page(options: argparse.Namespace, limits: Limits, found: Found) -> str:
    """For people."""
    lines = [
        f"{torch.cuda.get_device_name()}; {headline()}",
        f"{DTYPE}, greedy, {options.prompt} tokens in, {options.tokens} out, {options.rounds} rounds",
        f"limits: {limits.read_bytes_per_second / 1e9:.0f} GB/s ({limits.probe}), "
        f"{limits.flops_per_second[DTYPE] / 1e12:.0f} TFLOP/s",
        table(["shape, batch", "decode tokens/s", "of the floor", "against"], [cells(each) for each in found.rows]),
    ]
    for name, taken in found.profiles.items():
        top = [
            [each.name[:LONGEST_NAME], str(each.calls), f"{each.microseconds:.0f}", f"{each.share:.0%}"]
            for each in taken[:12]
        ]
        lines += ["", f"{name}: one decode step", table(["kernel", "calls", "us", "share"], top)]
    lines += [f"not measured: {name}: {cause}" for name, cause in found.missing.items()]
    return "\n".join(lines)


def cells(each: Row) -> list[str]:
    against = ", ".join(f"{engine} x{ratio:.2f}" for engine, ratio in each.ratios.items())
    return [f"{each.shape}, {each.batch}", f"{each.rates['ours']:.0f}", f"{each.of_floor:.2f}", against or "-"]


if __name__ == "__main__":
    run(main)
