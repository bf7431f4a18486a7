"""What is put under chaos: three replicas, a Redis that each reaches by a link of its own, Envoy and Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import grpc
from cut_links import Links, links
from deployment import AUDIENCE, DEMO_MODELS, EVAL_TEAM, ISSUER, Deployment, Hosted, zone_at_noon
from envoy_proxy import Envoy, configuration, envoy
from fleet import Replica, started
from harness import connected
from prometheus import Prometheus, prometheus
from redis_server import KEEPS, RedisServer, free_port
from stepped_clock import SteppedClock, build_clock

from sluicegate.auth import issue_token
from sluicegate.client import CallableToken
from sluicegate.client.status import call_error
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub

if TYPE_CHECKING:
    from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub

RULES = Path(__file__).resolve().parents[2] / "helm/sluicegate/files/rules.yaml"
REPLICAS = 3
PUBLIC_MODEL, PARTNER_MODEL = "demo-xs", "demo-s"
ASKED_FOR_SECONDS = 10.0
STALLED_READER_SECONDS = 4
STALE_SECONDS = 5.0
"""The age from which a replica's list of withdrawals closes what it could close."""
STEP_SECONDS = 1_500
"""How far clocks are stepped. Tokens are half an hour old and live an hour, so they are valid before and after."""


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner with an agreement of its own."""

    name: str
    quotas: Mapping[str, int]

    @property
    def client(self) -> str:
        return f"{self.name}-app"


@dataclass(slots=True)
class Site:
    """All that runs. Links and clocks are numbered as the replicas are."""

    deployment: Deployment
    replicas: list[Replica]
    clocks: list[SteppedClock]
    redis: RedisServer
    cables: Links
    envoy: Envoy
    prometheus: Prometheus

    @property
    def in_turn(self) -> str:
        """The target of clients that take turns."""
        return "ipv4:" + ",".join(each.address for each in self.replicas)

    def token(self, client: str) -> str:
        """A token of a client, good for half an hour to come and for half an hour back."""
        scopes = tuple(f"generate:{model}" for model in (PUBLIC_MODEL, PARTNER_MODEL))
        return issue_token(
            self.deployment.key,
            issuer=ISSUER,
            audience=AUDIENCE,
            subject="alice",
            client_id=client,
            scopes=("release:withdraw",) if client == EVAL_TEAM else scopes,
            now=time.time() - 1_800,
            lifetime_seconds=3_600,
        )

    def tokens(self, client: str) -> CallableToken:
        """The same for a Client, fresh for each call."""
        return CallableToken(lambda: self.token(client))


async def ask_for_a_token(replica: Replica, model: str, token: str) -> None:
    """Ask a replica for one token, once and by a connection of its own. Raises AioRpcError."""
    request = GenerateRequest(model=model, text="It was", config=GenerationConfig(max_output_tokens=1))
    async with connected(replica.address) as channel:
        stub = cast("GenerationServiceAsyncStub", GenerationServiceStub(channel))
        metadata = (("authorization", f"Bearer {token}"),)
        await stub.Generate(request, metadata=metadata, timeout=ASKED_FOR_SECONDS)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The server's reason, else the code of what is on the way to it."""
    ended = call_error(error.code(), error.details(), [(name, value) for name, value in error.trailing_metadata()])
    return ended.reason or error.code().name


@contextmanager
def site(directory: Path, partners: Sequence[Partner]) -> Iterator[Site]:
    """All of it, serving; ended with the context."""
    (directory / "redis").mkdir(parents=True)
    (directory / "envoy").mkdir()
    models = {
        PUBLIC_MODEL: Hosted(directory=DEMO_MODELS / PUBLIC_MODEL),
        PARTNER_MODEL: Hosted(directory=DEMO_MODELS / PARTNER_MODEL, open_to="partner"),
    }
    with links(REPLICAS + 1) as cables, reachable_redis(directory / "redis", cables) as redis:
        deployment = Deployment(
            directory / "files",
            models,
            state={"url": redis.url(), "lease_seconds": 10},
            drain={"announce_seconds": 3, "grace_seconds": 30},
            limits={
                "peer_calls_per_minute": 1_000_000,
                "denials_per_minute": 1_000_000,
                "stalled_reader_seconds": STALLED_READER_SECONDS,
                "connection_age_seconds": 60,
            },
        )
        for each in partners:
            deployment.add_agreement(f"agr-{each.name}", each.client, quotas=each.quotas, timezone=zone_at_noon())
        library = build_clock(directory)
        clocks = [SteppedClock(library, directory / f"clock-{number}") for number in range(REPLICAS)]
        metrics = [f"127.0.0.1:{free_port()}" for _ in range(REPLICAS)]
        replicas = [
            Replica(
                deployment,
                number,
                f"127.0.0.1:{free_port()}",
                *("--state", f"redis://{cables.addresses[number]}:{redis.port}/0"),
                *("--metrics-listen", metrics[number]),
                environment=clocks[number].environment,
            )
            for number in range(REPLICAS)
        ]
        addresses = [each.address for each in replicas]
        with (
            started(replicas),
            envoy(directory / "envoy", configuration(addresses)) as proxy,
            prometheus(directory / "prometheus", {"sluicegate": metrics}, [RULES], interval="2s") as scraper,
        ):
            proxy.wait_for_healthy(addresses)
            yield Site(deployment, replicas, clocks, redis, cables, proxy, scraper)


@contextmanager
def reachable_redis(directory: Path, cables: Links) -> Iterator[RedisServer]:
    """A Redis that keeps what it is told, behind the links; tests ask it by the last one, which is never cut."""
    everywhere = ("--bind", "0.0.0.0", "--protected-mode", "no")
    redis = RedisServer(directory, *KEEPS, *everywhere, host=cables.addresses[-1], within=cables.within)
    try:
        redis.start()
        yield redis
    finally:
        redis.kill()
