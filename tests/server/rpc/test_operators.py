"""The operators' listener: what is on it and what is not, its TLS, and that there is none unless it is asked for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from harness import (
    LONG_SECONDS,
    Server,
    bearer,
    connected,
    refusal,
    serving,
    tls_credentials,
    tls_settings,
)

from sluicegate.server.errors import SettingsError
from sluicegate.server.rpc.methods import caller_services, operator_services

ENGINE_SERVICE = "sluicegate.v1.EngineService"


def paths(services: Any) -> list[str]:
    return [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]


async def reflected(channel: Any, **request: Any) -> Any:
    stub: Any = ServerReflectionStub(channel)
    stream = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=LONG_SECONDS)
    return await stream.read()


async def asked(channel: grpc.aio.Channel, path: str) -> str:
    call: Any = channel.unary_unary(path)
    return (await refusal(call(b"", metadata=bearer(), timeout=LONG_SECONDS))).verdict


async def served(address: str | None, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """The code of a GetLoad over a connection of its own."""
    assert address is not None
    async with connected(address, credentials) as channel:
        call: Any = channel.unary_unary(f"/{ENGINE_SERVICE}/GetLoad")
        try:
            await call(b"", metadata=bearer(), timeout=LONG_SECONDS)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.mark.parametrize("path", paths(operator_services()))
async def test_callers_do_not_have_the_operators_methods(server: Server, path: str) -> None:
    assert await asked(server.channel, path) == "UNIMPLEMENTED METHOD_UNKNOWN"


@pytest.mark.parametrize("path", [*paths(caller_services()), "/grpc.health.v1.Health/Check"])
async def test_operators_do_not_have_the_callers_methods(server: Server, path: str) -> None:
    assert await asked(server.operator_channel, path) == "UNIMPLEMENTED METHOD_UNKNOWN"


async def test_reflection_shows_each_what_it_has(server: Server) -> None:
    def names(answer: Any) -> set[str]:
        return {service.name for service in answer.list_services_response.service}

    callers = names(await reflected(server.channel, list_services=""))
    operators = names(await reflected(server.operator_channel, list_services=""))

    assert ENGINE_SERVICE not in callers
    assert operators == {ENGINE_SERVICE, "grpc.reflection.v1alpha.ServerReflection"}


async def test_reflection_does_not_describe_the_operators_service_to_callers(server: Server) -> None:
    callers = await reflected(server.channel, file_containing_symbol=ENGINE_SERVICE)
    by_file = await reflected(server.channel, file_by_filename="sluicegate/v1/engine_service.proto")
    operators = await reflected(server.operator_channel, file_containing_symbol=ENGINE_SERVICE)

    not_found = grpc.StatusCode.NOT_FOUND.value[0]
    assert (callers.error_response.error_code, by_file.error_response.error_code) == (not_found, not_found)
    assert operators.file_descriptor_response.file_descriptor_proto


async def test_there_is_no_such_listener_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path, operators={"listen": None}) as server:
        assert server.running.operators_address is None
        assert await asked(server.channel, f"/{ENGINE_SERVICE}/GetLoad") == "UNIMPLEMENTED METHOD_UNKNOWN"


async def test_a_port_in_use_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(SettingsError, match=f"operators.listen: cannot listen on {address}"):
            async with serving(tmp_path, operators={"listen": address}):
                pass


async def test_the_network_does_not_hear_operators_in_the_clear(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"operators\.listen: needs tls"):
        async with serving(tmp_path, operators={"listen": "0.0.0.0:0"}):
            pass


async def test_it_has_the_tls_of_the_callers_listener(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    credentials = tls_credentials(authority)
    tls = tls_settings(authority)
    async with serving(tmp_path / "server", tls=tls, credentials=credentials) as server:
        address = server.running.operators_address

        assert await served(address, credentials) is grpc.StatusCode.OK
        assert await served(address, None) is grpc.StatusCode.UNAVAILABLE


async def test_its_own_tls_lets_in_only_those_with_a_certificate_of_the_operators_authority(tmp_path: Path) -> None:
    (tmp_path / "callers").mkdir()
    (tmp_path / "operators").mkdir()
    callers, operators = Authority(tmp_path / "callers"), Authority(tmp_path / "operators")
    settings = {"listen": "127.0.0.1:0", "tls": tls_settings(operators, with_clients=True)}
    as_caller = tls_credentials(callers)
    async with serving(
        tmp_path / "server", tls=tls_settings(callers), operators=settings, credentials=as_caller
    ) as server:
        address = server.running.operators_address

        assert await served(address, tls_credentials(operators, "olga")) is grpc.StatusCode.OK
        assert await served(address, tls_credentials(operators)) is grpc.StatusCode.UNAVAILABLE
        assert await served(server.target, as_caller) is grpc.StatusCode.UNIMPLEMENTED


async def test_no_proxy_is_believed_on_it(tmp_path: Path) -> None:
    """One that callers' tokens come through must not lend an operator's token another's certificate."""
    authority = Authority(tmp_path)
    proxy = tls_credentials(authority, "proxy.example")
    async with serving(
        tmp_path / "server",
        tls=tls_settings(authority, with_clients=True),
        trusted_proxies=[{"name": "proxy.example"}],
        credentials=proxy,
    ) as server:
        bound = bearer(cnf={"x5t#S256": "A" * 43})
        header = ("x-forwarded-client-cert", "Hash=" + "00" * 32)
        call: Any = server.operator_channel.unary_unary(f"/{ENGINE_SERVICE}/GetLoad")

        plain = await call(b"", metadata=(*bearer(), ("x-forwarded-for", "no address")), timeout=LONG_SECONDS)
        refused = await refusal(call(b"", metadata=(*bound, header), timeout=LONG_SECONDS))

        assert plain
        assert refused.verdict == "UNAUTHENTICATED TOKEN_BINDING_MISMATCH"


async def test_networks_that_call_too_often_are_limited_over_both_listeners_together(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"peer_calls_per_minute": 1}) as server:
        call: Any = server.operator_channel.unary_unary(f"/{ENGINE_SERVICE}/GetLoad")
        await call(b"", metadata=bearer(), timeout=LONG_SECONDS)

        assert await asked(server.channel, "/sluicegate.v1.ModelService/ListModels") == (
            "RESOURCE_EXHAUSTED PEER_RATE_LIMIT"
        )
