"""TLS through the wire: who is believed, tokens bound to certificates, and renewal while the server runs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from harness import LONG_SECONDS, Server, bearer, connected, refusal, serving, tls_credentials, tls_settings

from sluicegate.auth import certificate_thumbprint
from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest
from sluicegate.v1.access_service_pb2_grpc import AccessServiceStub

Metadata = tuple[tuple[str, str], ...]
SHORT_SECONDS = 2.0  # a handshake that is refused is tried again until the deadline


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def whoami(channel: grpc.aio.Channel, metadata: Metadata, seconds: float = LONG_SECONDS) -> Any:
    stub: Any = AccessServiceStub(channel)
    return stub.GetCallerIdentity(GetCallerIdentityRequest(), metadata=metadata, timeout=seconds)


async def code_of(server: Server, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """How a call with these credentials fails."""
    async with connected(server.target, credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await whoami(channel, bearer(), SHORT_SECONDS)
        return caught.value.code()


def bound(path: Path) -> Metadata:
    """A token bound to the certificate."""
    return bearer(cnf={"x5t#S256": certificate_thumbprint(path.read_bytes())})


async def test_a_client_that_trusts_the_authority_is_served(tmp_path: Path, authority: Authority) -> None:
    async with serving(tmp_path, credentials=tls_credentials(authority), tls=tls_settings(authority)) as server:
        identity = await whoami(server.channel, bearer())

        assert identity.subject == "alice"
        assert await code_of(server, None) is grpc.StatusCode.UNAVAILABLE


async def test_a_token_is_bound_to_the_connections_certificate(tmp_path: Path, authority: Authority) -> None:
    own, other = authority.issue("own.example"), authority.issue("other.example")
    tls = tls_settings(authority, with_clients=True)
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(), own.with_suffix(".key").read_bytes(), own.read_bytes()
    )
    async with serving(tmp_path, credentials=credentials, tls=tls) as server:
        identity = await whoami(server.channel, bound(own))
        unbound = await whoami(server.channel, bearer())
        refused = await refusal(whoami(server.channel, bound(other)))

        assert identity.subject == unbound.subject == "alice"
        assert refused.verdict == "UNAUTHENTICATED TOKEN_BINDING_MISMATCH"


async def test_without_a_client_authority_no_bound_token_counts(tmp_path: Path, authority: Authority) -> None:
    own = authority.issue("own.example")
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(), own.with_suffix(".key").read_bytes(), own.read_bytes()
    )
    async with serving(tmp_path, credentials=credentials, tls=tls_settings(authority)) as server:
        refused = await refusal(whoami(server.channel, bound(own)))

        assert refused.verdict == "UNAUTHENTICATED TOKEN_BINDING_MISMATCH"


async def test_clients_without_a_certificate_of_the_authority_are_not_let_in(
    tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger").issue("client.example")
    strange = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(), stranger.with_suffix(".key").read_bytes(), stranger.read_bytes()
    )
    known = tls_credentials(authority, "client.example")
    async with serving(tmp_path, credentials=known, tls=tls_settings(authority, with_clients=True)) as server:
        assert (await whoami(server.channel, bearer())).subject == "alice"
        assert await code_of(server, tls_credentials(authority)) is grpc.StatusCode.UNAVAILABLE
        assert await code_of(server, strange) is grpc.StatusCode.UNAVAILABLE


async def serial(server: Server) -> bytes:
    """The certificate that the server shows to a new connection."""
    host, _, port = server.target.rpartition(":")
    shown: str = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    return shown.encode()


async def test_a_renewed_certificate_counts_for_new_connections_and_breaks_none(
    tmp_path: Path, authority: Authority, logs: list[MutableMapping[str, Any]]
) -> None:
    async with serving(tmp_path, credentials=tls_credentials(authority), tls=tls_settings(authority)) as server:
        await whoami(server.channel, bearer())
        before = await serial(server)

        renewed = authority.issue("server.example").read_bytes()

        assert await serial(server) == renewed != before
        assert (await whoami(server.channel, bearer())).subject == "alice"
        assert [entry["event"] for entry in logs if "certificate" in entry["event"]] == ["certificate_renewed"]


@pytest.mark.parametrize("damage", ["missing", "no PEM", "another's key"])
async def test_a_bad_renewal_leaves_the_last_good_certificate(
    tmp_path: Path, authority: Authority, logs: list[MutableMapping[str, Any]], damage: str
) -> None:
    async with serving(tmp_path, credentials=tls_credentials(authority), tls=tls_settings(authority)) as server:
        before = await serial(server)
        key = tmp_path / "server.example.key"

        match damage:
            case "missing":
                key.unlink()
            case "no PEM":
                key.write_text("half a fi")
            case _:
                key.write_bytes(authority.issue("other.example").with_suffix(".key").read_bytes())

        for _ in range(3):
            assert await serial(server) == before
        assert [entry["event"] for entry in logs].count("certificate_not_renewed") == 1
