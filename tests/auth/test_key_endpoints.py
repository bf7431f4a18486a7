"""Keys from a server that listens on loopback: rotation, and answers that do not come. No request waits for either."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import pytest
from issuer import AUDIENCE, ISSUER, KEYS, PEER, FakeClock, header, token
from key_server import KeyServer, Manner, key_server

from sluicegate.auth import (
    AuthenticationError,
    JwksUrl,
    KeyRing,
    KeySetError,
    KeySetOrigin,
    OidcDiscovery,
    Reason,
    TokenVerifier,
    TrustedIssuer,
)
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.keys import REQUESTED_REFRESH_SECONDS, STALE_AFTER_SECONDS, URL_REFRESH_SECONDS

A, B = KEYS["ES256"], KEYS["EdDSA"]
ORIGINS: Mapping[str, Callable[[KeyServer], KeySetOrigin]] = {
    "url": lambda server: JwksUrl(f"{server.url}/jwks"),
    "discovery": lambda server: OidcDiscovery(server.url),
}


class Verifying:
    """A verifier over the keys of a server, and the ring that fetches them. Time stands still."""

    def __init__(self, server: KeyServer, origin: KeySetOrigin) -> None:
        self.server = server
        self.clock = FakeClock(0)
        self.failures: list[KeySetError] = []
        self.ring = KeyRing(
            origin, on_failure=self.failures.append, clock=self.clock, sleep=self._sleep, jitter=lambda: 1.0
        )
        trusted = TrustedIssuer(ISSUER, AUDIENCE, frozenset({"ES256", "EdDSA"}), self.ring)
        self.verifier = TokenVerifier([trusted], clock=FakeClock())

    async def _sleep(self, _seconds: float) -> None:
        await asyncio.sleep(0)

    async def after(self, seconds: float) -> None:
        """Let time pass, and the ring do what is then due."""
        self.clock.now += seconds
        await self.ring.refresh_if_due()

    def verdict(self, sent: str) -> str:
        """`accepted`, or why the token is refused. A plain function: it cannot wait for anything."""
        try:
            self.verifier.verify(sent, PEER)
        except AuthenticationError as error:
            return error.reason.value
        return "accepted"


@pytest.fixture(params=ORIGINS)
async def verifying(request: pytest.FixtureRequest) -> AsyncIterator[Verifying]:
    """A verifier that has fetched the key A."""
    async with key_server() as server:
        server.publish(A)
        server.describe()
        made = Verifying(server, ORIGINS[request.param](server))
        await made.ring.refresh()
        server.question.clear()
        yield made


@asynccontextmanager
async def in_background(ring: KeyRing) -> AsyncIterator[None]:
    """The ring does its work while the block runs."""
    task = asyncio.create_task(ring.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_rotation_drill(verifying: Verifying) -> None:
    of_a, of_b = token(A), token(B)
    only_a = (verifying.verdict(of_a), verifying.verdict(of_b))

    verifying.server.publish(B, A)
    await verifying.after(REQUESTED_REFRESH_SECONDS)
    both = (verifying.verdict(of_a), verifying.verdict(of_b))
    verifying.server.publish(B)
    not_yet = verifying.verdict(of_a)
    await verifying.after(URL_REFRESH_SECONDS)
    only_b = (verifying.verdict(of_a), verifying.verdict(of_b))

    assert only_a == ("accepted", Reason.TOKEN_KEY_UNKNOWN)
    assert (both, not_yet) == (("accepted", "accepted"), "accepted")
    assert only_b == (Reason.TOKEN_KEY_UNKNOWN, "accepted")


async def test_a_key_that_is_replaced_under_its_name_takes_its_verified_tokens_along(verifying: Verifying) -> None:
    sent = token(A)
    before = verifying.verdict(sent)
    successor = type(B)(A.key_id, B.algorithm, B.private_key)
    verifying.server.publish(successor)

    await verifying.after(URL_REFRESH_SECONDS)

    assert before == "accepted"
    assert verifying.verdict(sent) == Reason.TOKEN_ALG_FORBIDDEN


@pytest.mark.parametrize("manner", [Manner.HANGS, Manner.DRIPS])
async def test_no_request_waits_for_a_server_that_does_not_answer(verifying: Verifying, manner: Manner) -> None:
    good, unknown = token(A), token(B)
    verifying.server.manner = manner
    verifying.clock.now += URL_REFRESH_SECONDS

    async with in_background(verifying.ring):
        await verifying.server.question.wait()
        verdicts = [verifying.verdict(sent) for sent in (good, unknown, good)]

    assert verdicts == ["accepted", Reason.TOKEN_KEY_UNKNOWN, "accepted"]


@pytest.mark.parametrize("manner", [Manner.HANGS, Manner.DRIPS])
async def test_a_server_that_does_not_answer_is_given_up_and_asked_again(
    verifying: Verifying, manner: Manner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.auth.fetching.FETCH_SECONDS", 0.1)
    verifying.server.manner = manner
    await verifying.after(URL_REFRESH_SECONDS)
    given_up = len(verifying.failures)
    monkeypatch.undo()
    verifying.server.manner = Manner.ANSWERS
    verifying.server.publish(B)

    await verifying.after(URL_REFRESH_SECONDS)

    assert (given_up, len(verifying.failures)) == (1, 1)
    assert (verifying.verdict(token(A)), verifying.verdict(token(B))) == (Reason.TOKEN_KEY_UNKNOWN, "accepted")


async def test_keys_that_could_not_be_confirmed_for_a_day_are_stale_and_come_back(verifying: Verifying) -> None:
    sent = token(A)
    verifying.server.documents.clear()

    await verifying.after(STALE_AFTER_SECONDS + 1)
    stale = verifying.verdict(sent)
    verifying.server.publish(A)
    verifying.server.describe()
    await verifying.after(REQUESTED_REFRESH_SECONDS)

    assert (stale, verifying.verdict(sent)) == (Reason.KEYS_STALE, "accepted")
    assert len(verifying.failures) == 1


async def test_ten_thousand_unknown_kids_ask_a_hung_server_once(verifying: Verifying) -> None:
    good = token(A)
    unsigned = good.partition(".")[2]
    verifying.server.manner = Manner.HANGS
    verifying.server.asked.clear()
    verdicts: set[str] = set()

    async with in_background(verifying.ring):
        for number in range(10_000):
            head = encode_base64url(json.dumps(header(kid=f"unknown-{number}")).encode())
            verdicts.add(verifying.verdict(f"{head}.{unsigned}"))
            if number == 0:
                verifying.clock.now += REQUESTED_REFRESH_SECONDS
                await verifying.server.question.wait()
            if number % 100 == 0:
                await asyncio.sleep(0)
                assert verifying.verdict(good) == "accepted"

    assert verdicts == {Reason.TOKEN_KEY_UNKNOWN}
    assert len(verifying.server.asked) == 1
