"""Keys of an issuer that says itself where they are: only ever its own, and never by way of somewhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx
import pytest
from issuer import KEY
from key_server import key_server, key_set

from sluicegate.auth import ConfigurationError, KeySetError, OidcDiscovery
from sluicegate.auth.jwk import MAX_KEY_SET_BYTES
from sluicegate.auth.keys import URL_REFRESH_SECONDS

ISSUER = "https://issuer.example"
KEYS_URL = "https://keys.example/v1"


class Web:
    """What is published where; everything else is 404. Keeps every URL that was asked for."""

    def __init__(self) -> None:
        self.answers: dict[str, httpx.Response] = {}
        self.asked: list[str] = []
        self.publish(KEYS_URL, key_set(KEY))

    def publish(self, url: str, body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.answers[url] = httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    def describe(self, url: str, issuer: str = ISSUER, **members: object) -> None:
        document = {"issuer": issuer, "jwks_uri": KEYS_URL, **members}
        self.publish(url, json.dumps({name: value for name, value in document.items() if value is not None}).encode())

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        return self.answers.get(str(request.url), httpx.Response(404))

    def discovery(self, issuer: str = ISSUER) -> OidcDiscovery:
        return OidcDiscovery(issuer, transport=httpx.MockTransport(self.answer))

    async def refusal(self, issuer: str = ISSUER) -> str:
        with pytest.raises(KeySetError) as caught:
            await self.discovery(issuer).fetch()
        return str(caught.value)


@pytest.fixture
def web() -> Web:
    return Web()


WELL_KNOWN = f"{ISSUER}/.well-known/openid-configuration"


async def test_the_keys_are_those_that_the_document_names(web: Web) -> None:
    web.describe(WELL_KNOWN)

    fetched = await web.discovery().fetch()

    assert fetched == key_set(KEY)
    assert web.asked == [WELL_KNOWN, KEYS_URL]


async def test_the_document_is_asked_for_anew_each_time(web: Web) -> None:
    discovery = web.discovery()
    web.describe(WELL_KNOWN)
    await discovery.fetch()
    web.describe(WELL_KNOWN, jwks_uri="https://issuer.example/moved")
    web.publish("https://issuer.example/moved", b"moved")

    assert await discovery.fetch() == b"moved"


@pytest.mark.parametrize(
    ("issuer", "place"),
    [
        (f"{ISSUER}/", WELL_KNOWN),
        (f"{ISSUER}/tenant", f"{ISSUER}/tenant/.well-known/openid-configuration"),
        (f"{ISSUER}/tenant/", f"{ISSUER}/tenant/.well-known/openid-configuration"),
        (f"{ISSUER}/tenant", f"{ISSUER}/.well-known/oauth-authorization-server/tenant"),
        (f"{ISSUER}/a%2Fb", f"{ISSUER}/a%2Fb/.well-known/openid-configuration"),
        (ISSUER, f"{ISSUER}/.well-known/oauth-authorization-server"),
    ],
)
async def test_the_document_is_looked_for_in_both_well_known_places(web: Web, issuer: str, place: str) -> None:
    web.describe(place, issuer)

    assert await web.discovery(issuer).fetch() == key_set(KEY)
    assert place in web.asked


async def test_only_a_404_leads_to_the_second_place(web: Web) -> None:
    web.publish(WELL_KNOWN, b"", status=503)
    web.describe(f"{ISSUER}/.well-known/oauth-authorization-server")

    assert await web.refusal() == f"{WELL_KNOWN}: answered 503, not 200"
    assert web.asked == [WELL_KNOWN]


@pytest.mark.parametrize(
    "named",
    [
        f"{ISSUER}/",
        "https://ISSUER.example",
        "https://issuer.example:443",
        "http://issuer.example",
        f"{ISSUER}.evil.example",
        f" {ISSUER}",
        [ISSUER],
        None,
    ],
)
async def test_a_document_of_nearly_this_issuer_is_refused(web: Web, named: object) -> None:
    web.describe(WELL_KNOWN, **{"issuer": named})  # type: ignore[arg-type]

    assert await web.refusal() == f"{ISSUER}: its discovery document does not name exactly this issuer"
    assert web.asked == [WELL_KNOWN]


@pytest.mark.parametrize("named", [None, 7, [KEYS_URL]])
async def test_a_document_without_keys_is_refused(web: Web, named: object) -> None:
    web.describe(WELL_KNOWN, jwks_uri=named)

    assert await web.refusal() == f"{ISSUER}: its discovery document has no `jwks_uri`"


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks",
        "http://127.0.0.1/jwks",
        "http://localhost:8000/jwks",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "https://user:secret@issuer.example/jwks",
        "https://issuer.example/jwks#x",
        "/jwks",
        "",
    ],
)
async def test_a_document_cannot_lead_to_where_no_keys_should_come_from(web: Web, url: str) -> None:
    web.describe(WELL_KNOWN, jwks_uri=url)

    text = await web.refusal()

    assert text.startswith(ISSUER)
    assert "secret" not in text
    assert web.asked == [WELL_KNOWN]


@pytest.mark.parametrize(
    ("issuer", "keys", "is_taken"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/jwks", True),
        ("http://127.0.0.1:8000", "http://127.0.0.1:9000/jwks", True),
        ("http://127.0.0.1:8000", "https://keys.example/v1", True),
        ("http://127.0.0.1:8000", "http://127.0.0.2/jwks", False),
        ("http://127.0.0.1:8000", "http://localhost:8000/jwks", False),
        ("https://127.0.0.1:8000", "http://127.0.0.1:8000/jwks", False),
    ],
)
async def test_plain_http_stays_on_the_loopback_host_of_the_issuer(
    web: Web, issuer: str, keys: str, is_taken: bool
) -> None:
    web.describe(f"{issuer}/.well-known/openid-configuration", issuer, jwks_uri=keys)
    web.publish(keys, key_set(KEY))

    if is_taken:
        assert await web.discovery(issuer).fetch() == key_set(KEY)
    else:
        assert await web.refusal(issuer) == f"{issuer}: `jwks_uri` on another host must be https"


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"issuer": "a", "issuer": "b"}', b"\xff", b"[" * 99])
async def test_a_document_that_is_not_strict_json_is_refused(web: Web, body: bytes) -> None:
    web.publish(WELL_KNOWN, body)

    assert (await web.refusal()).startswith(f"{ISSUER}: its discovery document")


async def test_neither_of_both_answers_may_be_a_redirect(web: Web) -> None:
    elsewhere = {"location": "https://evil.example/"}
    web.publish(WELL_KNOWN, b"", status=302, headers=elsewhere)
    first = await web.refusal()
    web.describe(WELL_KNOWN)
    web.publish(KEYS_URL, b"", status=302, headers=elsewhere)

    second = await web.refusal()

    assert (first, second) == (f"{WELL_KNOWN}: answered 302, not 200", f"{KEYS_URL}: answered 302, not 200")
    assert not any("evil" in url for url in web.asked)


async def test_neither_of_both_answers_may_be_large(web: Web) -> None:
    web.publish(WELL_KNOWN, b" " * (MAX_KEY_SET_BYTES + 1))
    first = await web.refusal()
    web.describe(WELL_KNOWN)
    web.publish(KEYS_URL, b" " * (MAX_KEY_SET_BYTES + 1))

    second = await web.refusal()

    limit = f"answered more than {MAX_KEY_SET_BYTES} bytes"
    assert (first, second) == (f"{WELL_KNOWN}: {limit}", f"{KEYS_URL}: {limit}")


@pytest.mark.parametrize(
    "issuer",
    [
        "http://issuer.example",
        f"{ISSUER}?tenant=1",
        f"{ISSUER}?",
        f"{ISSUER}#x",
        "https://u:secret@issuer.example",
        "us",
    ],
)
def test_an_issuer_that_cannot_be_asked_is_no_setting(issuer: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OidcDiscovery(issuer)
    assert "secret" not in str(caught.value)


def test_it_is_refreshed_as_often_as_a_url() -> None:
    assert OidcDiscovery(ISSUER).refresh_seconds == URL_REFRESH_SECONDS


async def test_a_real_server_is_asked_over_the_network() -> None:
    async with key_server() as server:
        server.publish(KEY)
        server.describe()

        fetched = await OidcDiscovery(server.url).fetch()

    assert fetched == key_set(KEY)
    assert server.asked == ["/.well-known/openid-configuration", "/jwks"]
