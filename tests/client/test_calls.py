from __future__ import annotations

import asyncio
import math

import grpc
import pytest
from client_server import FakeServer, Refusal

from sluicegate.client import AuthenticationFailed, Client, ConfigurationError, DeadlineExceeded, TokenUnavailable
from sluicegate.client.calls import Deadline
from sluicegate.v1.access_service_pb2 import GetCallerIdentityResponse

REFUSED = Refusal(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_EXPIRED")


class NumberedTokens:
    """Gives token-1, until it is forgotten, then token-2."""

    def __init__(self) -> None:
        self.number = 1

    async def token(self) -> str:
        return f"token-{self.number}"

    def forget(self, token: str) -> None:
        assert token == f"token-{self.number}"
        self.number += 1


class SlowTokens:
    """Gives none in time."""

    async def token(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    def forget(self, token: str) -> None: ...


class NoTokens:
    """Has none."""

    async def token(self) -> str:
        raise TokenUnavailable("the vault is sealed")

    def forget(self, token: str) -> None: ...


@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf, 1e300])
def test_a_timeout_that_is_no_span_of_time_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError):
        Deadline.after(seconds)


@pytest.mark.parametrize("seconds", [None, math.inf])
def test_no_limit_leaves_no_deadline(seconds: float | None) -> None:
    assert Deadline.after(seconds).remaining_seconds() is None


def test_a_deadline_that_has_passed_leaves_nothing() -> None:
    assert Deadline(at=0.0).remaining_seconds() == 0


async def test_a_token_that_the_server_refused_is_forgotten_and_the_next_call_sends_another(server: FakeServer) -> None:
    server.will("GetCallerIdentity", [REFUSED], [GetCallerIdentityResponse()])

    async with Client(server.target, token=NumberedTokens()) as client:
        with pytest.raises(AuthenticationFailed):
            await client.whoami()
        await client.whoami()

    assert [call.metadata["authorization"] for call in server.calls] == ["Bearer token-1", "Bearer token-2"]


async def test_a_stream_s_refused_token_is_forgotten_too(server: FakeServer) -> None:
    server.will("StreamGenerate", [REFUSED])
    tokens = NumberedTokens()

    async with Client(server.target, token=tokens) as client, client.stream("m", "x") as stream:
        with pytest.raises(AuthenticationFailed):
            await anext(stream)

    assert tokens.number == 2


async def test_without_a_token_nothing_is_sent(server: FakeServer) -> None:
    async with Client(server.target, token=NoTokens()) as client:
        with pytest.raises(TokenUnavailable, match="sealed"):
            await client.whoami()
        with pytest.raises(TokenUnavailable, match="sealed"):
            await anext(client.stream("m", "x"))

    assert server.calls == []


async def test_waiting_for_a_token_counts_against_the_call_s_time(server: FakeServer) -> None:
    async with Client(server.target, token=SlowTokens()) as client:
        with pytest.raises(DeadlineExceeded, match="before there was a token"):
            await client.whoami(timeout=0.01)

    assert server.calls == []


async def test_a_caller_without_a_token_source_is_anonymous(server: FakeServer) -> None:
    server.will("GetCallerIdentity", [GetCallerIdentityResponse()])

    async with Client(server.target) as client:
        await client.whoami()

    assert "authorization" not in server.calls[0].metadata
