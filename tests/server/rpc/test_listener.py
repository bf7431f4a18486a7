"""The listener: its limits, its addresses, and what reflection shows."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from cut import line_to
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from harness import LONG_SECONDS, SMALL, Server, bearer, connected, refusal, serving, until

from sluicegate.server.errors import SettingsError
from sluicegate.server.rpc.methods import EXEMPT_SERVICES, caller_services
from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest
from sluicegate.v1.access_service_pb2_grpc import AccessServiceStub
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, StreamGenerateRequest, TokenizeRequest
from sluicegate.v1.generation_service_pb2_grpc import GenerationServiceStub
from sluicegate.v1.model_service_pb2 import WatchModelsRequest


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def reflected(server: Server, request: Any) -> Any:
    channel: Any = server.channel  # the type stubs do not know that there is an aio channel
    stub: Any = ServerReflectionStub(channel)
    stream = stub.ServerReflectionInfo(iter([request]), timeout=LONG_SECONDS)
    return await stream.read()


async def test_reflection_lists_the_services_to_anyone(server: Server) -> None:
    answer = await reflected(server, reflection_pb2.ServerReflectionRequest(list_services=""))

    names = {service.name for service in answer.list_services_response.service}
    assert names == {*(service.full_name for service in caller_services()), *EXEMPT_SERVICES}


async def test_reflection_shows_the_files_of_a_service(server: Server) -> None:
    wanted = "sluicegate.v1.GenerationService"

    answer = await reflected(server, reflection_pb2.ServerReflectionRequest(file_containing_symbol=wanted))

    assert answer.file_descriptor_response.file_descriptor_proto


async def test_reflection_shows_the_details_of_errors(server: Server) -> None:
    """No service's file names them, and grpcurl cannot show a status without."""
    for detail in ("Status", "ErrorInfo", "BadRequest", "RetryInfo", "QuotaFailure", "RequestInfo"):
        wanted = f"google.rpc.{detail}"

        answer = await reflected(server, reflection_pb2.ServerReflectionRequest(file_containing_symbol=wanted))

        assert answer.file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_switched_off(tmp_path: Path) -> None:
    async with serving(tmp_path, reflection=False) as server:
        call: Any = server.channel.unary_unary("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")

        assert (await refusal(call(b"", timeout=LONG_SECONDS))).verdict == "UNIMPLEMENTED METHOD_UNKNOWN"


async def test_a_request_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"message_bytes": 65_536}) as server:
        fits = TokenizeRequest(model=SMALL, text="x" * 65_000)
        exceeds = TokenizeRequest(model=SMALL, text="x" * 66_000)

        answer = await server.generation.Tokenize(fits, metadata=bearer(), timeout=LONG_SECONDS)
        code = await code_of(server.generation.Tokenize(exceeds, metadata=bearer(), timeout=LONG_SECONDS))

        assert answer.tokens
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_connection_has_no_more_streams_than_the_limit(tmp_path: Path) -> None:
    async with serving(tmp_path, limits={"streams_per_connection": 2}) as server:

        def watch() -> Any:
            return server.models.WatchModels(WatchModelsRequest(), metadata=bearer(), timeout=LONG_SECONDS)

        watches = [watch(), watch()]
        for each in watches:
            await each.read()
        watches.append(watch())
        third = asyncio.create_task(watches[2].read())
        async with connected(server.target) as another:
            stub: Any = AccessServiceStub(another)
            await stub.GetCallerIdentity(GetCallerIdentityRequest(), metadata=bearer(), timeout=LONG_SECONDS)

        assert not third.done()
        watches[0].cancel()
        assert len((await third).models) > 0
        for each in watches[1:]:
            each.cancel()


async def test_an_old_connection_takes_no_new_calls_and_its_stream_goes_on_to_its_end(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, limits={"connection_age_seconds": 0.1}) as server,
        line_to(server.target) as line,
        connected(line.target) as channel,
    ):
        server.engine.pause_after(2)
        generation: Any = GenerationServiceStub(channel)
        access: Any = AccessServiceStub(channel)
        request = StreamGenerateRequest(model=SMALL, text="The", config=GenerationConfig(max_output_tokens=5))
        stream = aiter(generation.StreamGenerate(request, metadata=bearer(), timeout=LONG_SECONDS))
        await anext(stream)

        async def call_comes_by_another() -> bool:
            await access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=bearer(), timeout=LONG_SECONDS)
            return line.connections == 2

        await until(call_comes_by_another)
        server.engine.resume()
        messages = [message async for message in stream]

        assert messages[-1].HasField("finished")
        assert messages[-1].usage.output_tokens == 5


async def test_more_metadata_than_the_limit_is_refused_and_the_connection_lives_on(server: Server) -> None:
    huge = (*bearer(), ("x-filler", "x" * 17_000))

    code = await code_of(server.access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=huge))
    identity = await server.access.GetCallerIdentity(
        GetCallerIdentityRequest(), metadata=bearer(), timeout=LONG_SECONDS
    )

    assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
    assert identity.subject == "alice"


async def test_the_largest_token_fits_with_room_to_spare(server: Server) -> None:
    metadata = (*bearer(sub="x" * 3_900), ("x-filler", "x" * 8_000))

    refused = await refusal(server.access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=metadata))

    assert refused.verdict == "UNAUTHENTICATED TOKEN_CLAIMS_INVALID"


async def test_a_unix_socket_serves(tmp_path: Path) -> None:
    async with serving(tmp_path, listen=f"unix:{tmp_path}/s") as server:
        server.engine.say("The end.")

        answer = await server.generation.Generate(
            GenerateRequest(model=SMALL, text="The"), metadata=bearer(), timeout=LONG_SECONDS
        )

        assert server.target == f"unix:{tmp_path}/s"
        assert answer.candidates[0].text == "The end."


async def test_a_port_in_use_keeps_the_server_from_starting(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(SettingsError, match=f"listen: cannot listen on {address}"):
            async with serving(tmp_path, listen=address):
                pass


async def test_two_servers_do_not_share_a_port(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    async with serving(tmp_path / "first") as first:
        with pytest.raises(SettingsError, match="cannot listen"):
            async with serving(tmp_path / "second", listen=first.target):
                pass
