"""Rows 2 to 8 of the decision order through the wire. tests/auth has each row's every form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, refusal, serving
from issuer import KEY, KEYS, NOW, claims, forge, header, token

from sluicegate.auth import Reason, create_signing_key
from sluicegate.server.rpc.status import public_text
from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest
from sluicegate.v1.generation_service_pb2 import GenerateRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")

Metadata = tuple[tuple[str, str | bytes], ...]
GOOD = f"Bearer {token()}"


def sent(value: str) -> Metadata:
    return (("authorization", f"Bearer {value}"),)


def refused_tokens() -> Iterator[tuple[str, Metadata, str, dict[str, str]]]:
    """Name, metadata, verdict and facts."""
    yield "none", (), "TOKEN_MISSING", {}
    yield "another scheme", (("authorization", "Basic YTpi"),), "TOKEN_MISSING", {}
    yield "no scheme", (("authorization", token()),), "TOKEN_MISSING", {}
    yield "an empty one", (("authorization", "Bearer "),), "TOKEN_MISSING", {}
    yield "another key", (("x-authorization", GOOD),), "TOKEN_MISSING", {}
    yield "the same twice", (("authorization", GOOD), ("authorization", GOOD)), "TOKEN_AMBIGUOUS", {}
    yield "two joined", (("authorization", f"{GOOD}, {GOOD}"),), "TOKEN_AMBIGUOUS", {}
    yield "no token at all", sent("abc"), "TOKEN_MALFORMED", {}
    yield "a padded one", sent(token() + "="), "TOKEN_MALFORMED", {}
    yield "a too large one", sent(token(sub="x" * 6_000)), "TOKEN_MALFORMED", {}
    yield "an ID token", sent(forge({**header(), "typ": "JWT"}, claims())), "TOKEN_TYPE_INVALID", {}
    yield "one unsigned", sent(forge({**header(), "alg": "none"}, claims())), "TOKEN_ALG_FORBIDDEN", {}
    yield "an algorithm not set", sent(token(KEYS["EdDSA"])), "TOKEN_ALG_FORBIDDEN", {}
    yield "one with its own key", sent(forge({**header(), "jku": "x"}, claims())), "TOKEN_HEADER_FORBIDDEN", {}
    yield "an unknown key", sent(token(create_signing_key(key_id="stranger"))), "TOKEN_KEY_UNKNOWN", {}
    forged = token(create_signing_key(key_id=KEY.key_id))
    yield "a forged signature", sent(forged), "TOKEN_SIGNATURE_INVALID", {}
    yield "no subject", sent(token(sub=None)), "TOKEN_CLAIMS_INVALID", {"claim": "sub"}
    yield "exp as text", sent(token(exp=str(NOW + 60))), "TOKEN_CLAIMS_INVALID", {"claim": "exp"}
    yield "a foreign issuer", sent(token(iss="https://other.example")), "TOKEN_ISSUER_INVALID", {}
    yield "a foreign audience", sent(token(aud="other")), "TOKEN_AUDIENCE_INVALID", {}
    yield "one not yet valid", sent(token(nbf=NOW + 31)), "TOKEN_NOT_YET_VALID", {}
    yield "an expired one", sent(token(iat=NOW - 60, exp=NOW)), "TOKEN_EXPIRED", {}
    maximum = {"max_lifetime_seconds": "3600"}
    yield "a long-lived one", sent(token(exp=NOW + 3_601)), "TOKEN_LIFETIME_EXCESSIVE", maximum
    yield "one bound to a certificate", sent(token(cnf={"x5t#S256": "A" * 43})), "TOKEN_BINDING_MISMATCH", {}


@pytest.mark.parametrize(
    ("metadata", "reason", "facts"),
    [pytest.param(*case[1:], id=case[0]) for case in refused_tokens()],
)
@pytest.mark.parametrize("method", ["Generate", "GetCallerIdentity"])
async def test_a_call_is_refused_for_its_token(
    shared: Server, method: str, metadata: Metadata, reason: str, facts: dict[str, str]
) -> None:
    call: Any
    if method == "Generate":
        call = shared.generation.Generate(GenerateRequest(), metadata=metadata, timeout=LONG_SECONDS)
    else:
        call = shared.access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=metadata, timeout=LONG_SECONDS)

    refused = await refusal(call)

    assert refused.verdict == f"UNAUTHENTICATED {reason}"
    assert refused.text == public_text(Reason(reason))
    assert refused.facts == facts
    assert refused.details == ("ErrorInfo", "RequestInfo")
    assert refused.retry_after is None


async def test_a_scheme_in_any_case_is_taken(shared: Server) -> None:
    identity = await shared.access.GetCallerIdentity(
        GetCallerIdentityRequest(), metadata=(("authorization", f"bEARER {token()}"),), timeout=LONG_SECONDS
    )

    assert identity.subject == "alice"


async def test_a_token_is_good_until_it_expires(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        request = GenerateRequest(model=SMALL, text="The")
        server.engine.say("The end.")
        await server.generation.Generate(request, metadata=bearer(), timeout=LONG_SECONDS)

        server.clock.now = NOW + 900

        refused = await refusal(server.generation.Generate(request, metadata=bearer(), timeout=LONG_SECONDS))
        assert refused.verdict == "UNAUTHENTICATED TOKEN_EXPIRED"


async def test_keys_that_never_came_are_no_fault_of_the_caller(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/jwks.json"  # nobody listens on the discard port
    issuers = [{"issuer": "https://issuer.example", "audience": "sluicegate.example", "keys": {"url": url}}]

    async with serving(tmp_path, tokens={"issuers": issuers}) as server:
        refused = await refusal(
            server.access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=bearer(), timeout=LONG_SECONDS)
        )

    assert refused.verdict == "UNAVAILABLE KEYS_STALE"
