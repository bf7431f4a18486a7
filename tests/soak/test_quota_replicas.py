"""A quota under more starts than it has room for, over one, two and three replicas, some of them killed or cut off.

What the ledger does under every interleaving is tested in state_random_suite.py, with a clock that stands still. Here
whole servers count real tokens: those that the callers were told of, and those in the servers' own lines.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deployment import Deployment, Hosted, zone_at_noon
from harness import connected, refusal
from reading import Read, start_reading
from real_server import RealServer, replicas, until
from redis_server import RedisServer, redis_server
from slow_model import TOKENS, write_slow_model

from sluicegate.client import CallError, Client, Delta, GenerationConfig, StaticToken, StreamOptions, Unavailable
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub

Show = Callable[[str], None]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]

MODEL = "slow"
LEASES, LIMIT = 4, 100
STARTS, RUNS = 100, 10
LEASE_SECONDS = 3.0
SEED = 20_260_204
NO_ANSWER = "STATE_UNAVAILABLE"
REFUSALS = {"CONCURRENCY_LIMIT", "DAILY_TOKEN_QUOTA", NO_ANSWER}
"""How starts may be refused: the last where Redis gave no answer in half a second, as on a machine that is too busy."""
CUT_OFF = {NO_ANSWER, "WITHDRAWALS_STALE"}
"""What partners are told while the store is gone: the latter once the list of withdrawals is five seconds old."""


@dataclass(frozen=True, slots=True)
class Partner:
    """An agreement with a client of its own, of which nothing is used yet. `tokens`: its limit of a day."""

    name: str
    tokens: int = LIMIT

    @property
    def client(self) -> str:
        return f"client-{self.name}"

    @property
    def quotas(self) -> Mapping[str, int]:
        return {"concurrent_streams": LEASES, "output_tokens_per_day": self.tokens}


@dataclass(slots=True)
class Site:
    """Replicas over one Redis."""

    servers: list[RealServer]
    redis: RedisServer

    @asynccontextmanager
    async def clients(self, by: Partner) -> AsyncIterator[list[Client]]:
        """The partner's client of each replica."""
        async with AsyncExitStack() as stack:
            tokens = [StaticToken(server.token(by.client)) for server in self.servers]
            yield [
                await stack.enter_async_context(Client(server.address, token=token))
                for server, token in zip(self.servers, tokens, strict=True)
            ]

    def charged(self) -> dict[str, int]:
        """Output tokens by request, in the lines of all replicas."""
        lines = [entry for server in self.servers for entry in server.events("call")]
        return {entry["request_id"]: entry["output_tokens"] or 0 for entry in lines}


@dataclass(slots=True)
class Tally:
    """What the callers of one run saw: output tokens by request, as its end told or as seen before they left."""

    ends: Counter[str] = field(default_factory=Counter)
    told: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)


@contextmanager
def site(directory: Path, count: int, partners: Sequence[Partner]) -> Iterator[Site]:
    """So many replicas of a model whose streams last, and a Redis of their own."""
    (directory / "redis").mkdir()
    models = {MODEL: Hosted(directory=write_slow_model(directory / "slow"), open_to="partner")}
    with redis_server(directory / "redis") as redis:
        state = {"url": redis.url(), "lease_seconds": LEASE_SECONDS}
        deployment = Deployment(directory / "files", models, state=state)
        for each in partners:
            deployment.add_agreement(f"agr-{each.name}", each.client, quotas=each.quotas, timezone=zone_at_noon())
        with replicas(deployment, count) as servers:
            yield Site(servers, redis)


async def used(client: Client, quota: str = "output_tokens_per_day") -> int:
    """What is used of a quota."""
    return {each.quota: each.used for each in await client.quotas(MODEL)}[quota]


async def held(client: Client) -> int:
    """Places that streams hold."""
    return await used(client, "concurrent_streams")


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_starts_at_once_share_a_limit_to_the_token_though_callers_leave(
    tmp_path: Path, count: int, show: Show
) -> None:
    draws, ends, spent = random.Random(SEED + count), Counter[str](), 0
    partners = [Partner(str(number)) for number in range(RUNS)]
    with site(tmp_path, count, partners) as found:
        for by in partners:
            async with found.clients(by) as clients:
                tally = await flood(clients, draws)
                requests = tally.told.keys() | tally.left.keys()
                await until("all is told", lambda: requests <= found.charged().keys())  # noqa: B023
                charged = found.charged()
                assert not tally.ends[NO_ANSWER], "nothing can be said to the token: what became of a start is unknown"

                assert tally.told.items() <= charged.items()
                assert all(seen <= charged[request] for request, seen in tally.left.items())
                flooded = sum(charged[request] for request in requests)
                for client in clients:
                    assert await held(client) == 0
                    assert await used(client) == flooded <= LIMIT
                assert flooded + await rest(clients, draws) == LIMIT == await used(clients[-1])
            ends, spent = ends + tally.ends, spent + flooded

    assert ends.total() == RUNS * STARTS
    assert ends["CONCURRENCY_LIMIT"] > 0
    assert ends["left"] > 0
    show(f"{count} replicas, {RUNS} runs of {STARTS} starts: {dict(ends)}, {spent} tokens; then each limit to its end")


async def flood(clients: Sequence[Client], draws: random.Random) -> Tally:
    """Start all streams at once, of which some callers leave, and watch what is used meanwhile."""
    tally, over = Tally(), asyncio.Event()
    async with asyncio.TaskGroup() as watching:
        for client in clients:
            watching.create_task(watch(client, over))
        async with asyncio.TaskGroup() as starts:
            for number in range(STARTS):
                leaves_after = draws.choice([None, None, 1, 3, 9])
                client, tokens = clients[number % len(clients)], draws.randint(5, 40)
                starts.create_task(start(client, tally, tokens=tokens, leaves_after=leaves_after))
        over.set()
    return tally


async def watch(client: Client, over: asyncio.Event) -> None:
    """Ask again and again what is used: it is never more than there is."""
    while not over.is_set():
        assert await held(client) <= LEASES
        assert await used(client) <= LIMIT


async def start(client: Client, tally: Tally, *, tokens: int, leaves_after: int | None = None) -> None:
    """Read one stream, to its end or until the caller leaves."""
    config = GenerationConfig(max_output_tokens=tokens, ignore_eos=True)
    options = StreamOptions(include_tokens=True)
    seen = 0
    try:
        async with client.stream(MODEL, "It was", config, options=options) as stream:
            async for event in stream:
                seen += len(event.tokens) if isinstance(event, Delta) else 0
                if leaves_after is not None and seen >= leaves_after:
                    break
            assert stream.started is not None
            request, usage = stream.started.request_id, stream.usage.output_tokens
    except CallError as error:
        if error.reason not in REFUSALS:
            raise
        tally.ends[error.reason] += 1
        return
    if leaves_after is not None and seen >= leaves_after:
        tally.ends["left"] += 1
        tally.left[request] = seen
    else:
        assert seen == usage
        tally.ends["OK"] += 1
        tally.told[request] = usage


async def rest(clients: Sequence[Client], draws: random.Random) -> int:
    """The tokens of calls that are made one after the other, at any replica, until the quota is used up."""
    spent = 0
    while True:
        config = GenerationConfig(max_output_tokens=draws.randint(1, LIMIT), ignore_eos=True)
        try:
            generation = await draws.choice(clients).generate(MODEL, "It was", config)
        except CallError as error:
            if error.reason != "DAILY_TOKEN_QUOTA":
                raise
            return spent
        spent += generation.usage.output_tokens


async def test_places_are_shared_by_all_replicas(tmp_path: Path, show: Show) -> None:
    by = Partner("lasting", tokens=1_000_000)
    with site(tmp_path, 3, [by]) as found:
        async with found.clients(by) as clients, lasting(clients, TOKENS) as reads:
            tally = Tally()
            await asyncio.gather(
                *(start(clients[number % len(clients)], tally, tokens=1) for number in range(STARTS)),
            )

            assert all(read.error is None and not read.finishes for read in reads)
            assert tally.ends.keys() <= {"CONCURRENCY_LIMIT", NO_ANSWER}
            assert tally.ends["CONCURRENCY_LIMIT"] > 0
    show(f"{LEASES} streams on 3 replicas, and {STARTS} starts beside them: {dict(tally.ends)}")


async def test_a_killed_replica_gives_its_places_back_and_its_tokens_stay_charged(tmp_path: Path, show: Show) -> None:
    rest_of_it = 30
    by = Partner("killed", tokens=LEASES * TOKENS + rest_of_it)
    with site(tmp_path, 2, [by]) as found:
        victim = found.servers[0]
        async with found.clients(by) as (client, other), lasting([client], TOKENS) as reads:
            victim.signal(signal.SIGKILL)
            await asyncio.gather(*(read.ended() for read in reads))

            assert all(isinstance(read.error, Unavailable) and len(read.tokens) < TOKENS for read in reads)
            with pytest.raises(CallError) as refused:
                await other.generate(MODEL, "It was", GenerationConfig(max_output_tokens=1))
            assert refused.value.reason == "CONCURRENCY_LIMIT"
            await until("the places are back", lambda: is_zero(held(other)))
            assert await used(other) == LEASES * TOKENS
            assert await rest([other], random.Random(SEED)) == rest_of_it
            assert await used(other) == by.tokens
    seen = sum(len(read.tokens) for read in reads)
    show(f"{LEASES} streams killed after {seen} tokens, charged for {LEASES * TOKENS}")


async def test_partners_are_refused_while_redis_is_gone_and_served_again_without_a_restart(
    tmp_path: Path, show: Show
) -> None:
    by = Partner("cut-off", tokens=1_000_000)
    with site(tmp_path, 2, [by]) as found:
        async with found.clients(by) as clients, lasting(clients, TOKENS, count=2) as reads:
            found.redis.kill()
            reasons = Counter[str]()
            while not reasons.keys() >= CUT_OFF:
                reasons.update([await refused_at(server, by) for server in found.servers])
                assert reasons.keys() <= CUT_OFF
            await asyncio.gather(*(read.ended() for read in reads))
            for read in reads:
                assert read.usage is not None
                assert read.usage.output_tokens >= len(read.tokens)
                assert read.error is None or read.error.reason in CUT_OFF

            found.redis.start()
            recovered = [await first_token_again(client) for client in clients]

            await until("the reservations have lapsed", lambda: is_zero(held(clients[0])))
            assert [await used(client) for client in clients] == [2 * TOKENS + sum(recovered)] * 2
            assert all(server.is_running for server in found.servers)
    cut = Counter(read.error.reason if read.error is not None else "own end" for read in reads)
    show(f"refused while Redis was gone: {dict(reasons)}; streams: {dict(cut)}; then served again")


async def refused_at(server: RealServer, by: Partner) -> str:
    """The reason of the replica's first answer: a Client would try again."""
    metadata = (("authorization", f"Bearer {server.token(by.client)}"),)
    async with connected(server.address) as channel:
        request = StreamGenerateRequest(model=MODEL, text="It was")
        return (await refusal(GenerationServiceStub(channel).StreamGenerate(request, metadata=metadata))).reason


async def first_token_again(client: Client) -> int:
    """Call until the replica serves; the tokens of that call."""
    while True:
        try:
            generation = await client.generate(MODEL, "It was", GenerationConfig(max_output_tokens=1))
        except Unavailable as error:
            if error.reason not in CUT_OFF:
                raise
        else:
            return generation.usage.output_tokens


async def is_zero(asked: Awaitable[int]) -> bool:
    return await asked == 0


@asynccontextmanager
async def lasting(clients: Sequence[Client], tokens: int, *, count: int = LEASES) -> AsyncIterator[list[Read]]:
    """Streams that have begun, spread over the clients' replicas; those that still run at the end are left."""
    reads = [
        start_reading(clients[number % len(clients)], MODEL, tokens=tokens, seed=number) for number in range(count)
    ]
    tasks = [read.task for read in reads if read.task is not None]
    try:
        await asyncio.gather(*(read.begun.wait() for read in reads))
        yield reads
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
