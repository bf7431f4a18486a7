"""What happens around every call: who is asked first, what is told, what is counted and logged."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, refusal

from sluicegate.server.rpc.methods import own_services
from sluicegate.v1.generation_service_pb2 import (
    GenerateRequest,
)

Logs = list[MutableMapping[str, Any]]

GENERATE = "/sluicegate.v1.GenerationService/Generate"
OWN_METHODS = [f"/{service.full_name}/{method.name}" for service in own_services() for method in service.methods]


def raw(server: Server, path: str, body: bytes = b"", metadata: Any = ()) -> Any:
    """A call of any method with any bytes."""
    call: Any = server.channel.unary_unary(path)
    return call(body, metadata=metadata, timeout=LONG_SECONDS)


@pytest.mark.parametrize(
    "path",
    [
        "/sluicegate.v1.GenerationService/Nope",
        "/sluicegate.v1.NoService/Generate",
        "/sluicegate.v2.GenerationService/Generate",
        "/grpc.health.v1.Health/Nope",
        "/example.Other/Method",
    ],
)
async def test_a_method_that_does_not_exist_is_unknown_with_and_without_a_token(server: Server, path: str) -> None:
    verdicts = {(await refusal(raw(server, path, metadata=metadata))).verdict for metadata in ((), bearer())}

    assert verdicts == {"UNIMPLEMENTED METHOD_UNKNOWN"}


@pytest.mark.parametrize("path", OWN_METHODS)
async def test_every_method_wants_a_token_before_it_reads_the_request(server: Server, path: str) -> None:
    refused = await refusal(raw(server, path, b"\xff\xff"))

    assert refused.verdict == "UNAUTHENTICATED TOKEN_MISSING"


@pytest.mark.parametrize("path", OWN_METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_request(server: Server, logs: Logs, path: str) -> None:
    refused = await refusal(raw(server, path, b"\xff\xff", bearer()))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert refused.violations == {"": "the request is no message of this method"}
    assert [entry["reason"] for entry in logs if entry["event"] == "call"] == ["REQUEST_INVALID"]


async def test_text_that_is_not_utf8_is_an_invalid_request(server: Server) -> None:
    body = GenerateRequest(model=SMALL, text="caf@").SerializeToString().replace(b"@", b"\xe9")

    refused = await refusal(raw(server, GENERATE, body, bearer()))

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
