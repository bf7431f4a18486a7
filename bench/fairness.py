"""What a flood of one partner costs another: the wait for the first token of a single call, beside its wait alone.

    python -m bench.fairness
    python -m bench.fairness --queued 64 --rounds 30 --json

A server process as users run it, with a demo model. A round makes partner B's call twice, alone and beside the calls
of partner A that fill the slots and the queue, in one order and the next time in the other. What counts is the ratio;
bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from bench.deployment import Deployment, served
from bench.figures import quantile
from sluicegate.client import Client, Delta, GenerationConfig
from sluicegate.server.demo.world import MODELS_DIRECTORY

MODELS = ("demo-xs", "demo-s", "demo-m", "demo-l")
PARTNERS = ("a", "b")
ACTIVE = "sluicegate_streams_active{"
SEED = 1


@dataclass(frozen=True, slots=True)
class Round:
    """Milliseconds to the first token: of B's call alone and beside A's, and of A's last call from that moment on."""

    alone_ms: float
    beside_ms: float
    last_of_flood_ms: float

    @property
    def ratio(self) -> float:
        return self.beside_ms / self.alone_ms


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", choices=MODELS, default="demo-s", help="(%(default)s)")
    parser.add_argument("--slots", type=int, default=8, help="of the model (%(default)s)")
    parser.add_argument(
        "--queued", type=int, default=64, help="calls of A that wait, beside those with slots (%(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=128, help="of each call of A, half more or less (%(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()
    load = Load(arguments.model, arguments.slots, arguments.queued, arguments.tokens)
    with tempfile.TemporaryDirectory() as directory:
        rounds = asyncio.run(measured(Path(directory), load, arguments.rounds))
    if arguments.json:
        print(json.dumps({**asdict(load), **summary(rounds), "rounds": [asdict(each) for each in rounds]}, indent=2))
        return 0
    print(", ".join(f"{name} {value}" for name, value in asdict(load).items()))
    print("first token          p50 ms    p99 ms")
    for name, values in (
        ("B's, alone", [each.alone_ms for each in rounds]),
        ("B's, beside A", [each.beside_ms for each in rounds]),
        ("of A's last call", [each.last_of_flood_ms for each in rounds]),
    ):
        ordered = sorted(values)
        print(f"{name:<17}  {quantile(ordered, 0.5):>8.1f}  {quantile(ordered, 0.99):>8.1f}")
    found = summary(rounds)
    spread = f"{found['lowest_ratio']:.2f}-{found['highest_ratio']:.2f}"
    print(f"B's ratio: {found['ratio']:.2f} ({spread}) in {len(rounds)} rounds")
    return 0


@dataclass(frozen=True, slots=True)
class Load:
    """What A asks for, of which model."""

    model: str
    slots: int
    queued: int
    tokens: int

    @property
    def calls(self) -> int:
        return self.slots + self.queued


def summary(rounds: Sequence[Round]) -> dict[str, float]:
    """The median of the rounds' own ratios, and their spread."""
    ratios = [each.ratio for each in rounds]
    return {"ratio": statistics.median(ratios), "lowest_ratio": min(ratios), "highest_ratio": max(ratios)}


async def measured(directory: Path, load: Load, rounds: int) -> list[Round]:
    """All rounds. The first warms up and does not count."""
    draws = random.Random(SEED)  # noqa: S311
    async with served(directory / "server", deployment(load)) as server:
        taken: list[Round] = []
        async with server.client("a") as flooding, server.client("b") as single:
            for number in range(rounds + 1):
                await idle(server.metrics)
                alone = await first_token_ms(single, load.model) if number % 2 else None
                beside, last = await beside_a_flood(flooding, single, load, draws)
                await idle(server.metrics)
                taken.append(Round(alone or await first_token_ms(single, load.model), beside, last))
        return taken[1:]


def deployment(load: Load, **more: object) -> Deployment:
    """A server of a demo model for both partners, with these further sections of settings."""
    source = MODELS_DIRECTORY / load.model
    parameters = json.loads((source / "evaluation.json").read_text(encoding="utf-8"))["shape"]["parameters"]
    return Deployment(
        model=load.model,
        checkpoint=source,
        parameters=parameters,
        slots=load.slots,
        queued=load.calls,
        threads=1,
        partners=PARTNERS,
        more=more,
    )


async def beside_a_flood(flooding: Client, single: Client, load: Load, draws: random.Random) -> tuple[float, float]:
    """B's wait once A's slots are taken and the rest of its calls wait, and how long A's last one still waits then.

    A's calls differ in length, so that slots come free one by one. What of them still runs is cancelled.
    """
    begun = asyncio.Semaphore(0)
    lengths = [draws.randint(load.tokens // 2, load.tokens * 3 // 2) for _ in range(load.calls)]
    calls = [asyncio.create_task(run(flooding, load.model, tokens, begun)) for tokens in lengths]
    try:
        await several(begun, load.slots)
        since = time.perf_counter()
        wait = await first_token_ms(single, load.model)
        await several(begun, load.queued)
        return wait, (time.perf_counter() - since) * 1e3
    finally:
        for call in calls:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        failed = [end for end in ended if isinstance(end, Exception)]
        if failed:
            raise failed[0]


async def run(client: Client, model: str, tokens: int, begun: asyncio.Semaphore) -> None:
    """One call of A."""
    has_begun = False
    async with client.stream(model, "It was", GenerationConfig(max_output_tokens=tokens, ignore_eos=True)) as stream:
        async for event in stream:
            if isinstance(event, Delta) and not has_begun:
                has_begun = True
                begun.release()


async def several(begun: asyncio.Semaphore, count: int) -> None:
    """Wait until so many more have begun."""
    for _ in range(count):
        await begun.acquire()


async def idle(metrics: str) -> None:
    """Wait until the engine has nothing left to do: callers who left are forgotten a moment later."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            lines = (await client.get(f"http://{metrics}/metrics")).text.splitlines()
            running = [line for line in lines if line.startswith(("sluicegate_engine_sequences_running{", ACTIVE))]
            if not any(float(line.rpartition(" ")[2]) for line in running):
                return
            await asyncio.sleep(0.01)


async def first_token_ms(client: Client, model: str) -> float:
    """From the call to its first text."""
    begun = time.perf_counter()
    async with client.stream(model, "It was", GenerationConfig(max_output_tokens=1, ignore_eos=True)) as stream:
        async for event in stream:
            if isinstance(event, Delta):
                return (time.perf_counter() - begun) * 1e3
    raise RuntimeError("the call ended without a token")


if __name__ == "__main__":
    sys.exit(main())
