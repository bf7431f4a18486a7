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
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import yaml

from bench.audit import quantile
from sluicegate.auth import SigningKey, add_to_key_set, create_signing_key, issue_token, write_signing_key
from sluicegate.client import Client, Delta, GenerationConfig, StaticToken
from sluicegate.server.audit import create_secret
from sluicegate.server.demo.server import started
from sluicegate.server.demo.world import MODELS_DIRECTORY

ISSUER, AUDIENCE = "https://issuer.example", "bench"
MODELS = ("demo-xs", "demo-s", "demo-m", "demo-l")
PARTNERS = ("a", "b")
ACTIVE = "sluicegate_streams_active{"
SEED = 1
PROGRAM = Path(sys.executable).with_name("sluicegate")
CALL_SECONDS = 600.0


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
    key, draws = create_signing_key(), random.Random(SEED)  # noqa: S311
    settings = write_files(directory, key, load)
    with started(PROGRAM, settings, directory / "server.log", os.environ) as server:
        found = await asyncio.to_thread(server.wait_until_serving, lambda _: None)
        taken: list[Round] = []
        async with client_of("a", found.calls, key) as flooding, client_of("b", found.calls, key) as single:
            for number in range(rounds + 1):
                await idle(found.metrics)
                alone = await first_token_ms(single, load.model) if number % 2 else None
                beside, last = await beside_a_flood(flooding, single, load, draws)
                await idle(found.metrics)
                taken.append(Round(alone or await first_token_ms(single, load.model), beside, last))
        return taken[1:]


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


@asynccontextmanager
async def client_of(partner: str, address: str, key: SigningKey) -> AsyncIterator[Client]:
    """A connected client: what is measured is not the connection."""
    token = issue_token(
        key,
        issuer=ISSUER,
        audience=AUDIENCE,
        subject=partner,
        client_id=f"client-{partner}",
        scopes=[f"generate:{model}" for model in MODELS],
        now=time.time(),
    )
    async with Client(address, token=StaticToken(token), timeout=CALL_SECONDS) as client:
        await client.whoami()
        yield client


def write_files(directory: Path, key: SigningKey, load: Load) -> Path:
    """Settings, key set, and a policy with two partners whose quotas are never reached. Gives the settings' path."""
    add_to_key_set(directory / "jwks.json", key)
    source = MODELS_DIRECTORY / load.model
    parameters = json.loads((source / "evaluation.json").read_text(encoding="utf-8"))["shape"]["parameters"]
    release = {
        "apiVersion": "sluicegate/release/v1",
        "models": {load.model: {"parameters": parameters, "source": str(source), "license": "MIT"}},
        "stages": [{"id": "s1", "name": "first", "open": {load.model: "partner"}}],
        "active": "s1",
        "public": {"anonymous": "refuse", "quotas": {"output_tokens_per_call": 1}},
    }
    settings = {
        "listen": "127.0.0.1:0",
        "policy": {"directory": "policy", "signatures": "off"},
        "tokens": {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "keys": {"file": "jwks.json"}}]},
        "models": {load.model: {"device": "cpu", "slots": load.slots}},
        "engine": {"threads": 1},
        "limits": {
            "queued_requests": 4 * load.calls,  # of which one caller may have a quarter
            "peer_calls_per_minute": 1_000_000,
        },
        "drain": {"announce_seconds": 0, "grace_seconds": 5},
        "metrics": {"listen": "127.0.0.1:0"},
        "audit": {"directory": "audit", "key": "audit.jwk", "secret": "audit.secret"},
    }
    write_signing_key(directory / "audit.jwk", create_signing_key("EdDSA"))
    create_secret(directory / "audit.secret")
    (directory / "policy/agreements").mkdir(parents=True)
    for partner in PARTNERS:
        write(directory / f"policy/agreements/{partner}.yaml", agreement(partner, load.model))
    write(directory / "policy/release.yaml", release)
    write(directory / "sluicegate.yaml", settings)
    return directory / "sluicegate.yaml"


def agreement(partner: str, model: str) -> dict[str, object]:
    quotas = ("concurrent_streams", "requests_per_minute", "output_tokens_per_minute", "output_tokens_per_day")
    return {
        "id": f"agr-{partner}",
        "partner": f"partner-{partner}",
        "status": "active",
        "legal": {"document": "Agreement", "sha256": "0" * 64, "signed_on": "2026-01-12"},
        "valid": {"from": "2026-01-20T00:00:00Z", "until": "2099-01-01T00:00:00Z"},
        "clients": [{"issuer": ISSUER, "client": f"client-{partner}"}],
        "models": [model],
        "actions": ["generate"],
        "timezone": "UTC",
        "quotas": dict.fromkeys(quotas, 1_000_000_000),
    }


def write(path: Path, document: object) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
