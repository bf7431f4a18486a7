"""What becomes of running calls when their token, their agreement or the stage no longer allows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, refusal, serving
from issuer import NOW
from policies import Document

from sluicegate.v1.access_service_pb2 import GetCallerIdentityRequest
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import StreamGenerateRequest, StreamGenerateResponse

OVER = {"from": "2026-01-20T00:00:00Z", "until": "2026-01-21T00:00:00Z"}
STRANGER, PARTNER = bearer(), bearer(client_id="lab-app")


async def begun(server: Server, who: Any, model: str = SMALL) -> Any:
    """A stream that has begun and waits for its engine."""
    server.engine.pause_after(2)
    config = GenerationConfig(max_output_tokens=100)
    request = StreamGenerateRequest(model=model, text="a", config=config)
    call = server.generation.StreamGenerate(request, metadata=who, timeout=LONG_SECONDS)
    await call.read()
    return call


async def last(call: Any) -> StreamGenerateResponse:
    """The last message of a stream that ends well."""
    message = await call.read()
    while (following := await call.read()) is not grpc.aio.EOF:
        message = following
    assert isinstance(message, StreamGenerateResponse)
    return message


async def stage(server: Server) -> str:
    """The stage in force."""
    request = GetCallerIdentityRequest()
    return (await server.access.GetCallerIdentity(request, metadata=PARTNER, timeout=LONG_SECONDS)).stage


def plan(active: str = "s2", **opened: str) -> Document:
    """The release plan at a stage, which opens these models otherwise."""
    changed = demo_plan(active=active)
    for each in changed["stages"]:
        if each["id"] == active:
            each["open"] |= {name.replace("_", "-"): audience for name, audience in opened.items()}
    return changed


async def test_a_stage_rolled_back_ends_the_streams_of_those_who_are_outside_now(tmp_path: Path) -> None:
    # Two devices, hence two engines: a stream that waits holds up the others of its own.
    hosted = {"gpt2-355m": {"device": "cpu"}, SMALL: {"device": "auto"}}
    async with serving(tmp_path, plan("s2"), models=hosted) as server:
        outside, inside = await begun(server, STRANGER, "gpt2-355m"), await begun(server, STRANGER)

        server.write_policy(plan("s1"))
        ended = await refusal(outside)
        server.engine.resume()
        served = await last(inside)

        assert ended.verdict == "PERMISSION_DENIED STAGE_CHANGED"
        assert ended.facts == {"stage": "s1"}
        assert ended.usage is not None
        assert served.usage.output_tokens == 100


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"status": "suspended"}, "PERMISSION_DENIED AGREEMENT_NOT_ACTIVE"),
        ({"status": "terminated"}, "PERMISSION_DENIED AGREEMENT_NOT_ACTIVE"),
        ({"clients": [{"issuer": "https://issuer.example", "client": "another"}]}, "PERMISSION_DENIED STAGE_CHANGED"),
        ({"models": ["gpt2-1558m"]}, "PERMISSION_DENIED STAGE_CHANGED"),
        ({"actions": ["score"]}, "PERMISSION_DENIED ACTION_NOT_PERMITTED"),
        ({"networks": ["192.0.2.0/24"]}, "PERMISSION_DENIED NETWORK_NOT_PERMITTED"),
        (
            {"valid": {"from": "2026-01-20T00:00:00Z", "until": "2026-01-21T00:00:00Z"}},
            "PERMISSION_DENIED AGREEMENT_EXPIRED",
        ),
    ],
    ids=str,
)
async def test_an_agreement_that_changes_ends_the_streams_under_it(
    tmp_path: Path, changes: dict[str, Any], verdict: str
) -> None:
    async with serving(tmp_path, agreements=[open_agreement()], models={"gpt2-774m": {}}) as server:
        call = await begun(server, PARTNER, "gpt2-774m")

        server.write_policy(demo_plan(), open_agreement(**changes))

        assert (await refusal(call)).verdict == verdict


async def test_a_stream_does_not_go_on_as_public_when_its_agreement_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        call = await begun(server, PARTNER)

        server.write_policy(demo_plan(), open_agreement(status="suspended"))

        ended = await refusal(call)
        assert ended.verdict == "PERMISSION_DENIED AGREEMENT_NOT_ACTIVE"
        assert ended.facts == {"agreement": "agr-example-lab"}


async def test_a_policy_that_leaves_a_stream_allowed_leaves_it_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        call = await begun(server, PARTNER)

        server.write_policy(plan("s3"), open_agreement(hours={"weekdays": "07:00-22:00", "mode": "enforce"}))
        while (
            await server.access.GetCallerIdentity(GetCallerIdentityRequest(), metadata=PARTNER, timeout=LONG_SECONDS)
        ).stage != "s3":
            pass
        server.engine.resume()
        served = await last(call)

        assert served.usage.output_tokens == 100


async def test_a_token_that_expires_ends_its_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.clock.now = NOW + 899.8  # the last moments of a token of 900 seconds
        call = await begun(server, STRANGER)

        ended = await refusal(call)

        assert ended.verdict == "UNAUTHENTICATED TOKEN_EXPIRED"
        assert ended.usage is not None


async def test_an_agreement_that_runs_out_ends_its_streams(tmp_path: Path) -> None:
    valid = {"from": "2026-01-20T00:00:00Z", "until": "2026-02-02T02:40:01Z"}
    async with serving(tmp_path, agreements=[open_agreement(valid=valid)]) as server:
        server.clock.now = NOW + 0.8
        call = await begun(server, PARTNER)

        ended = await refusal(call)

        assert ended.verdict == "PERMISSION_DENIED AGREEMENT_EXPIRED"
        assert ended.facts == {"agreement": "agr-example-lab"}
