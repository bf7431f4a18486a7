"""The whole server over gRPC, every access check on: speed beside the engine alone, and latency under load.

    python -m bench.serve                                closed loop, beside the engine alone
    python -m bench.serve --modes poisson stall          arrivals at random; a long prompt among running streams
    python -m bench.serve --dtype bfloat16 --streams 8 32 --json

The server runs as users run it, with its engine in a process of its own; the client is this process. What chunked
prefill does is seen beside a server whose steps read prompts whole. bench/README.md says what is measured and what
is not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import machine
from bench.checkpoint import cache_directory, random_checkpoint
from bench.deployment import Deployment, served
from bench.driving import MODEL, STEP_TOKENS, Answer, engine_stream, running_engine, server_stream
from bench.figures import Spread, paired, spread
from bench.loads import (
    Arrival,
    Ask,
    Outcome,
    Send,
    Stall,
    closed_loop,
    long_prompt,
    open_loop,
    poisson,
)
from bench.peers.results import rotated
from bench.terminal import document, headline, run, say, table
from bench.work import LENGTHS, SHAPES, Request, requests
from sluicegate.server.observe.log import configure

MODES = ("closed", "poisson", "stall")
PARTNERS = ("a", "b", "c")
WHOLE_PROMPTS = 65_536
"""`step_tokens` at which no prompt is cut: chunked prefill is off."""
CANCELLED_SHARE = 0.2
STALL_OUTPUT = 200
"""Tokens of each stream that runs when the long prompt comes."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time in microseconds for each token of output."""

    front_end: float
    engine: float
    client: float

    @property
    def server(self) -> float:
        """Of both processes of a server."""
        return self.front_end + self.engine


@dataclass(frozen=True, slots=True)
class Measurement:
    """One load on one target, once."""

    outcome: Outcome
    cost: Cost
    is_disturbed: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One load on one target: medians over the rounds, with their spread.

    Against the engine alone in the same round; None for itself, and where it was not asked: `share_of_engine`, of its
    tokens per second; `cpu_of_engine`, processor time of the server's two processes over that of the engine's.
    """

    load: str
    target: str
    tokens_per_second: Spread
    share_of_engine: Spread | None
    cpu_of_engine: Spread | None
    first_p50_ms: Spread
    first_p99_ms: Spread
    gap_p50_ms: Spread
    gap_p99_ms: Spread
    gap_longest_ms: Spread
    front_end_us_per_token: Spread
    engine_us_per_token: Spread
    client_us_per_token: Spread
    answered: int
    cancelled: int
    failed: int
    disturbed_rounds: int


@dataclass(frozen=True, slots=True)
class StallRow:
    """The long prompt on one target, in milliseconds."""

    target: str
    before_p50_ms: Spread
    before_longest_ms: Spread
    during_p50_ms: Spread
    during_longest_ms: Spread
    long_first_ms: Spread
    disturbed_rounds: int


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked: a server, or the engine alone. `front`: the process of the front end; this one for the engine."""

    name: str
    ask: Ask
    send: Send
    front: int
    engine: int


def main() -> int:
    """Measure and print."""
    options = parsed()
    configure("warning", "console")
    checkpoint = random_checkpoint(options.shape, options.directory)
    with tempfile.TemporaryDirectory() as directory:
        rows, stalls = asyncio.run(everything(options, checkpoint, Path(directory)))
    if options.json:
        print(document("serve", options, {"rows": rows, "stalls": stalls}, ("sluicegate", "torch", "grpcio")))
    else:
        print(page(options, rows, stalls))
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["closed"], help="(%(default)s)")
    parser.add_argument("--shape", choices=SHAPES, default="124m", help="of the random weights (%(default)s)")
    parser.add_argument("--dtype", default="bfloat16", help="as the setting models.<id>.dtype (%(default)s)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="of a closed loop (%(default)s)")
    parser.add_argument("--requests", type=int, default=2, help="of each stream of a closed loop (%(default)s)")
    parser.add_argument("--lengths", choices=LENGTHS, default="equal", help="of a closed loop (%(default)s)")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each equal request (%(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="of output, of each equal request (%(default)s)")
    parser.add_argument("--load", type=float, default=0.7, help="of poisson: share of the capacity (%(default)s)")
    parser.add_argument("--arrivals", type=int, default=200, help="of poisson: requests of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; one more goes before (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of a step (%(default)s)")
    parser.add_argument("--directory", type=Path, default=cache_directory(), help="of checkpoints, kept (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    if min(*options.streams, options.requests, options.rounds, options.arrivals, options.tokens - 1, options.load) <= 0:
        parser.error("--streams, --requests, --rounds, --arrivals and --load must be above 0, --tokens above 1")
    return options


async def everything(options: argparse.Namespace, checkpoint: Path, scratch: Path) -> tuple[list[Row], list[StallRow]]:
    """All modes that were asked for, one after the other, each with the processes that it needs."""
    rows, stalls = list[Row](), list[StallRow]()
    for mode in options.modes:
        names = ("server", "engine alone") if mode == "closed" else ("server", "server, whole prompts")
        async with AsyncExitStack() as stack:
            say(f"{mode}: starting {' and '.join(names)}")
            targets = [
                await stack.enter_async_context(target(name, options, checkpoint, scratch / f"{mode}-{index}"))
                for index, name in enumerate(names)
            ]
            match mode:
                case "closed":
                    rows += [row for streams in options.streams for row in await closed(options, targets, streams)]
                case "poisson":
                    rows += await at_random(options, targets)
                case _:
                    stalls += await stalled(options, targets)
    return rows, stalls


@asynccontextmanager
async def target(name: str, options: argparse.Namespace, checkpoint: Path, directory: Path) -> AsyncIterator[Target]:
    """The engine alone, or a server with three partners' clients."""
    slots = max(options.streams)
    if name == "engine alone":
        known = machine.family(os.getpid())
        async with running_engine(checkpoint, dtype=options.dtype, slots=slots, threads=options.threads) as engine:
            (pid,) = machine.family(os.getpid()) - known
            ask = partial(engine_stream, engine)
            yield Target(name, ask, lambda arrival, begun: ask(arrival.request, begun), os.getpid(), pid)
        return
    deployment = Deployment(
        model=MODEL,
        checkpoint=checkpoint,
        parameters=SHAPES[options.shape].parameters,
        slots=slots,
        queued=options.arrivals,
        dtype=options.dtype,
        step_tokens=STEP_TOKENS if name == "server" else WHOLE_PROMPTS,
        threads=options.threads,
        partners=PARTNERS,
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(served(directory, deployment))
        clients = [await stack.enter_async_context(server.client(partner)) for partner in PARTNERS]
        (engine_pid,) = machine.family(server.pid) - {server.pid}

        def send(arrival: Arrival, begun: float) -> Awaitable[Answer]:
            client = clients[arrival.partner]
            return server_stream(client, MODEL, arrival.request, begun, cancel_after=arrival.cancel_after)

        yield Target(name, partial(server_stream, clients[0], MODEL), send, server.pid, engine_pid)


async def closed(options: argparse.Namespace, targets: Sequence[Target], streams: int) -> list[Row]:
    """A closed loop on server and engine alone, in turns."""

    def put(each: Target, number: int) -> Awaitable[Outcome]:
        count = streams * options.requests
        work = requests(count, options.lengths, options.prompt, options.tokens, turn=number)
        return closed_loop(each.ask, work, streams)

    return await rounds_of(options, targets, f"{streams} streams", put)


async def at_random(options: argparse.Namespace, targets: Sequence[Target]) -> list[Row]:
    """Arrivals at a share of what the first server answers in a closed loop of the same mix."""
    streams = max(options.streams)

    def mix(turn: int) -> list[Request]:
        return requests(options.arrivals, "unequal", options.prompt, options.tokens, turn=turn)

    capacity = await closed_loop(targets[0].ask, mix(options.rounds + 1)[: 4 * streams], streams)
    per_second = options.load * capacity.requests_per_second
    say(f"poisson: capacity {capacity.requests_per_second:.2f} requests/s, load {per_second:.2f}")

    def put(each: Target, number: int) -> Awaitable[Outcome]:
        arrivals = poisson(mix(number), per_second, partners=len(PARTNERS), cancelled_share=CANCELLED_SHARE)
        return open_loop(each.send, arrivals)

    return await rounds_of(options, targets, f"poisson, {per_second:.2f} requests/s", put)


async def rounds_of(
    options: argparse.Namespace,
    targets: Sequence[Target],
    load: str,
    put: Callable[[Target, int], Awaitable[Outcome]],
) -> list[Row]:
    """All rounds of a load, which `put` puts on a target in a round, the targets in turns. The first does not count."""
    taken: dict[str, list[Measurement]] = {each.name: [] for each in targets}
    by_name = {each.name: each for each in targets}
    for number in range(options.rounds + 1):
        for name in rotated(list(by_name), number):
            found = await measured(by_name[name], put, number)
            say(f"{load}, round {number} of {options.rounds}: {name} {found.outcome.tokens_per_second:.1f} tokens/s")
            if number:
                taken[name].append(found)
    return [row(load, name, found, taken.get("engine alone")) for name, found in taken.items()]


async def measured(each: Target, put: Callable[[Target, int], Awaitable[Outcome]], number: int) -> Measurement:
    """Put the load on, and look at the processes before and after. For the engine alone, this process is front end and
    client in one, and counts as the former."""
    pids = (each.front, each.engine, os.getpid())
    before = [machine.cpu_seconds([pid]) for pid in pids]
    with machine.usage([os.getpid()]) as use:
        outcome = await put(each, number)
    front, engine, client = (
        (machine.cpu_seconds([pid]) - begun) / max(outcome.tokens, 1) * 1e6
        for pid, begun in zip(pids, before, strict=True)
    )
    return Measurement(outcome, Cost(front, engine, 0.0 if each.front == os.getpid() else client), use.is_disturbed)


def row(load: str, name: str, rounds: Sequence[Measurement], alone: Sequence[Measurement] | None) -> Row:
    """Medians and spreads; `alone`: the engine's own rounds."""

    def of_latency(field: str) -> Spread:
        return spread([getattr(each.outcome.latency, field) for each in rounds])

    def of_engine(ours: Sequence[float], of: Callable[[Measurement], float]) -> Spread | None:
        return None if alone is None or alone is rounds else paired(ours, [of(each) for each in alone])

    speeds = [each.outcome.tokens_per_second for each in rounds]
    return Row(
        load=load,
        target=name,
        tokens_per_second=spread(speeds),
        share_of_engine=of_engine(speeds, lambda each: each.outcome.tokens_per_second),
        cpu_of_engine=of_engine([each.cost.server for each in rounds], lambda each: each.cost.engine),
        first_p50_ms=of_latency("first_p50"),
        first_p99_ms=of_latency("first_p99"),
        gap_p50_ms=of_latency("gap_p50"),
        gap_p99_ms=of_latency("gap_p99"),
        gap_longest_ms=of_latency("gap_longest"),
        front_end_us_per_token=spread([each.cost.front_end for each in rounds]),
        engine_us_per_token=spread([each.cost.engine for each in rounds]),
        client_us_per_token=spread([each.cost.client for each in rounds]),
        answered=sum(each.outcome.answered for each in rounds),
        cancelled=sum(each.outcome.cancelled for each in rounds),
        failed=sum(each.outcome.failed for each in rounds),
        disturbed_rounds=sum(each.is_disturbed for each in rounds),
    )


async def stalled(options: argparse.Namespace, targets: Sequence[Target]) -> list[StallRow]:
    """The long prompt among streams that run, on both servers in turns."""
    streams = max(options.streams) - 2  # it and the one that keeps time need slots of their own
    if streams < 1:
        say("stall: needs --streams of 3 at least")
        return []
    taken: dict[str, list[tuple[Stall, bool]]] = {each.name: [] for each in targets}
    by_name = {each.name: each for each in targets}
    for number in range(options.rounds + 1):
        for name in rotated(list(by_name), number):
            with machine.usage([os.getpid()]) as use:
                found = await long_prompt(by_name[name].ask, streams, STALL_OUTPUT, number)
            say(f"stall, round {number} of {options.rounds}: {name} {found.during_longest:.0f} ms at most")
            if number:
                taken[name].append((found, use.is_disturbed))
    return [stall_row(f"{name}, {streams} streams", rounds) for name, rounds in taken.items()]


def stall_row(name: str, rounds: Sequence[tuple[Stall, bool]]) -> StallRow:
    def of(field: str) -> Spread:
        return spread([getattr(found, field) for found, _ in rounds])

    return StallRow(
        target=name,
        before_p50_ms=of("before_p50"),
        before_longest_ms=of("before_longest"),
        during_p50_ms=of("during_p50"),
        during_longest_ms=of("during_longest"),
        long_first_ms=of("long_first"),
        disturbed_rounds=sum(is_disturbed for _, is_disturbed in rounds),
    )


def page(options: argparse.Namespace, rows: Sequence[Row], stalls: Sequence[StallRow]) -> str:
    """For people."""
    about = (
        f"GPT-2 {options.shape}, {options.dtype}, random weights, {options.threads} threads, {options.rounds} rounds"
    )
    lines = [headline(), about]
    if rows:
        header = ["load, target", "tokens/s", "of engine", "first p50/p99 ms", "gap p50/p99/longest ms"]
        header += ["CPU us/token front/engine/client", "CPU of engine", "answered/cancelled/failed", "disturbed"]
        lines += ["", table(header, [cells(each) for each in rows])]
    if stalls:
        header = ["a prompt of 900 tokens comes", "gap before p50/longest ms", "gap during p50/longest ms"]
        lines += ["", table([*header, "its first token ms", "disturbed"], [stall_cells(each) for each in stalls])]
    return "\n".join(lines)


def cells(each: Row) -> list[str]:
    costs = (each.front_end_us_per_token, each.engine_us_per_token, each.client_us_per_token)
    gap = (each.gap_p50_ms, each.gap_p99_ms, each.gap_longest_ms)
    return [
        f"{each.load}, {each.target}",
        f"{each.tokens_per_second:.0f}",
        "-" if each.share_of_engine is None else f"{each.share_of_engine:.2f}",
        f"{each.first_p50_ms.median:.0f}/{each.first_p99_ms.median:.0f}",
        "/".join(f"{value.median:.1f}" for value in gap),
        "/".join(f"{cost.median:.0f}" for cost in costs),
        "-" if each.cpu_of_engine is None else f"{each.cpu_of_engine:.2f}",
        f"{each.answered}/{each.cancelled}/{each.failed}",
        str(each.disturbed_rounds or "-"),
    ]


def stall_cells(each: StallRow) -> list[str]:
    return [
        each.target,
        f"{each.before_p50_ms.median:.1f}/{each.before_longest_ms.median:.1f}",
        f"{each.during_p50_ms.median:.1f}/{each.during_longest_ms.median:.1f}",
        f"{each.long_first_ms:.0f}",
        str(each.disturbed_rounds or "-"),
    ]


if __name__ == "__main__":
    run(main)
