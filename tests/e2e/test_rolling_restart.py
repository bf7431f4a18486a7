"""Every replica is restarted under load, one after the other, and no call of the client as it comes fails."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from certificates import Authority
from deployment import DEMO_MODELS, Deployment, Hosted
from envoy_proxy import cluster, configuration, envoy
from fleet import Replica, fleet
from name_server import name_server
from real_server import until
from redis_server import free_port, redis_server

from sluicegate.client import CallError, Client, Finished, GenerationConfig, Tls

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODEL = "demo-xs"
NAME = "gate.example"
AT_ONCE = 8
LIMITS = {"connection_age_seconds": 2, "peer_calls_per_minute": 1_000_000}
"""Connections are renewed so often that each test sees it many times; nobody is kept from calling."""


@dataclass(slots=True)
class Site:
    """Two replicas that share a store, behind TLS."""

    replicas: list[Replica]
    port: int
    tls: Tls

    @property
    def token(self) -> str:
        return self.replicas[0].server.token()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    (directory / "redis").mkdir()
    authority = Authority(directory)
    certificate = authority.issue(NAME)
    tls = {"certificate": str(certificate), "key": str(certificate.with_suffix(".key"))}
    models = {MODEL: Hosted(directory=DEMO_MODELS / MODEL)}
    port = free_port()
    with redis_server(directory / "redis") as redis:
        deployment = Deployment(directory / "files", models, tls=tls, state={"url": redis.url()}, limits=LIMITS)
        with fleet(deployment, [f"127.0.0.{host}:{port}" for host in (1, 2)]) as replicas:
            yield Site(replicas, port, Tls(ca=authority.certificate, server_name=NAME))


@dataclass(slots=True)
class Load:
    """Streams, one after the other in several tasks, and how they ended."""

    client: Client
    answered: int = 0
    failures: list[CallError] = field(default_factory=list)

    async def call_for_ever(self) -> None:
        config = GenerationConfig(max_output_tokens=30, ignore_eos=True)
        while True:
            try:
                async with self.client.stream(MODEL, "It was", config) as stream:
                    events = [event async for event in stream]
                assert isinstance(events[-1], Finished)
                self.answered += 1
            except CallError as error:
                self.failures.append(error)


@asynccontextmanager
async def load(client: Client) -> AsyncIterator[Load]:
    """A load on the client's replicas while the context is open."""
    found = Load(client)
    tasks = [asyncio.create_task(found.call_for_ever()) for _ in range(AT_ONCE)]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def stopped(replica: Replica) -> None:
    replica.server.signal(signal.SIGTERM)
    assert await asyncio.to_thread(replica.server.wait) == 0


async def gets_calls(replica: Replica) -> None:
    await asyncio.to_thread(replica.server.wait_until_serving)
    await until("it gets calls", lambda: replica.server.events("call"))


async def test_no_call_fails_while_replicas_restart_at_their_addresses(site: Site) -> None:
    target = "ipv4:" + ",".join(each.address for each in site.replicas)
    async with Client(target, token=site.token, tls=site.tls) as client, load(client) as found:
        for replica in site.replicas:
            await stopped(replica)
            replica.start()
            await gets_calls(replica)

    assert found.failures == []
    assert found.answered > AT_ONCE


async def test_no_call_fails_while_replicas_restart_behind_envoy(site: Site, tmp_path: Path) -> None:
    document = configuration([each.address for each in site.replicas])
    cluster(document, "replicas")["transport_socket"] = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": NAME,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "validation_context": {"trusted_ca": {"filename": str(site.tls.ca)}},
            },
        },
    }
    with envoy(tmp_path, document) as proxy:
        proxy.wait_for_healthy([each.address for each in site.replicas])
        async with Client(proxy.address, token=site.token) as client, load(client) as found:
            for replica in site.replicas:
                await stopped(replica)
                replica.start()
                await gets_calls(replica)

    assert found.failures == []
    assert found.answered > AT_ONCE


async def test_no_call_fails_while_replicas_are_replaced_behind_a_name(site: Site) -> None:
    addresses = [each.address.partition(":")[0] for each in site.replicas]
    async with (
        name_server(*addresses) as names,
        Client(f"dns://{names.authority}/{NAME}:{site.port}", token=site.token, tls=site.tls) as client,
        load(client) as found,
    ):
        for replica, old in zip(site.replicas, addresses, strict=True):
            new = f"127.0.0.1{old[-1]}"
            names.addresses.remove(old)
            await stopped(replica)
            replica.start(at=f"{new}:{site.port}")
            await asyncio.to_thread(replica.server.wait_until_serving)
            names.addresses.append(new)
        await until("all get calls", lambda: all(each.server.events("call") for each in site.replicas))

    assert found.failures == []
    assert found.answered > AT_ONCE
