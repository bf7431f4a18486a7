"""The same work through other engines and through ours, engine and whole server: paired rounds at known accuracy.

    python -m bench.peers --only engine transformers     needs nothing that is not here
    python -m bench.peers --batch 1 8 32 --lengths equal unequal --formats bfloat16 int8 --json

Each engine stays loaded in a process of its own and idles while another works. A round gives each of them the same
work, one after the other, and begins with another engine than the round before. bench/README.md says what is measured
and what is not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.checkpoint import cache_directory, random_checkpoint
from bench.peers import environments
from bench.peers.accuracy import LAST, TEXT_TOKENS, Reference, probes, read_rows, relative_error
from bench.peers.catalog import FORMATS, NAMES, PEERS, Peer, baseline
from bench.peers.conversation import EngineProcess, Missing, started
from bench.peers.environments import EnvironmentNotMade
from bench.peers.page import page
from bench.peers.results import Case, Facts, Findings, Measured, measured, rotated, row
from bench.peers.serving import Setup
from bench.terminal import document, run, say
from bench.work import LENGTHS, OUTPUT_TOKENS, PROMPT_TOKENS, SHAPES, Lengths, Request, Shape, requests

SETTLE_SECONDS = 0.5
"""Between two engines' turns: OpenMP's threads spin for up to 0.2 s after their last work (KMP_BLOCKTIME)."""
IDLE_SECONDS = 2.0
IDLE_CORES = 0.05
"""More than that of an engine that nobody asks, and it takes from the others."""
RUNTIME_BYTES = 1 << 30
"""What an engine needs beside weights and cache, at a guess."""
CONTEXT_MULTIPLE = 64
SMALLEST = "bfloat16"
"""Of the formats that ours offers."""
PACKAGES = ("sluicegate", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine in one format, and what was found of it so far."""

    process: EngineProcess
    format: str
    rounds: dict[Case, list[Measured]] = field(default_factory=dict)
    ids: dict[Case, list[list[int]]] = field(default_factory=dict)  # of the last round

    @property
    def name(self) -> str:
        return label(self.process.peer, self.format)


def main() -> int:
    """Measure and print."""
    options = parsed()
    checkpoint = random_checkpoint(options.shape, options.directory)
    with tempfile.TemporaryDirectory() as directory:
        found = compared(options, checkpoint, Path(directory))
    if options.json:
        results = {"rows": found.rows, "engines": list(found.facts.values()), "missing": found.missing}
        print(document("peers", options, results, PACKAGES))
    else:
        print(page(options, cases(options), found))
    return 0 if found.rows else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=f"of {NAMES}")
    parser.add_argument("--shape", choices=SHAPES, default="124m", help="of the random weights (%(default)s)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["bfloat16"], help="(%(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32], help="requests at once (%(default)s)")
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=["equal"], help="(%(default)s)")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each equal request (%(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="of output, of each equal request (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of each engine (%(default)s)")
    parser.add_argument("--venvs", type=Path, default=cache_directory() / "venvs", help="kept (%(default)s)")
    parser.add_argument("--directory", type=Path, default=cache_directory(), help="of checkpoints, kept (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    if options.tokens < 2 or options.prompt < 1 or min(options.batch) < 1 or options.rounds < 1:
        parser.error("--tokens needs 2 at least, --prompt, --batch and --rounds 1")
    return options


def compared(options: argparse.Namespace, checkpoint: Path, scratch: Path) -> Findings:
    """Load all engines, make all rounds, then judge what they gave."""
    found = Findings()
    peers = [peer for peer in PEERS if peer.name in options.only]
    with ExitStack() as stack:
        engines = {engine.name: engine for engine in loaded(options, checkpoint, peers, found.missing, stack)}
        idle = idle_cores(list(engines.values()))
        for case in cases(options):
            make_rounds(options, case, engines, found.missing)
        # Memory first: for their logits some load the model once more.
        peaks = {name: engine.process.peak_bytes() for name, engine in engines.items()}
        rows = {name: logits_of(engine, scratch / str(number)) for number, (name, engine) in enumerate(engines.items())}
    say("judging tokens and logits by float32")
    judge = Reference(checkpoint)
    reference = judge.logits(probes(), LAST)
    for name, engine in engines.items():
        file = rows[name]
        found.facts[name] = Facts(
            name=name,
            form=engine.process.form,
            versions=engine.process.versions,
            load_seconds=engine.process.load_seconds,
            peak_mib=peaks[name] >> 20,
            idle_cores=idle[name],
            logit_error=relative_error(read_rows(file), reference) if isinstance(file, Path) else None,
            note="" if isinstance(file, Path) else file,
        )
    for case in cases(options):
        work = work_of(options, case, 2 * options.rounds + 1)  # of the last round
        for engine in engines.values():
            if rounds := engine.rounds.get(case):
                agreement = judge.agreement(work, engine.ids[case])
                ours = None if engine.process.peer.is_ours else ours_for(engine, engines, case)
                found.rows.append(row((engine.name, engine.process.form), case, rounds, ours, agreement))
    return found


def ours_for(engine: Engine, engines: Mapping[str, Engine], case: Case) -> tuple[str, Sequence[Measured]] | None:
    """What a peer is compared with: ours in its format, or in our smallest where we do not offer it."""
    for format_ in (engine.format, SMALLEST):
        name = f"{baseline(engine.process.peer)} {format_}"
        if name in engines and (rounds := engines[name].rounds.get(case)):
            return name, rounds
    return None


def cases(options: argparse.Namespace) -> list[Case]:
    return [Case(batch, lengths) for lengths in options.lengths for batch in options.batch]


def work_of(options: argparse.Namespace, case: Case, turn: int) -> list[Request]:
    return requests(case.batch, case.lengths, options.prompt, options.tokens, turn=turn)


def loaded(
    options: argparse.Namespace, checkpoint: Path, peers: Sequence[Peer], missing: dict[str, str], stack: ExitStack
) -> Iterator[Engine]:
    """Those of the engines that can be loaded; the others go into `missing`."""
    logs = options.directory / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for peer in peers:
        try:
            python = environments.python_of(peer.environment, options.venvs)
        except EnvironmentNotMade as error:
            missing |= {label(peer, format_): str(error) for format_ in options.formats}
            continue
        for format_ in options.formats:
            name = label(peer, format_)
            say(f"{name}: loading")
            setup = Setup(
                checkpoint=checkpoint,
                work=options.directory / f"gpt2-{options.shape}-converted",
                format=format_,
                slots=max(options.batch),
                context=context_of(options.lengths, options.prompt, options.tokens),
                threads=options.threads,
            )
            log = logs / f"{name.replace(' ', '-')}.log"
            try:
                require_memory(SHAPES[options.shape], setup)
                preload = environments.preloaded(peer.environment, options.venvs)
                yield Engine(stack.enter_context(started(peer, setup, python, preload, log)), format_)
            except Missing as error:
                say(f"{name}: {error}")
                missing[name] = str(error)


def require_memory(shape: Shape, setup: Setup) -> None:
    """Raises Missing where this engine would push those already loaded out of memory."""
    needed, free = memory_bytes(shape, setup), machine.available_bytes()
    if needed > free:
        raise Missing(f"needs about {needed >> 20} MiB, {free >> 20} are free beside the others; measure with --only")


def memory_bytes(shape: Shape, setup: Setup) -> int:
    """An engine's need at a guess: weights as they are read and as they are kept, a cache twice, and its runtime."""
    weights = 2 * 4 * shape.parameters
    cache = 2 * 4 * shape.layers * shape.width * setup.slots * setup.context
    return weights + cache + RUNTIME_BYTES


def context_of(lengths: Sequence[Lengths], prompt: int, tokens: int) -> int:
    """Tokens that a slot must hold, those of the texts whose logits are compared included, rounded up."""
    longest = {"equal": prompt + tokens, "unequal": PROMPT_TOKENS[1] + OUTPUT_TOKENS[1]}
    most = max(TEXT_TOKENS + 1, *(longest[each] for each in lengths))
    return -(-most // CONTEXT_MULTIPLE) * CONTEXT_MULTIPLE


def logits_of(engine: Engine, path: Path) -> Path | str:
    """A file of the engine's logits, or why there is none."""
    say(f"{engine.name}: logits")
    try:
        return engine.process.logits(probes(), LAST, path)
    except Missing as error:
        return str(error)


def idle_cores(engines: Sequence[Engine]) -> dict[str, float]:
    """What each keeps busy while nobody asks it."""
    time.sleep(SETTLE_SECONDS)
    with ExitStack() as stack:
        uses = {engine.name: stack.enter_context(machine.usage([engine.process.pid])) for engine in engines}
        time.sleep(IDLE_SECONDS)
    found = {name: use.own / use.seconds for name, use in uses.items()}
    for name, busy in found.items():
        if busy > IDLE_CORES:
            say(f"{name}: keeps {busy:.2f} cores busy while it is idle; the others' rows suffer")
    return found


def make_rounds(options: argparse.Namespace, case: Case, engines: dict[str, Engine], missing: dict[str, str]) -> None:
    """All rounds of one case. The first warms up and does not count; an engine that fails leaves the case."""
    taking = dict(engines)
    for number in range(options.rounds + 1):
        prefill = [Request(request.prompt, 1) for request in work_of(options, case, 2 * number)]
        work = work_of(options, case, 2 * number + 1)
        for name in rotated(list(engines), number):
            if (engine := taking.get(name)) is None:
                continue
            time.sleep(SETTLE_SECONDS)
            try:
                first, whole = engine.process.generate(prefill), engine.process.generate(work)
            except Missing as error:
                say(f"{name}, batch {case.batch}: {error}")
                missing[f"{name}, batch {case.batch}, {case.lengths}"] = str(error)
                taking.pop(name).rounds.pop(case, None)
                continue
            taken = measured(work, first, whole)
            say(
                f"batch {case.batch}, {case.lengths}, round {number} of {options.rounds}: "
                f"{name} {taken.tokens_per_second:.1f} tokens/s{', disturbed' if taken.is_disturbed else ''}"
            )
            if number:
                engine.rounds.setdefault(case, []).append(taken)
                engine.ids[case] = whole.output.ids


def label(peer: Peer, format_: str) -> str:
    return f"{peer.name} {format_}"


if __name__ == "__main__":
    run(main)
