from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import pytest
from client_server import FakeServer, Pause, Refusal, Step, delta, finished, generated, started

from sluicegate.client import Cancelled, Client, ConfigurationError, InsecureTransport, QuotaExceeded, Tls, Unavailable
from sluicegate.client.channel import SERVICES, service_config
from sluicegate.v1 import (
    access_service_pb2,
    engine_service_pb2,
    finding_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    provenance_service_pb2,
    release_service_pb2,
    withdrawal_service_pb2,
)

MANY = 24
OVERLOADED = Refusal(code=grpc.StatusCode.UNAVAILABLE, reason="SERVER_OVERLOADED", retry_after=0, pushback_ms="1")


def test_the_service_config_names_every_service_of_the_api() -> None:
    files = (
        access_service_pb2,
        engine_service_pb2,
        finding_service_pb2,
        generation_service_pb2,
        model_service_pb2,
        provenance_service_pb2,
        release_service_pb2,
        withdrawal_service_pb2,
    )
    services = [each.full_name for file in files for each in file.DESCRIPTOR.services_by_name.values()]

    (config,) = json.loads(service_config(None))["methodConfig"]

    assert sorted(SERVICES) == sorted(services)
    assert [each["service"] for each in config["name"]] == list(SERVICES)


def test_only_what_no_server_took_is_retried() -> None:
    (config,) = json.loads(service_config(None))["methodConfig"]

    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]


def test_a_health_check_is_asked_for_only_by_name() -> None:
    assert "healthCheckConfig" not in json.loads(service_config(None))
    assert json.loads(service_config(""))["healthCheckConfig"] == {"serviceName": ""}


async def test_a_refusal_for_overload_is_retried_as_soon_as_the_server_says(server: FakeServer) -> None:
    server.will("Generate", [OVERLOADED], [OVERLOADED], [generated("text")])

    async with Client(server.target) as client:
        generation = await client.generate("gpt2-124m", "Once")

    assert generation.text == "text"
    assert len(server.calls) == 3


async def test_a_stream_that_was_refused_before_its_first_message_is_retried(server: FakeServer) -> None:
    server.will("StreamGenerate", [OVERLOADED], [started(), delta("text"), finished()])

    async with Client(server.target) as client, client.stream("gpt2-124m", "Once") as stream:
        events = [event async for event in stream]

    assert len(events) == 3
    assert len(server.calls) == 2


async def test_a_call_that_a_stopping_server_dropped_is_retried(server: FakeServer) -> None:
    server.will("Generate", [Refusal(code=grpc.StatusCode.CANCELLED, pushback_ms="1")], [generated("text")])

    async with Client(server.target) as client:
        generation = await client.generate("gpt2-124m", "Once")

    assert generation.text == "text"


async def test_a_call_that_a_server_cancelled_on_purpose_is_not(server: FakeServer) -> None:
    server.will("Generate", [Refusal(code=grpc.StatusCode.CANCELLED, pushback_ms="-1")], [generated("text")])

    async with Client(server.target) as client:
        with pytest.raises(Cancelled):
            await client.generate("gpt2-124m", "Once")

    assert len(server.calls) == 1


async def test_many_calls_that_are_refused_at_once_are_all_retried(server: FakeServer) -> None:
    together = Pause()
    refused: list[Step] = [together, OVERLOADED]
    server.will("Generate", *[refused] * MANY, [generated("text")])

    async with Client(server.target) as client:
        calls = [asyncio.create_task(client.generate("gpt2-124m", "Once")) for _ in range(MANY)]
        await asyncio.to_thread(server.wait_for_calls, MANY)
        together.over.set()
        generations = await asyncio.gather(*calls)

    assert [each.text for each in generations] == ["text"] * MANY


async def test_nothing_is_retried_where_the_caller_does_not_want_it(server: FakeServer) -> None:
    server.will("Generate", [OVERLOADED], [generated("text")])

    async with Client(server.target, retry=False) as client:
        with pytest.raises(Unavailable):
            await client.generate("gpt2-124m", "Once")

    assert len(server.calls) == 1


async def test_a_stream_that_broke_off_is_never_repeated(server: FakeServer) -> None:
    server.will("StreamGenerate", [started(), delta("text"), OVERLOADED])

    async with Client(server.target) as client, client.stream("gpt2-124m", "Once") as stream:
        with pytest.raises(Unavailable):
            _ = [event async for event in stream]

    assert len(server.calls) == 1


async def test_retries_end_and_the_last_refusal_arrives(server: FakeServer) -> None:
    server.will("Generate", [OVERLOADED])

    async with Client(server.target) as client:
        with pytest.raises(Unavailable) as caught:
            await client.generate("gpt2-124m", "Once")

    assert caught.value.reason == "SERVER_OVERLOADED"
    assert len(server.calls) == 4


async def test_a_pushback_below_zero_forbids_the_retry(server: FakeServer) -> None:
    server.will("Generate", [Refusal(code=grpc.StatusCode.UNAVAILABLE, pushback_ms="-1")], [generated("text")])

    async with Client(server.target) as client:
        with pytest.raises(Unavailable):
            await client.generate("gpt2-124m", "Once")

    assert len(server.calls) == 1


async def test_a_quota_is_not_retried(server: FakeServer) -> None:
    limit = Refusal(code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="REQUEST_RATE_LIMIT", pushback_ms="1")
    server.will("Generate", [limit], [generated("text")])

    async with Client(server.target) as client:
        with pytest.raises(QuotaExceeded):
            await client.generate("gpt2-124m", "Once")

    assert len(server.calls) == 1


@pytest.mark.parametrize("target", ["server.example:443", "dns:///server.example:443", "10.0.0.1:50051"])
def test_a_token_does_not_leave_this_machine_without_tls(target: str) -> None:
    with pytest.raises(InsecureTransport, match="--tls"):
        Client(target, token="abc")


def test_a_token_may_leave_with_tls_and_a_call_without_token_may_go_anywhere() -> None:
    Client("server.example:443", token="abc", tls=Tls())
    Client("server.example:443")


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ConfigurationError):
        Tls(certificate=Path("client.pem"))
    with pytest.raises(ConfigurationError):
        Tls(key=Path("client.key"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.pem cannot be read: No such file"):
        Tls(ca=tmp_path / "absent.pem").credentials()
