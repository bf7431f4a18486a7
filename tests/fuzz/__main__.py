"""Fuzz for as long as it is told, and keep what was found: `python -m tests.fuzz --minutes 60`, where the Makefile is.

Exit codes: 0 nothing was found, 1 something was, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from pathlib import Path

from tests.fuzz.batches import Tally, run_batch
from tests.fuzz.targets import TARGETS

BATCH = 500
"""Inputs of one target before the next has its turn. Hypothesis remembers those of a batch: hence memory is bounded."""
MEMORY_BYTES = 4 << 30
"""An input for which the process would need more raises MemoryError, and that is a finding."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long; the batch in progress is finished")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--seed", type=int, default=None, help="the same seed tries the same inputs")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="directory for inputs")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    print(f"fuzz: seed {seed}, {options.minutes:g} min: {', '.join(options.only)}", flush=True)
    return _run(options.only, seed, time.monotonic() + options.minutes * 60, options.findings)


def _run(names: list[str], seed: int, until: float, directory: Path) -> int:
    tallies = {name: Tally() for name in names}
    places: set[tuple[str, str]] = set()
    seeds = random.Random(seed)
    while time.monotonic() < until:
        for name in names:
            target, tally = TARGETS[name], tallies[name]
            found = run_batch(name, target.check, target.inputs, tally, seed=seeds.getrandbits(32), examples=BATCH)
            for finding in found:
                if (name, finding.place) not in places:
                    places.add((name, finding.place))
                    print(f"fuzz: FOUND {name}: {finding.place}: {finding.save(directory)}", flush=True)
            if time.monotonic() >= until:
                break
        _show(tallies, len(places))
    return 1 if places else 0


def _show(tallies: dict[str, Tally], findings: int) -> None:
    total = sum(tally.executions for tally in tallies.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"fuzz: {total:,} executions, {findings} findings, peak {peak} MiB")
    for name, tally in tallies.items():
        share = tally.taken / max(1, tally.executions)
        print(
            f"  {name:<11} {tally.executions:>10,}  taken {share:>4.0%}  slowest {tally.slowest_seconds:.3f} s",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
