"""Certificate-bound tokens (RFC 8705) and step-up (RFC 9470) over real mutual TLS, from two clients."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from deployment import DEMO_MODELS, LAB_APP, Deployment, Hosted
from foreign import GRPCURL, bearer, json_values, run
from real_server import RealServer, real_server

from sluicegate.auth import certificate_thumbprint
from sluicegate.client import AuthenticationFailed, Client, GenerationConfig, Tls

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MFA, HARDWARE = "urn:example:acr:mfa", "urn:example:acr:hardware-key"
EIGHT_HOURS = 8 * 3_600
GENERATE = "sluicegate.v1.GenerationService/Generate"
UNAUTHENTICATED = 64 + 16  # grpcurl exits with 64 plus the status code


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one authority of the server and of its clients' certificates."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Path:
    return authority.issue("lab")


@pytest.fixture(scope="module")
def other(authority: Authority) -> Path:
    return authority.issue("other")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[RealServer]:
    """A server whose partner must hold its certificate and have authenticated strongly within eight hours."""
    of_server = authority.issue("server")
    key, client_ca = str(of_server.with_suffix(".key")), str(authority.certificate)
    model = Hosted(directory=DEMO_MODELS / "demo-xs", open_to="partner")
    deployment = Deployment(
        tmp_path_factory.mktemp("bound") / "files",
        {"demo-xs": model},
        tls={"certificate": str(of_server), "key": key, "client_ca": client_ca},
    )
    deployment.write_agreement(token={"binding": "mtls", "acr": [MFA, HARDWARE], "max_auth_age": "8h"})
    with real_server(deployment) as running:
        yield running


def token_for(server: RealServer, certificate: Path | None, **claims: Any) -> str:
    """A token of a strong authentication a moment ago, bound to the certificate, unless claims say otherwise."""
    thumbprint = certificate_thumbprint(certificate.read_bytes()) if certificate is not None else None
    strong = {"acr": MFA, "authenticated_at": int(time.time()) - 60}
    return server.token(LAB_APP, certificate_thumbprint=thumbprint, **{**strong, **claims})


async def generated(server: RealServer, authority: Authority, certificate: Path, token: str) -> int:
    """Output tokens that a caller with this certificate and token gets."""
    tls = Tls(ca=authority.certificate, certificate=certificate, key=certificate.with_suffix(".key"))
    async with Client(server.address, token=token, tls=tls) as client:
        generation = await client.generate("demo-xs", "It was", GenerationConfig(max_output_tokens=4))
        return generation.usage.output_tokens


async def test_a_bound_token_is_good_with_its_certificate_and_no_other(
    server: RealServer, authority: Authority, own: Path, other: Path
) -> None:
    token = token_for(server, own)

    served = await generated(server, authority, own, token)
    with pytest.raises(AuthenticationFailed) as stolen:
        await generated(server, authority, other, token)

    assert served == 4
    assert stolen.value.reason == "TOKEN_BINDING_MISMATCH"


async def test_a_renewed_certificate_needs_a_new_token(
    server: RealServer, authority: Authority, tmp_path: Path
) -> None:
    first = authority.issue("renewed")
    kept = tmp_path / "first.pem"
    kept.write_bytes(first.read_bytes())
    token = token_for(server, kept)
    renewed = authority.issue("renewed")  # of the same name, in the same place

    with pytest.raises(AuthenticationFailed) as refused:
        await generated(server, authority, renewed, token)

    assert refused.value.reason == "TOKEN_BINDING_MISMATCH"
    assert await generated(server, authority, renewed, token_for(server, renewed)) == 4


async def test_a_token_that_is_not_bound_does_not_do_whatever_the_certificate(
    server: RealServer, authority: Authority, own: Path
) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        await generated(server, authority, own, token_for(server, None))

    assert refused.value.reason == "TOKEN_BINDING_REQUIRED"


@pytest.mark.parametrize(
    "weak",
    [{"acr": "pwd"}, {"acr": None}, {"authenticated_at": None}, {"authenticated_at": 1_000_000_000}],
    ids=["weak", "unknown strength", "unknown age", "old"],
)
async def test_a_weak_or_old_authentication_steps_up_with_what_the_refusal_names(
    server: RealServer, authority: Authority, own: Path, weak: dict[str, Any]
) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        await generated(server, authority, own, token_for(server, own, **weak))

    assert (refused.value.reason, refused.value.max_age) == ("STEP_UP_REQUIRED", EIGHT_HOURS)
    assert refused.value.acr_values == (MFA, HARDWARE)
    oldest = int(time.time()) - EIGHT_HOURS + 60
    for acr in refused.value.acr_values:
        stepped_up = token_for(server, own, acr=acr, authenticated_at=oldest)
        assert await generated(server, authority, own, stepped_up) == 4


async def test_stepping_up_does_not_bring_another_certificate_in(
    server: RealServer, authority: Authority, own: Path, other: Path
) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        await generated(server, authority, other, token_for(server, own, acr="pwd"))

    assert refused.value.reason == "TOKEN_BINDING_MISMATCH"  # who stole a token does not learn what it lacks


def test_grpcurl_is_refused_for_another_certificate_and_told_how_to_step_up(
    server: RealServer, authority: Authority, own: Path, other: Path
) -> None:
    def call(certificate: Path, token: str) -> tuple[int, dict[str, Any]]:
        """The exit code, and the answer or the ErrorInfo."""
        body = json.dumps({"model": "demo-xs", "text": "It was", "config": {"maxOutputTokens": 4}})
        key = certificate.with_suffix(".key")
        files: list[str | Path] = ["-cacert", authority.certificate, "-cert", certificate, "-key", key]
        sent = ["-format-error", "-connect-timeout", "10", "-H", bearer(token), "-d", body]
        done = run(GRPCURL, *files, *sent, server.address, GENERATE)
        [value] = json_values(done.stdout or done.stderr)
        return done.returncode, value if done.returncode == 0 else value["details"][0]

    weak = call(own, token_for(server, own, acr="pwd"))
    stolen = call(other, token_for(server, own))
    unbound = call(own, token_for(server, None))
    told = weak[1]["metadata"]
    stepped_up = call(own, token_for(server, own, acr=told["acr_values"].split()[0]))

    assert (weak[0], weak[1]["reason"]) == (UNAUTHENTICATED, "STEP_UP_REQUIRED")
    assert told == {"acr_values": f"{MFA} {HARDWARE}", "max_age": str(EIGHT_HOURS)}
    assert (stolen[0], stolen[1]["reason"]) == (UNAUTHENTICATED, "TOKEN_BINDING_MISMATCH")
    assert (unbound[0], unbound[1]["reason"]) == (UNAUTHENTICATED, "TOKEN_BINDING_REQUIRED")
    assert (stepped_up[0], stepped_up[1]["usage"]["outputTokens"]) == (0, 4)
