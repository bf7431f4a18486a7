"""What monitoring costs: tokens per second of a whole server with all of it on, beside one with all of it off.

    python -m bench.monitoring
    python -m bench.monitoring --streams 32 --rounds 12 --model demo-s --json

Two server processes as users run them, with the same demo model. One has signals on and its metrics scraped every
15 seconds; the other has signals off and is not scraped. Rounds go to them in turns, the other one idle meanwhile; what
counts is the ratio. bench/README.md says what is measured and what is not.

Beside it stands what one call costs by itself, in microseconds: on the event loop, and on the watcher's thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from bench.deployment import served
from bench.fairness import MODELS, Load, deployment
from sluicegate.auth import Audience, Grant, Quotas
from sluicegate.client import Client, GenerationConfig
from sluicegate.server.demo.world import MODELS_DIRECTORY
from sluicegate.server.limiters import Networks
from sluicegate.server.looking import Looking
from sluicegate.server.monitoring import Monitoring
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.signals import PiiScanner, load_lexicon
from sluicegate.server.signals.sketches import Sketches
from sluicegate.server.signals.watcher import Watcher
from sluicegate.server.tokenizer import Tokenizer

PARTNER = "a"
SCRAPE_SECONDS = 15.0
CALLS = 300
_TEXT = (
    "of the people and the work of our nation which we have begun together must be carried on in every town and "
    "on every farm until there is bread and peace and a roof for all who live here, and Congress will be asked to help "
    "in this with money and with laws that last longer than the year in which they were made by those who sat there"
)
TEXT = _TEXT.split()
PROMPTS = ("It was", "The people of this country", "We have", "I ask the Congress to")


@dataclass(frozen=True, slots=True)
class Round:
    """Output tokens per second, all streams together."""

    on: float
    off: float

    @property
    def ratio(self) -> float:
        return self.on / self.off


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.monitoring", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", choices=MODELS, default="demo-s", help="(%(default)s)")
    parser.add_argument("--streams", type=int, default=32, help="at once (%(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="of each stream (%(default)s)")
    parser.add_argument("--rounds", type=int, default=12, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        load = Load(arguments.model, arguments.streams, 0, arguments.tokens)
        rounds = asyncio.run(measured(Path(directory), load, arguments.rounds))
    found = summary(rounds) | asyncio.run(cost_of_a_call(load.model, load.tokens))
    if arguments.json:
        print(json.dumps({**asdict(load), **found, "rounds": [asdict(each) for each in rounds]}, indent=2))
        return 0
    print(f"{load.model}, {load.slots} streams of {load.tokens} tokens, {len(rounds)} rounds")
    print(f"monitoring on   {found['on']:>9.0f} tokens/s")
    print(f"monitoring off  {found['off']:>9.0f} tokens/s")
    print(f"ratio           {found['ratio']:.3f} ({found['lowest_ratio']:.3f}-{found['highest_ratio']:.3f})")
    print(f"one call        {found['loop_us']:.0f} us on the event loop, {found['thread_us']:.0f} us on the thread")
    return 0


def summary(rounds: Sequence[Round]) -> dict[str, float]:
    """Medians; the ratio is that of the rounds' own ratios, with their spread."""
    ratios = [each.ratio for each in rounds]
    return {
        "on": statistics.median(each.on for each in rounds),
        "off": statistics.median(each.off for each in rounds),
        "ratio": statistics.median(ratios),
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
    }


async def measured(directory: Path, load: Load, rounds: int) -> list[Round]:
    """All rounds, in either order by turns. The first warms up and does not count."""
    async with (
        client_of(directory / "on", load, is_on=True) as on,
        client_of(directory / "off", load, is_on=False) as off,
    ):
        taken: list[Round] = []
        for number in range(rounds + 1):
            if number % 2:
                with_it = await tokens_per_second(on, load)
                taken.append(Round(with_it, await tokens_per_second(off, load)))
            else:
                without = await tokens_per_second(off, load)
                taken.append(Round(await tokens_per_second(on, load), without))
        return taken[1:]


async def cost_of_a_call(model: str, tokens: int) -> dict[str, float]:
    """Microseconds of a call with so many output tokens, in the median: on the event loop, and on the thread."""
    metrics, watcher, sketches = Metrics(flagged_categories=load_lexicon().categories), Watcher(), Sketches(bytes(32))
    metrics.allow([model], ["partner-a"])
    looking = Looking(sketches, metrics, load_lexicon(), PiiScanner, with_memorisation=True, clock=time.time)
    monitoring = Monitoring(watcher, sketches, looking, metrics, networks=Networks(32, 64))
    tokenizer = Tokenizer.load(MODELS_DIRECTORY / model)
    loop_us, thread_us = list[float](), list[float]()
    for number in range(CALLS):
        prompt = f"{PROMPTS[number % len(PROMPTS)]} {number} " + " ".join(TEXT[number % 7 : number % 7 + 60])
        begun = time.perf_counter()
        with monitoring.generation(_grant(model), prompt, tokenizer, 1) as observation:
            observation.begin()
            for index in range(tokens):
                observation.add(0, " " + TEXT[index % len(TEXT)], -3.0)
        handed_over = time.perf_counter()
        await watcher.run(lambda: None)
        loop_us.append((handed_over - begun) * 1e6)
        thread_us.append((time.perf_counter() - handed_over) * 1e6)
    await watcher.close(1.0)
    return {"loop_us": statistics.median(loop_us), "thread_us": statistics.median(thread_us)}


def _grant(model: str) -> Grant:
    return Grant(
        action="generate",
        model=model,
        audience=Audience.PARTNER,
        stage="s1",
        policy_revision="0" * 64,
        agreement="agr-a",
        partner="partner-a",
        max_output_tokens=None,
        watermark=False,
        redaction=None,
        stop_flagged=False,
        outside_hours=False,
        expires_at=2**40,
        quotas=Quotas(),
    )


@asynccontextmanager
async def client_of(directory: Path, load: Load, *, is_on: bool) -> AsyncIterator[Client]:
    """A server with monitoring on or off, and a client of it."""
    async with served(directory, deployment(load, signals={"enabled": is_on})) as server, AsyncExitStack() as stack:
        if is_on:
            scraping = asyncio.create_task(scrape(server.metrics))
            stack.callback(scraping.cancel)
        yield await stack.enter_async_context(server.client(PARTNER))


async def scrape(address: str) -> None:
    """Read the metrics as a Prometheus would, until cancelled."""
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            (await client.get(f"http://{address}/metrics")).raise_for_status()
            await asyncio.sleep(SCRAPE_SECONDS)


async def tokens_per_second(client: Client, load: Load) -> float:
    """Run all streams at once."""

    async def run(prompt: str) -> int:
        tokens = 0
        config = GenerationConfig(max_output_tokens=load.tokens, ignore_eos=True)
        async with client.stream(load.model, prompt, config) as stream:
            async for _ in stream:
                pass
            tokens = stream.usage.output_tokens
        return tokens

    begun = time.perf_counter()
    counts = await asyncio.gather(*(run(PROMPTS[index % len(PROMPTS)]) for index in range(load.slots)))
    return sum(counts) / (time.perf_counter() - begun)


if __name__ == "__main__":
    sys.exit(main())
