"""What one front end carries: messages and calls a second, streams at once, and what each costs it.

    python -m bench.frontend
    python -m bench.frontend --groups streams --streams 64 256 --json
    python -m bench.frontend --groups sqlite --profile       where its processor time goes, by function

The front end runs as users run it, every access check on, with an engine in a process of its own that computes nothing;
the callers are this process, over gRPC on loopback. bench/README.md says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.access import redis_url
from bench.deployment import Deployment, token_of, write_files
from bench.figures import Spread, spread
from bench.frontend.callers import Counts, Kind, connected, work
from bench.terminal import document, headline, run, say, table
from sluicegate.auth import create_signing_key
from sluicegate.server.demo.server import Server

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "server/sluicegate/server/demo/models/demo-xs"
"""Only its tokenizer is used."""
MODEL = "bench"
GROUPS = ("sqlite", "redis", "streams")
PACE_MILLISECONDS = 50.0
"""Of the engine's steps in `streams`: 20 tokens a second for each, faster than people read."""
LONG_TOKENS = 900
WARM_UP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """So many callers at once, each with the next call as soon as the last has ended."""

    kind: Kind
    callers: int

    @property
    def tokens(self) -> int:
        """Of each answer."""
        return LONG_TOKENS if self.kind is Kind.LONG else 1

    def __str__(self) -> str:
        return f"{self.callers} {self.kind.value}"


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in a stretch of time. Processor time in seconds."""

    seconds: float
    counts: Counts
    front_end: float
    event_loop: float
    engine: float
    callers: float
    is_disturbed: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One load: medians over the rounds, with their spread.

    Cores are processor time over time; the event loop is a part of the front end. `us_a_call`, `us_a_message`: all
    of the front end's processor time over the one or the other. Gaps are between messages of a stream, as its caller
    has them.
    """

    group: str
    load: str
    calls_per_second: Spread
    messages_per_second: Spread
    tokens_per_second: Spread
    tokens_a_message: Spread
    us_a_call: Spread | None
    us_a_message: Spread | None
    front_end_cores: Spread
    event_loop_cores: Spread
    engine_cores: Spread
    callers_cores: Spread
    gap_p50_ms: Spread | None
    gap_p99_ms: Spread | None
    own_kib_a_caller: float
    """What the front end's own memory has grown by since nobody called, by callers."""
    disturbed_rounds: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Shares of the event loop's processor time by function: the innermost, and all that were under way."""

    group: str
    samples: int
    own: dict[str, float]
    total: dict[str, float]


@dataclass(frozen=True, slots=True)
class Pod:
    """A front end that takes calls, and its engine."""

    address: str
    front_end: int
    engine: int
    token: str


def main() -> int:
    """Measure and print."""
    options = parsed()
    rows, profiles = list[Row](), list[Profile]()
    for group in options.groups:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(measured(options, group, Path(directory), rows, profiles))
    if options.json:
        print(document("frontend", options, {"rows": rows, "profiles": profiles}, ("sluicegate", "grpcio", "protobuf")))
    else:
        print(page(rows, profiles))
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.frontend", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS), help="(%(default)s)")
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 128, 256, 512], help="at once (%(default)s)")
    parser.add_argument("--callers", type=int, default=32, help="at once, of short calls (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a round (%(default)s)")
    parser.add_argument("--profile", action="store_true", help="say where the event loop spends its time")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options = parser.parse_args()
    if min(*options.streams, options.callers, options.rounds, options.seconds) <= 0:
        parser.error("--streams, --callers, --rounds and --seconds must be above 0")
    return options


async def measured(
    options: argparse.Namespace, group: str, directory: Path, rows: list[Row], profiles: list[Profile]
) -> None:
    """All loads of a group on one pod, one after the other; adds to rows and profiles."""
    if group == "streams":
        loads = [Load(Kind.LONG, streams) for streams in options.streams]
    else:
        loads = [Load(Kind.UNARY, options.callers), Load(Kind.SHORT, options.callers)]
    profile = directory / "profile.json" if options.profile else None
    async with pod(directory / "pod", group, max(options.callers, *options.streams), profile) as running:
        quiet = machine.own_bytes([running.front_end])
        for load in loads:
            windows, grown = await windows_of(running, load, options, quiet)
            rows.append(row(group, load, windows, grown))
            calls, messages = rows[-1].calls_per_second, rows[-1].messages_per_second
            say(f"{group}: {load}: {messages:.0f} messages/s, {calls:.0f} calls/s")
    if profile is not None:
        profiles.append(shares(group, profile))


@asynccontextmanager
async def pod(directory: Path, group: str, slots: int, profile: Path | None) -> AsyncIterator[Pod]:
    """A started front end. Raises ServerNotStarted."""
    with ExitStack() as stack:
        state = "sqlite:///state.db"
        if group == "redis":
            url = stack.enter_context(redis_url(directory.parent))
            assert url is not None, "redis-server is not installed"
            state = url
        key = create_signing_key()
        settings = write_files(
            directory,
            key,
            Deployment(
                model=MODEL,
                checkpoint=CHECKPOINT,
                parameters=1,
                slots=slots,
                queued=slots,
                step_tokens=max(256, slots),
                more={"state": {"url": state}},
            ),
        )
        command = [sys.executable, "-m", "bench.frontend.pod", "--config", str(settings)]
        command += ["--step-milliseconds", str(PACE_MILLISECONDS if group == "streams" else 0)]
        command += [] if profile is None else ["--profile", str(profile)]
        log = directory / "server.log"
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=variables)  # noqa: S603, ASYNC220
        server = Server(process, log)
        stack.callback(server.stop)
        found = await asyncio.to_thread(server.wait_until_serving, lambda _: None)
        (engine,) = machine.family(server.pid) - {server.pid}
        yield Pod(found.calls, server.pid, engine, token_of("a", key, MODEL))


async def windows_of(running: Pod, load: Load, options: argparse.Namespace, quiet: int) -> tuple[list[Window], float]:
    """The rounds of a load, whose callers go on from one to the next; and the memory that a caller takes, in bytes."""
    counts = Counts()
    async with connected(running.address) as channels:
        callers = [
            asyncio.create_task(
                work(
                    channels[n % len(channels)], load.kind, counts, model=MODEL, tokens=load.tokens, token=running.token
                )
            )
            for n in range(load.callers)
        ]
        try:
            await asyncio.sleep(WARM_UP_SECONDS)
            windows = [await window(running, options.seconds, counts) for _ in range(options.rounds)]
            grown = (machine.own_bytes([running.front_end]) - quiet) / load.callers
        finally:
            for caller in callers:
                caller.cancel()
            ends = await asyncio.gather(*callers, return_exceptions=True)
    for end in ends:
        if not isinstance(end, asyncio.CancelledError) and isinstance(end, BaseException):
            raise end
    return windows, grown


async def window(running: Pod, seconds: float, counts: Counts) -> Window:
    """Look before and after."""
    pids = (running.front_end, running.engine, os.getpid())
    counts.take()
    before, begun = [machine.cpu_seconds([pid]) for pid in pids], time.perf_counter()
    loop = machine.main_thread_seconds(running.front_end)
    with machine.usage([os.getpid()]) as use:
        await asyncio.sleep(seconds)
    found, took = counts.take(), time.perf_counter() - begun
    front, engine, callers = (machine.cpu_seconds([pid]) - used for pid, used in zip(pids, before, strict=True))
    loop = machine.main_thread_seconds(running.front_end) - loop
    return Window(took, found, front, loop, engine, callers, use.is_disturbed)


def row(group: str, load: Load, windows: Sequence[Window], grown: float) -> Row:
    """Medians and spreads."""

    def a_second(of: str) -> Spread:
        return spread([getattr(each.counts, of) / each.seconds for each in windows])

    def cores(of: str) -> Spread:
        return spread([getattr(each, of) / each.seconds for each in windows])

    is_long = load.kind is Kind.LONG
    gaps = [each.counts.gap_quantiles() for each in windows] if is_long else []
    return Row(
        group=group,
        load=str(load),
        calls_per_second=a_second("calls"),
        messages_per_second=a_second("messages"),
        tokens_per_second=a_second("tokens"),
        tokens_a_message=spread([each.counts.tokens / max(each.counts.messages, 1) for each in windows]),
        us_a_call=None if is_long else spread([each.front_end / each.counts.calls * 1e6 for each in windows]),
        us_a_message=spread([each.front_end / each.counts.messages * 1e6 for each in windows]) if is_long else None,
        front_end_cores=cores("front_end"),
        event_loop_cores=cores("event_loop"),
        engine_cores=cores("engine"),
        callers_cores=cores("callers"),
        gap_p50_ms=spread([p50 for p50, _ in gaps]) if gaps else None,
        gap_p99_ms=spread([p99 for _, p99 in gaps]) if gaps else None,
        own_kib_a_caller=grown / 1024,
        disturbed_rounds=sum(each.is_disturbed for each in windows),
    )


def shares(group: str, file: Path) -> Profile:
    """Of what the pod left when it ended."""
    counted = json.loads(file.read_text())
    return Profile(group, counted["samples"], counted["own"], counted["total"])


def page(rows: Sequence[Row], profiles: Sequence[Profile]) -> str:
    """For people."""
    header: tuple[str, ...] = (
        "load",
        "calls/s",
        "messages/s",
        "tokens a message",
        "µs a call or message",
        "cores: front end",
    )
    header += ("event loop", "engine", "callers", "gap p50, p99 ms", "KiB a caller", "disturbed")
    lines = [
        (
            f"{each.group}: {each.load}",
            f"{each.calls_per_second:.0f}",
            f"{each.messages_per_second:.0f}",
            f"{each.tokens_a_message:.2f}",
            f"{each.us_a_call or each.us_a_message:.0f}",
            f"{each.front_end_cores:.2f}",
            f"{each.event_loop_cores.median:.2f}",
            f"{each.engine_cores.median:.2f}",
            f"{each.callers_cores.median:.2f}",
            ""
            if each.gap_p99_ms is None or each.gap_p50_ms is None
            else f"{each.gap_p50_ms.median:.0f}, {each.gap_p99_ms.median:.0f}",
            f"{each.own_kib_a_caller:.0f}",
            str(each.disturbed_rounds),
        )
        for each in rows
    ]
    parts = [headline(), "", table(header, lines)]
    for each in profiles:
        for title, found in (("innermost", each.own), ("under way", each.total)):
            named = [(name, f"{share:.1%}") for name, share in list(found.items())[:30]]
            parts += ["", table((f"{each.group}: {title}", "share"), named)]
    return "\n".join(parts)


if __name__ == "__main__":
    run(main)
