"""Two hundred thousand requests to one server: what it and its engine take of the machine does not grow with them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from deployment import APP, DEMO_MODELS, LAB_APP, Deployment, Hosted
from footprints import Footprint, footprint, slope, zombies
from real_server import RealServer, real_server, until

from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import (
    GenerateRequest,
    ScoreRequest,
    StreamGenerateRequest,
    TokenizeRequest,
)
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub

Show = Callable[[str], None]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7_200)]

REQUESTS, AT_ONCE, CONNECTIONS = 200_000, 24, 4
SEED = 20_261_126
SAMPLE_SECONDS = 2.0
A_TOKEN_SERVES = 5_000
"""Requests; then its client comes with another one."""
PUBLIC, PARTNERS = "demo-xs", "demo-partner"
PROMPTS = ("It was", "The President of the United States", "She had not been long at home before ", "1")
MOST_BYTES_A_THOUSAND = 64 << 10
"""By how much a process' own memory may grow with a thousand requests, in the second half: 64 bytes with each.

Whatever is kept of a request has at least its id in a table: a string of 36 characters takes 85 bytes, its entry in a
set 32 more. A stream, a sequence or a span that is not let go of takes kilobytes.
"""

MOST_MORE_THREADS = 4
"""Than in the first half: gRPC's own pool takes and gives back some as it likes. One that is left behind with each
connection or each call would be hundreds."""

WAYS = {
    "unary": (36, "OK"),
    "stream": (26, "OK"),
    "cancel": (10, "CANCELLED"),
    "score": (8, "OK"),
    "tokenize": (4, "OK"),
    "no such model": (4, "PERMISSION_DENIED"),
    "no scope": (4, "PERMISSION_DENIED"),
    "forged token": (4, "UNAUTHENTICATED"),
    "bad request": (4, "INVALID_ARGUMENT"),
}
"""What requests are made to do: how many in a hundred, and how they end."""


@dataclass(frozen=True, slots=True)
class Sample:
    """After so many requests."""

    requests: int
    processes: dict[str, Footprint]


@dataclass(slots=True)
class Callers:
    """Who calls. The server sees many tokens of each, as it would of many people."""

    server: RealServer
    public: str = ""
    partner: str = ""
    without_scope: str = ""
    forged: str = ""

    def renew(self) -> None:
        """Come with other tokens."""
        self.public, self.partner = self.server.token(APP), self.server.token(LAB_APP)
        self.without_scope = self.server.token(APP, scopes=("generate:other",))
        self.forged = self.public[:-8] + ("A" * 8 if not self.public.endswith("A" * 8) else "B" * 8)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    directory = DEMO_MODELS / "demo-xs"
    models = {PUBLIC: Hosted(directory=directory), PARTNERS: Hosted(directory=directory, open_to="partner")}
    with real_server(Deployment(tmp_path / "files", models)) as running:
        yield running


async def test_a_server_does_not_grow_with_its_requests(server: RealServer, show: Show) -> None:
    (engine,) = server.engine_pids()
    pids = {"front end": server.pid, "engine": engine}
    draws, ends, samples = random.Random(SEED), Counter[str](), list[Sample]()
    ways = iter(draws.choices(list(WAYS), [share for share, _ in WAYS.values()], k=REQUESTS))
    callers, files = Callers(server), Files(server.deployment.directory)
    begun = time.monotonic()

    async with connected(server.address) as stubs, sampling(samples, ends, pids, server):

        async def work(stub: Any) -> None:
            for way in ways:
                if ends.total() % A_TOKEN_SERVES == 0:
                    callers.renew()
                ends[f"{way}: {await end_of(way, stub, callers, draws)}"] += 1
                if ends.total() == REQUESTS // 2:
                    files.note_half()

        callers.renew()
        async with asyncio.TaskGroup() as workers:
            for number in range(AT_ONCE):
                workers.create_task(work(stubs[number % CONNECTIONS]))
        seconds = time.monotonic() - begun

    await until("nothing runs", lambda: server.metric("sluicegate_streams_active") == 0)
    rate = ends.total() / seconds
    show(f"{ends.total():,} requests in {seconds:.0f} s, {rate:.0f} a second: {dict(sorted(ends.items()))}")
    files.show(show)
    assert ends.keys() == {f"{way}: {end}" for way, (_, end) in WAYS.items()}
    assert ends.total() == REQUESTS
    courses = {name: Course(samples, name) for name in pids}
    for name, course in courses.items():
        show(f"{name}: {course}")
    for course in courses.values():
        assert course.own_bytes_a_thousand <= MOST_BYTES_A_THOUSAND
        assert course.descriptors[1] <= course.descriptors[0]
        assert course.threads[1] <= course.threads[0] + MOST_MORE_THREADS
    assert (server.engine_pids(), zombies(server.pid)) == ([engine], [])
    assert "Traceback" not in server.log


class Course:
    """What one process took over the second half of the requests, beside the first."""

    def __init__(self, samples: list[Sample], name: str) -> None:
        points = [(sample.requests, sample.processes[name]) for sample in samples]
        first, second = (
            [each for each in points if (each[0] < REQUESTS / 2) is is_first] for is_first in (True, False)
        )
        self.begin, self.end = second[0][1], second[-1][1]
        self.samples = len(second)
        self.own_bytes_a_thousand = slope([(count, each.own_bytes) for count, each in second]) * 1000
        self.resident_bytes_a_thousand = slope([(count, each.resident_bytes) for count, each in second]) * 1000
        self.descriptors, self.threads = (
            tuple(max(getattr(each, of) for _, each in half) for half in (first, second))
            for of in ("descriptors", "threads")
        )

    def __str__(self) -> str:
        begin, end = self.begin.own_bytes / 2**20, self.end.own_bytes / 2**20
        own, resident = self.own_bytes_a_thousand, self.resident_bytes_a_thousand
        return (
            f"own memory {begin:.1f} MiB at half, {end:.1f} at the end; {own:+,.0f} bytes a thousand requests"
            f" (resident {resident:+,.0f}), by {self.samples} samples; at most in the first half and in the second:"
            f" descriptors {self.descriptors}, threads {self.threads}"
        )


async def end_of(way: str, stub: Any, callers: Callers, draws: random.Random) -> str:
    """Make one request that is to end in this way; how it did."""
    model, token = draws.choice(((PUBLIC, callers.public), (PARTNERS, callers.partner)))
    prompt, tokens = draws.choice(PROMPTS), draws.randint(1, 6)
    config = GenerationConfig(max_output_tokens=tokens, ignore_eos=True, seed=draws.getrandbits(32), temperature=0.9)
    metadata = (("authorization", f"Bearer {token}"),)
    request = GenerateRequest(model=model, text=prompt, config=config)
    try:
        match way:
            case "unary":
                answer = await stub.Generate(request, metadata=metadata)
                assert answer.usage.output_tokens == tokens
            case "stream" | "cancel":
                long = GenerationConfig(max_output_tokens=500, ignore_eos=True, seed=config.seed)
                asked = StreamGenerateRequest(model=model, text=prompt, config=long if way == "cancel" else config)
                call = stub.StreamGenerate(asked, metadata=metadata)
                while (message := await call.read()) is not grpc.aio.EOF:
                    if way == "cancel":
                        call.cancel()
                        return str((await call.code()).name)
                    last = message
                assert last.usage.output_tokens == tokens
            case "score":
                await stub.Score(ScoreRequest(model=model, text="It was the best of times."), metadata=metadata)
            case "tokenize":
                await stub.Tokenize(TokenizeRequest(model=model, text=prompt), metadata=metadata)
            case "no such model":
                await stub.Generate(GenerateRequest(model="none", text=prompt), metadata=metadata)
            case "no scope":
                await stub.Generate(request, metadata=(("authorization", f"Bearer {callers.without_scope}"),))
            case "forged token":
                await stub.Generate(request, metadata=(("authorization", f"Bearer {callers.forged}"),))
            case "bad request":
                await stub.Generate(GenerateRequest(model=model), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[list[Any]]:
    """Stubs over connections of their own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            for _ in range(CONNECTIONS)
        ]
        yield [GenerationServiceStub(channel) for channel in channels]


@asynccontextmanager
async def sampling(
    samples: list[Sample], ends: Counter[str], pids: dict[str, int], server: RealServer
) -> AsyncIterator[None]:
    """Look every few seconds, and read the metrics as Prometheus does."""

    async def look() -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            await asyncio.to_thread(server.metrics_text)
            samples.append(Sample(ends.total(), {name: footprint(pid) for name, pid in pids.items()}))

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()


class Files:
    """What the server writes: its state file, with the log of it, and its audit log."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._at_half: dict[str, int] = {}

    def note_half(self) -> None:
        """Half of the requests are through."""
        self._at_half = self._sizes()

    def show(self, show: Show) -> None:
        """All are through: say how each has grown in the second half."""
        for name, size in self._sizes().items():
            grown = (size - self._at_half[name]) / (REQUESTS / 2)
            show(f"{name}: {size / 2**20:.1f} MiB at the end, {grown:+.1f} bytes a request in the second half")

    def _sizes(self) -> dict[str, int]:
        return {
            "state file": sum(path.stat().st_size for path in self._directory.glob("sluicegate-state.db*")),
            "audit log": sum(path.stat().st_size for path in (self._directory / "audit").iterdir()),
        }
