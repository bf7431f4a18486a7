"""What the sketches of misuse signals cost: each prompt, output and token that is seen, and each exchange of replicas.

    python -m bench.sketches
    python -m bench.sketches --json

The sketches alone, in one thread: no server, no store. Prompts are made-up words, all of them unlike: the dearest case,
since each is compared with everything remembered. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from bench.figures import quantile
from sluicegate.server.signals.sketches import Sketches
from sluicegate.server.signals.sketches.fingerprints import Fingerprints

SALT = b"s" * 32
NOW = 1_770_000_000.0
SIZES = (100, 500, 4_000, 8_192, 100_000)
REMEMBERED = 5_000
"""Prompts and outputs seen before the measurement: all bounds are reached."""
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "we", "zi")


@dataclass(frozen=True, slots=True)
class Result:
    """One part, in microseconds."""

    part: str
    p50_us: float
    p99_us: float


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.sketches", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--calls", type=int, default=2_000, help="of each part (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()
    results = [*of_fingerprints(arguments.calls), *of_sketches(arguments.calls), *of_exchange(arguments.calls // 40)]
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return 0
    print(f"{'part':<58}    p50 µs    p99 µs")
    for each in results:
        print(f"{each.part:<58}  {each.p50_us:>8.1f}  {each.p99_us:>8.1f}")
    return 0


def of_fingerprints(calls: int) -> list[Result]:
    """SimHash alone, by the length of the text."""
    prints = Fingerprints(SALT)
    found = []
    for size in SIZES:
        texts = [text(number, size) for number in range(50)]
        count = min(calls, 4_000_000 // size)
        taken = timed(lambda number, texts=texts: prints.of_text(texts[number % 50]), count)  # type: ignore[misc]
        found.append(result(f"fingerprint of {size:,} characters", taken))
    return found


def of_sketches(calls: int) -> list[Result]:
    """All that a call costs, with all bounds reached."""
    seen = filled(0)
    texts = [text(REMEMBERED + number, 500) for number in range(calls)]
    tokens = [number.to_bytes(8, "big") for number in range(calls)]
    return [
        result("prompt of 500 characters, seen", timed(lambda n: seen.see_prompt("a", texts[n], NOW), calls)),
        result("output of 500 characters, seen", timed(lambda n: seen.see_output("a", texts[n], NOW), calls)),
        result("token and network, seen", timed(lambda n: seen.see_token("a", tokens[n], b"n", NOW), calls)),
    ]


def of_exchange(turns: int) -> list[Result]:
    """What one partner costs each exchange if it is busy, with three replicas."""
    own, others = filled(0), [filled(1), filled(2)]
    told = [other.changed(NOW)["a"] for other in others]

    def change(number: int) -> None:
        own.see_prompt("a", text(-number, 500), NOW)

    taken: dict[str, list[float]] = {"told": [], "heard": [], "added up": []}
    for number in range(turns):
        change(number)
        taken["told"].append(once(lambda: own.changed(NOW)))
        for place, data in enumerate(told):
            taken["heard"].append(once(lambda place=place, data=data: own.absorb(f"{place}", "a", data)))  # type: ignore[misc]
        taken["added up"].append(once(lambda: own.figures(NOW)))
    size = len(told[0])
    return [
        result(f"a busy partner's extract ({size:,} bytes) made", taken["told"]),
        result("another replica's extract read", taken["heard"]),
        result("figures of one busy partner over three replicas", taken["added up"]),
    ]


def filled(seed: int) -> Sketches:
    """Sketches of a partner that has sent more than is remembered, for a day."""
    seen = Sketches(SALT)
    for hour in range(24):
        for number in range(REMEMBERED // 24 if hour < 23 else REMEMBERED):
            now = NOW - (23 - hour) * 3_600
            seen.see_prompt("a", text((seed, hour, number).__hash__(), 60), now)
            seen.see_output("a", text((seed, hour, -number).__hash__(), 60), now)
            seen.see_token("a", f"{seed}/{hour}/{number}".encode(), b"n", now)
    return seen


def text(seed: int, size: int) -> str:
    """So many characters of made-up words."""
    chance = random.Random(seed)  # noqa: S311
    words = ("".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(size // 2))
    return " ".join(words)[:size]


def timed(work: Callable[[int], object], count: int) -> list[float]:
    return [once(lambda number=number: work(number)) for number in range(count)]  # type: ignore[misc]


def once(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e6


def result(part: str, taken: Sequence[float]) -> Result:
    ordered = sorted(taken[len(taken) // 10 :])  # the first ones warm up
    return Result(part, statistics.median(ordered), quantile(ordered, 0.99))


if __name__ == "__main__":
    sys.exit(main())
