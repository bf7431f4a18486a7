from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator

import httpx
import pytest
from key_server import Manner, key_server

from sluicegate.server.errors import PageError, PageUnreachable, PageUnusable
from sluicegate.server.fetching import Access, fetch_page, open_client, parse_page_url, shows_password

URL = httpx.URL("http://127.0.0.1:9464/metrics")
PLAIN = Access()


def page(content: bytes) -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield content

    return httpx.Response(200, content=chunks())


async def fetched(
    answer: httpx.Response | Exception, access: Access = PLAIN, *, limit_bytes: int = 100
) -> tuple[bytes, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with open_client(access, transport=httpx.MockTransport(handle)) as client:
        found = await fetch_page(
            client, URL, accept="text/plain", limit_bytes=limit_bytes, limit_seconds=5, parameters={"a": "b c"}
        )
    return found, asked


async def test_a_page_comes_whole_and_was_asked_for_uncompressed() -> None:
    found, [request] = await fetched(page(b"x" * 100))

    assert found == b"x" * 100
    assert (request.headers["accept"], request.headers["accept-encoding"]) == ("text/plain", "identity")
    assert request.url.params["a"] == "b c"
    assert "authorization" not in request.headers


async def test_user_and_password_go_along() -> None:
    _, [request] = await fetched(page(b""), Access("ann", "secret"))

    assert request.headers["authorization"] == httpx.BasicAuth("ann", "secret")._auth_header


def test_the_password_is_in_no_text_about_the_access() -> None:
    assert "secret" not in repr(Access("ann", "secret"))


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (httpx.Response(401), PageUnusable, "answered 401: it asks for a user and a password that it knows"),
        (httpx.Response(404), PageUnusable, "answered 404: it has no such page"),
        (
            httpx.Response(302, headers={"location": "http://elsewhere/"}),
            PageUnusable,
            "answered 302: expected was 200",
        ),
        (httpx.Response(503), PageUnreachable, "answered 503"),
        (page(b"x" * 101), PageUnusable, "answered more than 100 bytes"),
        (
            httpx.Response(200, headers={"content-encoding": "br"}),
            PageUnusable,
            "answered compressed, though asked not to",
        ),
        (httpx.ConnectError("refused by 10.0.0.1"), PageUnreachable, "cannot be reached"),
        (httpx.ReadError("reset"), PageUnreachable, "broke off its answer"),
        (
            httpx.RemoteProtocolError("illegal status line"),
            PageUnreachable,
            "answers, but not in HTTP; try https://, or the port of metrics",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_anything_else_is_an_error_that_says_why(
    answer: httpx.Response | Exception, kind: type[PageError], text: str
) -> None:
    with pytest.raises(kind) as raised:
        await fetched(answer)

    assert (type(raised.value), str(raised.value)) == (kind, text)


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no such host is known here"),
        (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), "answers, but not in TLS as we do; try http://"),
    ],
)
async def test_why_no_connection_came_about_is_told(cause: Exception, text: str) -> None:
    error = httpx.ConnectError("")
    error.__cause__ = cause

    with pytest.raises(PageUnreachable) as raised:
        await fetched(error)

    assert str(raised.value) == text


@pytest.mark.parametrize("text", ["127.0.0.1:9464", "localhost:9464/metrics", "gate-0.gates:9464"])
def test_an_address_without_a_scheme_is_told_what_it_lacks(text: str) -> None:
    with pytest.raises(ValueError, match=f": write http://{text}$"):
        parse_page_url(text)


def test_what_could_be_a_password_is_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"^is no [^@]*$"):
        parse_page_url("ann:secret@host:9464")


async def test_a_page_that_trickles_is_given_up() -> None:
    async with key_server() as server, open_client(Access()) as client:
        server.manner = Manner.DRIPS

        with pytest.raises(PageUnreachable, match=r"no answer within 0\.2 s"):
            await fetch_page(
                client, httpx.URL(f"{server.url}/metrics"), accept="text/plain", limit_bytes=10_000, limit_seconds=0.2
            )


async def test_a_page_without_an_end_is_given_up_at_its_limit() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 60

    with pytest.raises(PageUnusable, match="more than 100 bytes"):
        await fetched(httpx.Response(200, content=endless()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "metrics",
        "ftp://host/",
        "http://",
        "http://[::1",
        "http://ann:secret@host/",
        "http://host/?q=1",
        "http://h/#f",
    ],
)
def test_what_is_no_url_of_a_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has) ") as raised:
        parse_page_url(text)

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gate.example/metrics", True),
        ("http://10.0.0.1:9464/", True),
        ("https://gate.example/metrics", False),
        ("http://127.0.0.1:9464/", False),
        ("http://[::1]:9464/", False),
        ("http://localhost/", False),
        ("http://localhost.example/", True),
    ],
)
def test_a_password_is_shown_by_http_to_other_machines(url: str, expected: bool) -> None:
    assert shows_password(httpx.URL(url)) is expected
