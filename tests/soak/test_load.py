"""Thousands of calls that end in every way, against a real server: afterwards nothing is left, and the books agree."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cut import line_to
from deployment import DEMO_MODELS, Deployment, Hosted
from reading import start_reading
from real_server import RealServer, real_server, resident_bytes, until

from sluicegate.client import (
    CallError,
    Client,
    Finished,
    FinishReason,
    GenerationConfig,
    GenerationStream,
    StaticToken,
)

Show = Callable[[str], None]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]

REQUESTS, AT_ONCE = 2_000, 64
MODELS = ("demo-xs", "demo-s")
SLOTS = 16
SEED = 20_260_202
PROMPTS = ("It was", "The President of the United States", "She had not been long at home before ", "1")
SLACK_BYTES = 24 << 20
"""By how much memory may be larger in the last third of the calls than in the second: allocators' arenas, no leak."""

WAYS = {
    "finish": (40, {"STOP", "MAX_OUTPUT_TOKENS"}),
    "whole": (15, {"STOP", "MAX_OUTPUT_TOKENS"}),
    "candidates": (5, {"4 FINISHED"}),
    "cancel": (15, {"left"}),
    "deadline": (10, {"DEADLINE_EXCEEDED", "MAX_OUTPUT_TOKENS"}),
    "disconnect": (10, {"cut"}),
    "score": (3, {"OK"}),
    "refused": (2, {"PERMISSION_DENIED"}),
}
"""What calls are made to do: how many in a hundred, and how they may end."""


@dataclass(slots=True)
class Tally:
    """What callers saw."""

    ends: Counter[str] = field(default_factory=Counter)
    usages: dict[str, int] = field(default_factory=dict)  # output tokens by request id, of streams that ended with OK
    memory: list[dict[str, int]] = field(default_factory=list)  # of each process, after each call

    def count(self, way: str, end: FinishReason | CallError | str) -> None:
        name = end.code.name if isinstance(end, CallError) else str(getattr(end, "value", end))
        self.ends[f"{way}: {name}"] += 1

    @property
    def total(self) -> int:
        return self.ends.total()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    models = {name: Hosted(directory=DEMO_MODELS / name, slots=SLOTS) for name in MODELS}
    with real_server(Deployment(tmp_path / "files", models)) as running:
        yield running


async def test_calls_that_end_in_every_way_leave_nothing_behind(server: RealServer, show: Show) -> None:
    draws = random.Random(SEED)
    ways = iter(draws.choices(list(WAYS), [share for share, _ in WAYS.values()], k=REQUESTS))
    tally = Tally()
    (engine,) = server.engine_pids()
    pids = {"front end": server.pid, "engine": engine}
    began = time.monotonic()

    async with Client(server.address, token=server.token()) as client:

        async def work() -> None:
            for way in ways:
                await call(way, draws, client, server, tally)
                tally.memory.append({name: resident_bytes(pid) for name, pid in pids.items()})

        async with asyncio.TaskGroup() as workers:
            for _ in range(AT_ONCE):
                workers.create_task(work())
        seconds = time.monotonic() - began

        assert tally.total == REQUESTS
        await until("nothing is left", lambda: is_idle(server))
        await assert_all_slots_work(client)

    await until("nothing is left", lambda: is_idle(server))
    show(f"{REQUESTS} calls in {seconds:.0f} s: {dict(sorted(tally.ends.items()))}")
    assert_ends_are_those_asked_for(tally)
    assert_books_agree(server, tally, show)
    assert_memory_is_steady(tally, show)
    assert server.metric("sluicegate_engine_restarts_total") == 0
    assert "Traceback" not in server.log


async def call(way: str, draws: random.Random, client: Client, server: RealServer, tally: Tally) -> None:
    """Make one call that is to end in this way, and count how it did."""
    model, prompt = draws.choice(MODELS), draws.choice(PROMPTS)
    config = GenerationConfig(max_output_tokens=draws.randint(1, 80), seed=draws.getrandbits(32), temperature=0.9)
    limit = draws.uniform(0.01, 0.3)
    messages = draws.randint(1, 20)
    long = GenerationConfig(max_output_tokens=900, ignore_eos=True, seed=config.seed)
    try:
        match way:
            case "finish":
                await read_whole(way, client.stream(model, prompt, config), tally)
            case "whole":
                generation = await client.generate(model, prompt, config)
                tally.count(way, generation.candidates[0].finish_reason)
                tally.usages[generation.started.request_id] = generation.usage.output_tokens
            case "candidates":
                several = GenerationConfig(max_output_tokens=20, candidate_count=4, seed=config.seed)
                generation = await client.generate(model, prompt, several)
                assert len(generation.candidates) == 4
                tally.count(way, "4 FINISHED")
                tally.usages[generation.started.request_id] = generation.usage.output_tokens
            case "cancel":
                await read_some(client.stream(model, prompt, long), messages)
                tally.count(way, "left")
            case "deadline":
                await read_whole(way, client.stream(model, prompt, long, timeout=limit), tally)
            case "disconnect":
                await disconnect(server, model, prompt, long, messages)
                tally.count(way, "cut")
            case "score":
                await client.score(model, "It was the best of times.")
                tally.count(way, "OK")
            case "refused":
                await client.generate("demo-none", prompt)
    except CallError as error:
        tally.count(way, error)


async def read_whole(way: str, opened: GenerationStream, tally: Tally) -> None:
    """Read a stream to its end, and count it. Raises CallError."""
    async with opened as stream:
        ends = [event async for event in stream if isinstance(event, Finished)]
        (end,) = ends
        assert stream.started is not None
        assert stream.usage.output_tokens == end.output_tokens
    tally.count(way, end.finish_reason)
    tally.usages[stream.started.request_id] = stream.usage.output_tokens


async def read_some(opened: GenerationStream, messages: int) -> None:
    """Leave a stream after some messages."""
    async with opened as stream:
        await read_messages(stream, messages)


async def read_messages(stream: GenerationStream, count: int) -> None:
    """Read so many messages."""
    async for _ in stream:
        count -= 1
        if count == 0:
            return


async def disconnect(server: RealServer, model: str, prompt: str, config: GenerationConfig, messages: int) -> None:
    """Vanish in the middle of a stream."""
    token = StaticToken(server.token())
    async with (
        line_to(server.address) as line,
        Client(line.target, token=token) as client,
        client.stream(model, prompt, config) as stream,
    ):
        await read_messages(stream, messages)
        line.cut()


def is_idle(server: RealServer) -> bool:
    """Whether the server says that nothing runs and nothing waits."""
    metrics = server.metrics()
    gauges = (
        "sluicegate_streams_active",
        "sluicegate_engine_sequences_running",
        "sluicegate_engine_queue_length",
        "sluicegate_engine_slots_used_ratio",
    )
    return not any(metrics.total(gauge) for gauge in gauges)


async def assert_all_slots_work(client: Client) -> None:
    """As many streams as there are slots run side by side: the last begins before the first ends."""
    for model in MODELS:
        reads = [start_reading(client, model, tokens=900, seed=seed) for seed in range(SLOTS)]
        await asyncio.gather(*(read.begun.wait() for read in reads))
        assert not any(read.finishes or read.error for read in reads)
        await asyncio.gather(*(read.ended() for read in reads))
        assert [read.finishes for read in reads] == [[FinishReason.MAX_OUTPUT_TOKENS]] * SLOTS
        assert all(len(read.tokens) == 900 for read in reads)


def assert_ends_are_those_asked_for(tally: Tally) -> None:
    """Each call has ended as it may, and each way was tried."""
    ends = [end.split(": ") for end in tally.ends]
    assert {way for way, _ in ends} == set(WAYS)
    assert all(name in WAYS[way][1] for way, name in ends), tally.ends
    assert tally.ends["deadline: DEADLINE_EXCEEDED"] > 0


def assert_books_agree(server: RealServer, tally: Tally, show: Show) -> None:
    """Every call begun has ended, with one code; tokens counted are those that the calls' own lines add up to."""
    metrics, service = server.metrics(), "sluicegate.v1.GenerationService"
    entries = server.events("call")
    started = metrics.total("grpc_server_started_total", grpc_service=service)
    handled = metrics.total("grpc_server_handled_total", grpc_service=service)
    codes = Counter(entry["code"] for entry in entries)
    assert started == handled == len(entries)
    assert codes == {
        code: metrics.total("grpc_server_handled_total", grpc_service=service, grpc_code=code) for code in codes
    }

    by_request = {entry["request_id"]: entry for entry in entries}
    assert len(by_request) == len(entries)
    for request_id, tokens in tally.usages.items():
        assert by_request[request_id]["output_tokens"] == tokens
        assert by_request[request_id]["code"] == "OK"
    prompts = sum(entry["prompt_tokens"] or 0 for entry in entries)
    outputs = sum(entry["output_tokens"] or 0 for entry in entries)
    assert metrics.total("sluicegate_tokens_total", direction="input") == prompts
    assert metrics.total("sluicegate_tokens_total", direction="output") == outputs
    show(f"{started:.0f} calls seen by the server: {dict(codes)}; {prompts:,} tokens in, {outputs:,} out")


def assert_memory_is_steady(tally: Tally, show: Show) -> None:
    """The last third of the calls needed no more memory than the second, give or take the slack."""
    third = REQUESTS // 3
    for name in tally.memory[0]:
        first, second, last = (
            max(sample[name] for sample in tally.memory[begin : begin + third]) for begin in (0, third, 2 * third)
        )
        show(f"{name}: {first >> 20}, {second >> 20}, {last >> 20} MiB resident at most in each third")
        assert last - second <= SLACK_BYTES
