"""Step-up authentication (RFC 9470) end to end: refused, told what to ask the issuer for, let in with just that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness import EVERY_SCOPE, SMALL, Server, demo_plan, open_agreement, serving
from issuer import NOW, token

from sluicegate.client import AuthenticationFailed, Client, GenerationConfig

MFA, KEY = "urn:example:acr:mfa", "urn:example:acr:hardware-key"
DETAILS = [{"type": "model_partnership", "agreement": "agr-example-lab"}]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server whose partner must have authenticated in one of two strong ways within eight hours."""
    terms = open_agreement(token={"acr": [MFA, KEY], "max_auth_age": "8h"})
    async with serving(tmp_path, demo_plan(), [terms]) as server:
        server.engine.say("The end.")
        yield server


async def generate(server: Server, **claims: object) -> str:
    """The text that a partner with such a token gets."""
    sent = token(client_id="lab-app", scope=EVERY_SCOPE, authorization_details=DETAILS, **claims)
    async with Client(server.target, token=sent) as client:
        generation = await client.generate(SMALL, "It was", GenerationConfig(max_output_tokens=20))
        return generation.text


async def test_the_refusal_says_what_to_ask_the_issuer_for_and_that_is_enough(server: Server) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        await generate(server, acr="pwd", auth_time=NOW)

    assert refused.value.reason == "STEP_UP_REQUIRED"
    assert refused.value.max_age is not None
    stepped_up = {"acr": refused.value.acr_values[0], "auth_time": NOW - refused.value.max_age}
    assert await generate(server, **stepped_up) == "The end."


@pytest.mark.parametrize(
    "claims",
    [{}, {"acr": MFA}, {"auth_time": NOW}, {"acr": MFA, "auth_time": NOW - 8 * 3600 - 1}, {"acr": f"{MFA} {KEY}"}],
)
async def test_anything_less_is_asked_to_step_up_again(server: Server, claims: dict[str, object]) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        await generate(server, **claims)

    assert (refused.value.reason, refused.value.max_age) == ("STEP_UP_REQUIRED", 8 * 3600)
    assert refused.value.acr_values == (MFA, KEY)


async def test_an_authentication_grows_old_under_a_token_that_has_not_expired(server: Server) -> None:
    claims = {"acr": KEY, "auth_time": NOW - 8 * 3600 + 60}
    fresh = await generate(server, **claims)
    server.clock.now += 61

    with pytest.raises(AuthenticationFailed) as refused:
        await generate(server, **claims)

    assert (fresh, refused.value.reason) == ("The end.", "STEP_UP_REQUIRED")
