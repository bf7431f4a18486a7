"""Where keys come from, and the ring that keeps the last good set: all of it away from the path of a request."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from issuer import KEY, KEYS, FakeClock

from sluicegate.auth import ConfigurationError, JwksFile, JwksUrl, KeyRing, KeySetError, SigningKey
from sluicegate.auth.jwk import MAX_KEY_SET_BYTES
from sluicegate.auth.keys import FILE_REFRESH_SECONDS, URL_REFRESH_SECONDS

URL = "https://issuer.example/jwks"
HOUR = 3600.0


def key_set(*keys: SigningKey) -> bytes:
    return json.dumps({"keys": [key.public_jwk() for key in keys]}).encode()


def jwks_url(answer: Callable[[httpx.Request], httpx.Response], url: str = URL) -> JwksUrl:
    return JwksUrl(url, transport=httpx.MockTransport(answer))


def ok(body: bytes, **headers: str) -> httpx.Response:
    """An answer whose body is yet to be read, as from a real connection."""
    return httpx.Response(200, headers=headers, stream=httpx.ByteStream(body))


async def refusal(origin: JwksUrl | JwksFile) -> str:
    with pytest.raises(KeySetError) as caught:
        await origin.fetch()
    return str(caught.value)


# --- a file


async def test_a_file_is_read_again_every_time(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    origin = JwksFile(path)
    path.write_bytes(b"first")
    first = await origin.fetch()

    path.write_bytes(b"second")

    assert (first, await origin.fetch()) == (b"first", b"second")


async def test_a_file_is_not_read_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(b" " * (MAX_KEY_SET_BYTES + 100))

    assert len(await JwksFile(path).fetch()) == MAX_KEY_SET_BYTES + 1


async def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert await refusal(JwksFile(tmp_path / "jwks.json")) == f"{tmp_path}/jwks.json: No such file or directory"


# --- a URL


async def test_a_url_is_asked_for_plain_json() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return ok(key_set(KEY))

    assert await jwks_url(answer).fetch() == key_set(KEY)
    [request] = asked
    assert (request.method, str(request.url), request.headers["accept-encoding"]) == ("GET", URL, "identity")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(status, headers={"location": "https://evil.example/jwks"})

    assert await refusal(jwks_url(answer)) == f"{URL}: answered {status}, not 200"
    assert asked == ["issuer.example"]


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 429, 500, 503])
async def test_only_200_is_an_answer(status: int) -> None:
    assert await refusal(jwks_url(lambda _: httpx.Response(status, content=key_set(KEY)))) == (
        f"{URL}: answered {status}, not 200"
    )


async def test_a_compressed_answer_is_refused_before_it_is_unpacked() -> None:
    packed = gzip.compress(key_set(KEY))

    origin = jwks_url(lambda _: ok(packed, **{"content-encoding": "gzip"}))

    assert await refusal(origin) == f"{URL}: answered compressed, though asked not to"


class Endless(httpx.AsyncByteStream):
    """A body that does not end by itself; counts what was taken from it."""

    def __init__(self) -> None:
        self.chunks = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            self.chunks += 1
            yield b" " * 65536


async def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    body = Endless()

    text = await refusal(jwks_url(lambda _: httpx.Response(200, stream=body)))

    assert text == f"{URL}: answered more than {MAX_KEY_SET_BYTES} bytes"
    assert body.chunks == MAX_KEY_SET_BYTES // 65536 + 1


async def test_no_answer_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr("sluicegate.auth.fetching.FETCH_SECONDS", 0.01)

    assert await refusal(JwksUrl(URL, transport=Never())) == f"{URL}: no answer within 0 s"


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
async def test_a_failed_connection_is_told_by_its_kind(error: type[httpx.TransportError]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("[Errno 111] to an address inside", request=request)

    assert await refusal(jwks_url(answer)) == f"{URL}: {error.__name__}"


async def test_a_spoilt_tls_record_is_a_failed_fetch_not_the_end_of_the_ring() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise ssl.SSLError(1, "decryption failed or bad record mac")

    assert await refusal(jwks_url(answer)) == f"{URL}: SSLError"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    real = httpx.AsyncClient

    def client(**settings: object) -> httpx.AsyncClient:
        seen.append(bool(settings["trust_env"]))
        return real(**settings)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx, "AsyncClient", client)

    await jwks_url(lambda _: ok(key_set(KEY))).fetch()

    assert seen == [False]


@pytest.mark.parametrize(
    "url", [URL, "http://127.0.0.1:8000/jwks", "http://[::1]/jwks", "http://localhost/jwks", "https://[2001:db8::1]/j"]
)
def test_a_url_is_https_or_on_this_host(url: str) -> None:
    assert JwksUrl(url).refresh_seconds == URL_REFRESH_SECONDS


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost.evil.example/jwks",
        "http://10.0.0.1/jwks",
        "file:///etc/jwks",
        "ftp://issuer.example/jwks",
        "https://user:secret@issuer.example/jwks",
        "https://issuer.example/jwks#x",
        "https:///jwks",
        "issuer.example/jwks",
        "",
        "https://issuer.example:port/jwks",
    ],
)
def test_another_url_is_no_setting(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        JwksUrl(url)
    assert "secret" not in str(caught.value)


# --- the ring


class FakeOrigin:
    """An origin whose next answer is set; counts the questions."""

    refresh_seconds = URL_REFRESH_SECONDS

    def __init__(self, answer: bytes | KeySetError) -> None:
        self.answer = answer
        self.fetches = 0

    async def fetch(self) -> bytes:
        self.fetches += 1
        if isinstance(self.answer, KeySetError):
            raise self.answer
        return self.answer


class Ring:
    """A ring over a fake origin and a clock that stands still."""

    def __init__(self, answer: bytes | KeySetError, jitter: float = 1.0) -> None:
        self.origin = FakeOrigin(answer)
        self.clock = FakeClock(0)
        self.failures: list[str] = []
        self.ring = KeyRing(
            self.origin,
            on_failure=lambda error: self.failures.append(str(error)),
            clock=self.clock,
            jitter=lambda: jitter,
        )

    async def after(self, seconds: float) -> int:
        """How often the origin has been asked once this much time has passed."""
        self.clock.now += seconds
        await self.ring.refresh_if_due()
        return self.origin.fetches


BROKEN = KeySetError("unreachable")


async def test_a_ring_is_stale_until_its_first_set() -> None:
    made = Ring(key_set(KEY))
    before = (made.ring.is_stale, made.ring.age_seconds, made.ring.find(KEY.key_id))

    await made.ring.refresh()

    assert before == (True, None, None)
    assert (made.ring.is_stale, made.ring.age_seconds, made.ring.key_ids) == (False, 0, (KEY.key_id,))
    assert made.ring.find(KEY.key_id) is not None
    assert made.ring.find("another") is None


async def test_the_first_set_is_fetched_at_once_and_again_every_five_minutes() -> None:
    made = Ring(key_set(KEY))

    assert [await made.after(seconds) for seconds in (0, 1, 298, 1, 299, 1)] == [1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("jitter", [0.9, 1.1])
async def test_the_refresh_is_spread_by_a_tenth(jitter: float) -> None:
    made = Ring(key_set(KEY), jitter)

    assert [await made.after(seconds) for seconds in (0, 300 * jitter - 0.5, 0.5)] == [1, 1, 2]


def test_the_spread_of_a_real_ring_is_a_tenth() -> None:
    ring = KeyRing(FakeOrigin(BROKEN), on_failure=lambda _: None)

    assert all(0.9 <= ring._jitter() <= 1.1 for _ in range(100))


async def test_an_unknown_key_asks_once_in_30_s_however_often_it_is_seen() -> None:
    made = Ring(key_set(KEY))
    await made.ring.refresh()
    fetches = []

    for _ in range(60):
        made.ring.request_refresh()
        fetches.append(await made.after(1))

    assert fetches == [2] * 30 + [3] * 30


async def test_a_failed_refresh_counts_against_the_30_s_too() -> None:
    made = Ring(key_set(KEY))
    await made.ring.refresh()
    made.origin.answer = BROKEN
    fetches = []

    for _ in range(31):
        made.ring.request_refresh()
        fetches.append(await made.after(1))

    assert fetches == [2] * 30 + [3]
    assert made.failures == ["unreachable", "unreachable"]


async def test_a_rotated_key_is_found_after_it_was_asked_for() -> None:
    made = Ring(key_set(KEY))
    await made.ring.refresh()
    made.origin.answer = key_set(KEYS["EdDSA"], KEY)

    made.ring.request_refresh()
    await made.after(1)

    assert made.ring.find(KEYS["EdDSA"].key_id) is not None


@pytest.mark.parametrize("answer", [BROKEN, b"{}", json.dumps({"keys": [KEY.private_jwk()]}).encode()])
async def test_a_set_that_cannot_be_had_or_is_refused_leaves_the_last_good_one(answer: bytes | KeySetError) -> None:
    made = Ring(key_set(KEY))
    await made.ring.refresh()
    made.origin.answer = answer

    await made.after(URL_REFRESH_SECONDS)

    assert made.ring.find(KEY.key_id) is not None
    assert made.ring.age_seconds == URL_REFRESH_SECONDS
    assert len(made.failures) == 1


async def test_the_last_good_set_is_stale_after_24_hours() -> None:
    made = Ring(key_set(KEY))
    await made.ring.refresh()
    made.origin.answer = BROKEN

    await made.after(24 * HOUR)
    at_24_hours = made.ring.is_stale
    await made.after(1)

    assert (at_24_hours, made.ring.is_stale) == (False, True)


async def test_the_same_set_again_is_a_fresh_one() -> None:
    made = Ring(key_set(KEY))
    await made.ring.refresh()

    await made.after(24 * HOUR)

    assert made.ring.age_seconds == 0


async def test_a_good_set_after_a_stale_one_counts_again() -> None:
    made = Ring(BROKEN)
    await made.after(0)
    made.origin.answer = key_set(KEY)

    await made.after(URL_REFRESH_SECONDS)

    assert not made.ring.is_stale


async def test_a_first_set_that_is_refused_is_told_to_who_asked() -> None:
    made = Ring(b"{}")

    with pytest.raises(KeySetError):
        await made.ring.refresh()
    assert made.failures == []


async def test_a_revoked_key_is_gone_with_the_next_set() -> None:
    made = Ring(key_set(KEY, KEYS["EdDSA"]))
    await made.ring.refresh()
    made.origin.answer = key_set(KEYS["EdDSA"])

    await made.after(URL_REFRESH_SECONDS)

    assert made.ring.find(KEY.key_id) is None


async def test_a_file_in_a_ring_is_looked_at_every_second(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(KEY))
    clock = FakeClock(0)
    ring = KeyRing(JwksFile(path), on_failure=lambda _: None, clock=clock, jitter=lambda: 1.0)
    await ring.refresh_if_due()
    path.write_bytes(key_set(KEYS["EdDSA"]))

    clock.now += FILE_REFRESH_SECONDS
    await ring.refresh_if_due()

    assert ring.key_ids == (KEYS["EdDSA"].key_id,)


async def test_it_runs_until_cancelled() -> None:
    origin, slept = FakeOrigin(key_set(KEY)), 0

    async def sleep(_seconds: float) -> None:
        nonlocal slept
        slept += 1
        if slept == 3:
            raise asyncio.CancelledError

    ring = KeyRing(origin, on_failure=lambda _: None, clock=FakeClock(0), sleep=sleep)

    with pytest.raises(asyncio.CancelledError):
        await ring.run()
    assert (slept, origin.fetches, ring.is_stale) == (3, 1, False)
