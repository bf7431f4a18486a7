"""Health: open to anyone for the server and its services, and for models to those who may know of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, read_refusal, refusal, serving
from issuer import NOW, FakeClock, token
from policies import policy

from sluicegate.server.changes import Changes
from sluicegate.server.gate import LOOK_AGAIN_SECONDS, Gate
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.rpc.health import HealthServicer
from sluicegate.server.rpc.methods import caller_services
from sluicegate.server.watermark import Keyring

# Any: the type stubs of the package do not know List.
messages: Any = health_pb2
SERVING = messages.HealthCheckResponse.SERVING
NOT_SERVING = messages.HealthCheckResponse.NOT_SERVING
UNKNOWN = messages.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = {"", *(service.full_name for service in caller_services())}
MODELS = {model: {"device": "cpu", "slots": 1} for model in ("gpt2-124m", "gpt2-774m", "gpt2-next")}
A_MINUTE = {"from": "2026-02-02T02:41:00Z", "until": "2026-02-02T02:42:00Z"}
"""One minute from now."""
STRANGER, PARTNER, INSIDER = bearer(), bearer(client_id="lab-app"), bearer(client_id="eval-team")


async def statuses(server: Server, metadata: Any = ()) -> dict[str, int]:
    answer = await server.health.List(messages.HealthListRequest(), metadata=metadata, timeout=LONG_SECONDS)
    return {name: each.status for name, each in answer.statuses.items()}


async def check(server: Server, service: str, metadata: Any = ()) -> int | None:
    """The status; None for an unknown service."""
    request = messages.HealthCheckRequest(service=service)
    try:
        answer = await server.health.Check(request, metadata=metadata, timeout=LONG_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND and error.details() == "unknown service":
            return None
        raise
    status: int = answer.status
    return status


@pytest.mark.parametrize(
    ("metadata", "models"),
    [
        pytest.param((), set(), id="nobody"),
        pytest.param(STRANGER, {"gpt2-124m"}, id="stranger"),
        pytest.param(PARTNER, {"gpt2-124m", "gpt2-774m"}, id="partner"),
        pytest.param(INSIDER, {"gpt2-124m", "gpt2-774m", "gpt2-next"}, id="insider"),
    ],
)
async def test_callers_hear_of_the_models_that_they_may_know(tmp_path: Path, metadata: Any, models: set[str]) -> None:
    async with serving(tmp_path, agreements=[open_agreement()], models=MODELS) as server:
        listed = await statuses(server, metadata)

        assert listed == dict.fromkeys({*SERVICES, *(f"models/{model}" for model in models)}, SERVING)
        for model in (*MODELS, "gpt2-unheard-of"):
            expected = SERVING if model in models else None
            assert await check(server, f"models/{model}", metadata) == expected
            watch = server.health.Watch(messages.HealthCheckRequest(service=f"models/{model}"), metadata=metadata)
            assert (await watch.read()).status == (SERVING if model in models else UNKNOWN)
            watch.cancel()


async def test_where_callers_without_a_token_are_served_they_hear_of_public_models(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
    async with serving(tmp_path, plan, models=MODELS) as server:
        assert await check(server, "models/gpt2-124m") == SERVING
        assert await check(server, "models/gpt2-next") is None


async def test_a_model_that_is_public_but_not_hosted_here_is_unknown(server: Server) -> None:
    assert await check(server, "models/gpt2-355m", STRANGER) is None


@pytest.mark.parametrize("service", ["nope", "models", "models/", "sluicegate.v1", "grpc.health.v1.Health"])
async def test_any_other_name_is_unknown(server: Server, service: str) -> None:
    assert await check(server, service, STRANGER) is None


async def test_a_bad_token_is_refused_here_too(server: Server) -> None:
    metadata = bearer(token(exp=0, iat=0))

    for call in (
        server.health.Check(messages.HealthCheckRequest(), metadata=metadata),
        server.health.List(messages.HealthListRequest(), metadata=metadata),
        server.health.Watch(messages.HealthCheckRequest(), metadata=metadata),
    ):
        assert (await refusal(call)).verdict == "UNAUTHENTICATED TOKEN_CLAIMS_INVALID"


async def test_a_watch_hears_of_a_lost_engine_and_of_its_return(server: Server) -> None:
    watches = [
        server.health.Watch(messages.HealthCheckRequest(service=service), metadata=STRANGER)
        for service in (f"models/{SMALL}", "")
    ]
    model, whole = watches
    told = [(await model.read()).status]
    assert (await whole.read()).status == SERVING

    server.engine.lose()

    told += [(await model.read()).status, (await model.read()).status]
    assert told == [SERVING, NOT_SERVING, SERVING]
    assert await check(server, "") == SERVING


async def test_a_watch_hears_of_a_model_that_the_stage_closes(tmp_path: Path) -> None:
    models = {"gpt2-355m": {"device": "cpu", "slots": 1}}
    async with serving(tmp_path, models=models) as server:
        watch = server.health.Watch(messages.HealthCheckRequest(service="models/gpt2-355m"), metadata=STRANGER)
        told = [(await watch.read()).status]

        server.write_policy(demo_plan(active="s1"))

        told.append((await watch.read()).status)
        assert told == [SERVING, UNKNOWN]


async def test_a_model_whose_weights_are_not_those_of_a_new_policy_stops_serving(server: Server) -> None:
    watch = server.health.Watch(messages.HealthCheckRequest(service=f"models/{SMALL}"), metadata=STRANGER)
    told = [(await watch.read()).status]
    plan = demo_plan()
    plan["models"][SMALL]["weights_sha256"] = "11" * 32

    server.write_policy(plan)

    told.append((await watch.read()).status)
    assert told == [SERVING, NOT_SERVING]


async def test_a_watch_knows_no_more_of_a_model_when_its_token_has_expired(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        server.clock.now = NOW + 899.8  # the last moments of a token of 900 seconds
        request = messages.HealthCheckRequest(service=f"models/{SMALL}")
        watch = server.health.Watch(request, metadata=STRANGER, timeout=LONG_SECONDS)
        first = await watch.read()

        server.clock.now = NOW + 900
        second = await watch.read()

        assert (first.status, second.status) == (SERVING, UNKNOWN)
        watch.cancel()


async def test_a_watch_hears_of_an_agreement_that_begins_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.server.gate.LOOK_AGAIN_SECONDS", 0.05)
    async with serving(tmp_path, agreements=[open_agreement(valid=A_MINUTE)], models=MODELS) as server:
        request = messages.HealthCheckRequest(service="models/gpt2-774m")
        watch = server.health.Watch(request, metadata=PARTNER, timeout=LONG_SECONDS)
        told = [(await watch.read()).status]
        for moment in (60, 120):
            server.clock.now = NOW + moment
            told.append((await watch.read()).status)

        assert told == [UNKNOWN, SERVING, UNKNOWN]


async def test_a_watch_hears_of_a_token_that_expires_while_a_status_is_sent(tmp_path: Path) -> None:
    clock, caller = FakeClock(NOW + 899.95), SimpleNamespace(anonymous=False, expires_at=NOW + 900)
    gate: Any = Gate(policy, Metrics(), clock, withdrawals_age=lambda: 0.0, keyring=Keyring())
    gate.may_know = lambda principal, _: not gate.has_expired(principal)
    parts: Any = (
        SimpleNamespace(identify_if_any=lambda _: SimpleNamespace(principal=caller)),
        gate,
        SimpleNamespace(hosted={SMALL}, find=lambda model: model),
        Changes(),
    )
    call: Any = None
    watch = aiter(HealthServicer((), *parts).Watch(messages.HealthCheckRequest(service=f"models/{SMALL}"), call))
    first = await anext(watch)

    clock.now = NOW + 900  # while the watch waits for its first status to be sent
    async with asyncio.timeout(LOOK_AGAIN_SECONDS / 2):
        second = await anext(watch)

    assert (first.status, second.status) == (SERVING, UNKNOWN)


async def test_an_unknown_method_of_health_is_one_of_ours(server: Server) -> None:
    call: Any = server.channel.unary_unary("/grpc.health.v1.Health/Nope")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=LONG_SECONDS)

    assert read_refusal(caught.value).verdict == "UNIMPLEMENTED METHOD_UNKNOWN"
