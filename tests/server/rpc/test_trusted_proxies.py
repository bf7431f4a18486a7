"""Proxies that end TLS, over real mTLS: whose word on callers counts, and for what."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from harness import (
    LONG_SECONDS,
    SMALL,
    Server,
    bearer,
    connected,
    demo_plan,
    open_agreement,
    refusal,
    serving,
    tls_credentials,
    tls_settings,
)

from sluicegate.auth import certificate_thumbprint
from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest
from sluicegate.v1.access_service_pb2_grpc import AccessServiceStub
from sluicegate.v1.generation_service_pb2 import TokenizeRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub

Metadata = tuple[tuple[str, str], ...]
PARTNERS = "gpt2-774m"
INSIDE, OUTSIDE = "192.0.2.7", "198.51.100.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def server(tmp_path: Path, authority: Authority) -> AsyncIterator[Server]:
    """A server that trusts one proxy, and a connection from it; callers are limited to two calls a network."""
    async with serving(
        tmp_path,
        demo_plan(),
        [open_agreement(networks=["192.0.2.0/24"])],
        credentials=tls_credentials(authority, "proxy.example"),
        tls=tls_settings(authority, with_clients=True),
        trusted_proxies=[{"name": "proxy.example"}],
        models={SMALL: {"device": "cpu"}, PARTNERS: {"device": "cpu"}},
        limits={"peer_calls_per_minute": 2},
    ) as server:
        yield server


def forwarded(address: str | None = None, certificate: str | None = None) -> Metadata:
    headers = {"x-forwarded-for": address, "x-forwarded-client-cert": certificate}
    return tuple((name, value) for name, value in headers.items() if value is not None)


def whoami(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    stub: Any = AccessServiceStub(channel)
    return stub.GetCallerIdentity(GetCallerIdentityRequest(), metadata=metadata, timeout=LONG_SECONDS)


def partner_call(channel: grpc.aio.Channel, metadata: Metadata) -> Any:
    """A call that the agreement allows from its network only."""
    stub: Any = GenerationServiceStub(channel)
    caller = bearer(client_id="lab-app")
    return stub.Tokenize(
        TokenizeRequest(model=PARTNERS, text="The"), metadata=(*caller, *metadata), timeout=LONG_SECONDS
    )


async def test_an_agreements_network_is_that_of_the_caller_behind_the_proxy(server: Server) -> None:
    assert (await partner_call(server.channel, forwarded(INSIDE))).tokens
    refused = [
        await refusal(partner_call(server.channel, forwarded(f"{INSIDE}, {OUTSIDE}"))),
        await refusal(partner_call(server.channel, forwarded())),
    ]

    assert [each.reason for each in refused] == ["NETWORK_NOT_PERMITTED"] * 2


async def test_nobody_else_can_say_where_it_calls_from(server: Server, authority: Authority) -> None:
    async with connected(server.target, tls_credentials(authority, "client.example")) as channel:
        refused = await refusal(partner_call(channel, forwarded(INSIDE)))

    assert refused.reason == "NETWORK_NOT_PERMITTED"


async def test_callers_behind_one_proxy_are_limited_each_by_its_own_network(server: Server) -> None:
    for address in (INSIDE, OUTSIDE):
        for _ in range(2):
            await whoami(server.channel, (*bearer(), *forwarded(address)))

        refused = await refusal(whoami(server.channel, (*bearer(), *forwarded(address))))
        assert refused.verdict == "RESOURCE_EXHAUSTED PEER_RATE_LIMIT"


async def test_calls_of_a_proxy_that_tells_of_nobody_count_on_the_proxys_network(server: Server) -> None:
    for _ in range(2):
        await whoami(server.channel, bearer())

    assert (await refusal(whoami(server.channel, bearer()))).reason == "PEER_RATE_LIMIT"


async def test_a_token_is_bound_to_the_certificate_that_the_proxy_saw(server: Server, authority: Authority) -> None:
    own = authority.issue("client.example").read_bytes()
    proxy = (authority.certificate.parent / "proxy.example.pem").read_bytes()
    seen = f"Hash={hashlib.sha256(ssl.PEM_cert_to_DER_cert(own.decode())).hexdigest()}"
    bound_to_own = bearer(cnf={"x5t#S256": certificate_thumbprint(own)})
    bound_to_proxy = bearer(cnf={"x5t#S256": certificate_thumbprint(proxy)})

    served = await whoami(server.channel, (*bound_to_own, *forwarded(INSIDE, seen)))
    refused = [
        await refusal(whoami(server.channel, (*bound_to_own, *forwarded(INSIDE)))),
        await refusal(whoami(server.channel, (*bound_to_own, *forwarded(OUTSIDE, f"Hash={'ab' * 32}")))),
        await refusal(whoami(server.channel, (*bound_to_proxy, *forwarded(OUTSIDE)))),
    ]

    assert served.subject == "alice"
    assert [each.reason for each in refused] == ["TOKEN_BINDING_MISMATCH"] * 3


async def test_a_stranger_cannot_pass_off_anothers_certificate_as_its_own(server: Server, authority: Authority) -> None:
    victim = authority.issue("victim.example").read_bytes()
    seen = f"Hash={hashlib.sha256(ssl.PEM_cert_to_DER_cert(victim.decode())).hexdigest()}"
    stolen = bearer(cnf={"x5t#S256": certificate_thumbprint(victim)})

    async with connected(server.target, tls_credentials(authority, "thief.example")) as channel:
        refused = await refusal(whoami(channel, (*stolen, *forwarded(INSIDE, seen))))

    assert refused.verdict == "UNAUTHENTICATED TOKEN_BINDING_MISMATCH"


@pytest.mark.parametrize("headers", [forwarded("nonsense"), forwarded(INSIDE, "nonsense")])
async def test_a_header_that_cannot_be_understood_refuses_the_call_whoever_it_is_for(
    server: Server, headers: Metadata
) -> None:
    refused = await refusal(whoami(server.channel, (*bearer(), *headers)))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert set(refused.violations) == {headers[-1][0]}
