from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from sluicegate.client.errors import (
    ConfigurationError,
    InsecureTransport,
    IssuerUnavailable,
    TokenRefused,
    TokenUnavailable,
)
from sluicegate.client.oidc import ClientCredentials

ISSUER = "https://issuer.example/realm"
TOKEN_URL = "https://issuer.example/realm/token"
DISCOVERY_PATH = "/realm/.well-known/openid-configuration"


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class FakeIssuer:
    """Discovery, and tokens numbered from 1; `discovery` and `answer` can be changed."""

    def __init__(self) -> None:
        self.discovery: dict[str, Any] = {"issuer": ISSUER, "token_endpoint": TOKEN_URL}
        self.answer: Callable[[int], httpx.Response] = lambda number: token_answer(f"token-{number}")
        self.token_requests: list[httpx.Request] = []
        self.discoveries = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == DISCOVERY_PATH:
            self.discoveries += 1
            return httpx.Response(200, json=self.discovery)
        self.token_requests.append(request)
        return self.answer(len(self.token_requests))

    def source(self, clock: FakeClock | None = None, **arguments: Any) -> ClientCredentials:
        return ClientCredentials(
            ISSUER,
            "partner:1",
            "s3cret+/",
            transport=httpx.MockTransport(self),
            clock=clock or FakeClock(),
            **arguments,
        )


def token_answer(token: object, expires_in: object = 300, token_type: object = "Bearer") -> httpx.Response:
    return httpx.Response(200, json={"access_token": token, "expires_in": expires_in, "token_type": token_type})


async def test_a_token_is_fetched_once_and_kept_until_shortly_before_it_expires() -> None:
    issuer, clock = FakeIssuer(), FakeClock()
    source = issuer.source(clock)

    first = await source.token()
    clock.now += 239
    kept = await source.token()
    clock.now += 1
    renewed = await source.token()

    assert (first, kept, renewed) == ("token-1", "token-1", "token-2")
    assert issuer.discoveries == 1


async def test_a_short_lived_token_is_kept_for_four_fifths_of_its_life() -> None:
    issuer, clock = FakeIssuer(), FakeClock()
    issuer.answer = lambda number: token_answer(f"token-{number}", expires_in=10)
    source = issuer.source(clock)
    await source.token()

    clock.now += 7.9
    kept = await source.token()
    clock.now += 0.1

    assert (kept, await source.token()) == ("token-1", "token-2")


async def test_credentials_are_form_encoded_into_the_basic_scheme() -> None:
    issuer = FakeIssuer()

    await issuer.source(scopes=("generate:a", "score:a"), audience="gate", authorization_details="[]").token()

    request = issuer.token_requests[0]
    scheme, _, value = request.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(value)) == ("Basic", b"partner%3A1:s3cret%2B%2F")
    assert parse_qs(request.content.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["generate:a score:a"],
        "audience": ["gate"],
        "authorization_details": ["[]"],
    }


async def test_credentials_go_into_the_form_where_the_issuer_takes_no_basic() -> None:
    issuer = FakeIssuer()
    issuer.discovery["token_endpoint_auth_methods_supported"] = ["client_secret_post"]

    await issuer.source().token()

    request = issuer.token_requests[0]
    assert "authorization" not in request.headers
    assert parse_qs(request.content.decode())["client_secret"] == ["s3cret+/"]


async def test_however_many_wait_one_fetch_runs() -> None:
    issuer = FakeIssuer()
    source = issuer.source()

    tokens = await asyncio.gather(*(source.token() for _ in range(5)))

    assert tokens == ["token-1"] * 5


async def test_a_waiter_that_is_cancelled_does_not_take_the_fetch_from_the_others() -> None:
    issuer = FakeIssuer()
    source = issuer.source()
    first, second = asyncio.create_task(source.token()), asyncio.create_task(source.token())
    await asyncio.sleep(0)

    first.cancel()

    assert await second == "token-1"
    assert first.cancelled()


async def test_a_forgotten_token_is_replaced_and_another_s_is_not() -> None:
    issuer = FakeIssuer()
    source = issuer.source()
    await source.token()

    source.forget("token-0")
    kept = await source.token()
    source.forget("token-1")

    assert (kept, await source.token()) == ("token-1", "token-2")


async def test_a_token_that_still_lives_serves_while_the_issuer_is_away() -> None:
    issuer, clock = FakeIssuer(), FakeClock()
    source = issuer.source(clock)
    await source.token()
    issuer.answer = lambda _: httpx.Response(503)

    clock.now += 299
    kept = await source.token()
    clock.now += 1

    assert kept == "token-1"
    with pytest.raises(IssuerUnavailable, match="HTTP 503"):
        await source.token()


async def test_an_issuer_that_does_not_answer_is_unavailable_and_asked_again() -> None:
    issuer = FakeIssuer()

    def away(_: int) -> httpx.Response:
        raise httpx.ConnectError("no route to s3cret")

    issuer.answer = away
    source = issuer.source()
    with pytest.raises(IssuerUnavailable, match=rf"^issuer {ISSUER} did not answer: ConnectError$"):
        await source.token()

    issuer.answer = lambda number: token_answer(f"token-{number}")

    assert await source.token() == "token-2"


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (400, {"error": "invalid_client"}, TokenRefused, "invalid_client"),
        (401, {"error": "invalid\x1b[2Jclient"}, TokenRefused, "invalid \\[2Jclient"),
        (403, None, TokenRefused, "HTTP 403"),
        (404, {"error": 5}, TokenRefused, "HTTP 404"),
        (408, None, IssuerUnavailable, "HTTP 408"),
        (429, {"error": "slow_down"}, IssuerUnavailable, "HTTP 429"),
        (500, None, IssuerUnavailable, "HTTP 500"),
        (302, None, IssuerUnavailable, "HTTP 302"),
        (200, None, TokenUnavailable, "not a JSON object"),
        (200, [], TokenUnavailable, "not a JSON object"),
        (200, {}, TokenUnavailable, "bearer"),
    ],
)
async def test_a_refusal_is_told_from_a_failure(
    status: int, body: object, kind: type[TokenUnavailable], text: str
) -> None:
    issuer = FakeIssuer()
    issuer.answer = lambda _: (
        httpx.Response(status, content=b"<html>") if body is None else httpx.Response(status, json=body)
    )

    with pytest.raises(TokenUnavailable, match=text) as caught:
        await issuer.source().token()

    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "answer",
    [
        token_answer("good", token_type="DPoP"),
        token_answer("good", token_type=None),
        token_answer("good", expires_in=None),
        token_answer("good", expires_in="300"),
        token_answer("good", expires_in=True),
        token_answer("good", expires_in=0),
        token_answer("good", expires_in=-1),
        token_answer(None),
        token_answer("to ken"),
        token_answer(7),
    ],
)
async def test_an_answer_that_cannot_be_used_gives_no_token(answer: httpx.Response) -> None:
    issuer = FakeIssuer()
    issuer.answer = lambda _: answer

    with pytest.raises(TokenUnavailable):
        await issuer.source().token()


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://issuer.example/realm/"},
        {"issuer": "https://evil.example/realm"},
        {"issuer": None},
        {"token_endpoint": None},
        {"token_endpoint": "http://issuer.example/realm/token"},
        {"token_endpoint": "ftp://issuer.example/token"},
        {"token_endpoint": "https://[::1"},
        {"token_endpoint": "https://"},
    ],
)
async def test_a_discovery_document_that_cannot_be_trusted_gets_no_secret(change: dict[str, object]) -> None:
    issuer = FakeIssuer()
    issuer.discovery |= change

    with pytest.raises(TokenUnavailable):
        await issuer.source().token()

    assert issuer.token_requests == []


@pytest.mark.parametrize("url", ["http://issuer.example", "http://localhost.example", "http://10.0.0.1"])
def test_a_secret_is_never_sent_in_the_clear(url: str) -> None:
    with pytest.raises(InsecureTransport):
        ClientCredentials(url, "client", "secret")


@pytest.mark.parametrize("url", ["", "issuer.example", "file:///etc/passwd", "https://", "https://[::1", "https:///x"])
def test_an_issuer_that_is_no_url_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError):
        ClientCredentials(url, "client", "secret")


async def test_an_issuer_on_this_machine_is_reached_directly_whatever_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    proxy = await asyncio.start_server(answer, "127.0.0.1", 0)
    issuer = await asyncio.start_server(answer, "127.0.0.1", 0)
    proxy_port, issuer_port = (each.sockets[0].getsockname()[1] for each in (proxy, issuer))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy_port}")

    async with proxy, issuer:
        with pytest.raises(IssuerUnavailable):
            await ClientCredentials(f"http://127.0.0.1:{issuer_port}", "client", "secret").token()

    assert asked == ["GET /.well-known/openid-configuration HTTP/1.1\r\n"]
