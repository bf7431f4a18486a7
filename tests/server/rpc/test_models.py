"""ModelService through the wire: who sees which models, in pages, one by one, and as they change."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import UTC
from pathlib import Path
from typing import Any

import evidence_files as made
import grpc
import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, refusal, serving, until
from issuer import NOW

from sluicegate.evidence import digest
from sluicegate.v1 import model_service_pb2
from sluicegate.v1.model_service_pb2 import (
    GetModelRequest,
    ListModelsRequest,
    ListModelsResponse,
    Model,
    WatchModelsRequest,
)
from sluicegate.v1.reason_pb2 import REASON_PURPOSE_NOT_PERMITTED, REASON_SCOPE_MISSING, REASON_UNSPECIFIED

STRANGER, PARTNER, INSIDER = bearer(), bearer(client_id="lab-app"), bearer(client_id="eval-team")
READY, LOADING = model_service_pb2.MODEL_STATE_READY, model_service_pb2.MODEL_STATE_LOADING
UNAVAILABLE = model_service_pb2.MODEL_STATE_UNAVAILABLE


async def page(server: Server, who: Any, size: int = 0, token: str = "") -> ListModelsResponse:
    request = ListModelsRequest(page_size=size, page_token=token)
    answer: ListModelsResponse = await server.models.ListModels(request, metadata=who, timeout=LONG_SECONDS)
    return answer


async def get(server: Server, who: Any, model: str = SMALL) -> Model:
    answer = await server.models.GetModel(GetModelRequest(model=model), metadata=who, timeout=LONG_SECONDS)
    return answer.model


def watch(server: Server, who: Any) -> Any:
    call: Any = server.models.WatchModels(WatchModelsRequest(), metadata=who, timeout=LONG_SECONDS)
    return call


def ids(answer: Any) -> list[str]:
    return [model.id for model in answer.models]


@pytest.mark.parametrize(
    ("who", "models"),
    [
        pytest.param(STRANGER, ["gpt2-124m", "gpt2-355m"], id="stranger"),
        pytest.param(PARTNER, ["gpt2-124m", "gpt2-355m", "gpt2-774m"], id="partner"),
        pytest.param(INSIDER, ["gpt2-124m", "gpt2-355m", "gpt2-774m", "gpt2-1558m", "gpt2-next"], id="insider"),
    ],
)
async def test_callers_see_the_models_that_they_may_know_smallest_first(
    tmp_path: Path, who: Any, models: list[str]
) -> None:
    async with serving(tmp_path, agreements=[open_agreement()]) as server:
        assert ids(await page(server, who)) == models
        assert ids(await watch(server, who).read()) == models


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_pages_put_together_are_the_list(server: Server, size: int) -> None:
    found, token = list[str](), ""
    while True:
        answer = await page(server, INSIDER, size, token)
        found += ids(answer)
        assert len(answer.models) <= size
        token = answer.next_page_token
        if not token:
            break

    assert found == ids(await page(server, INSIDER))


@pytest.mark.parametrize("token", ["nope", "gpt2-next", "gpt2-774m"])
async def test_a_page_token_of_another_caller_says_nothing(server: Server, token: str) -> None:
    refused = await refusal(
        server.models.ListModels(ListModelsRequest(page_token=token), metadata=STRANGER, timeout=LONG_SECONDS)
    )

    assert refused.verdict == "INVALID_ARGUMENT REQUEST_INVALID"
    assert refused.violations == {
        "page_token": "is a `next_page_token` of this caller; begin again without one",
    }


async def test_sources_are_hub_ids_and_never_places_on_the_server(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["models"]["gpt2-next"]["source"] = "owner/next"

    async with serving(tmp_path, plan) as server:
        sources = {model.id: model.source for model in (await page(server, INSIDER)).models}

    assert sources.pop("gpt2-next") == "owner/next"
    assert set(sources.values()) == {""}


async def test_a_model_that_answers_tells_what_it_is(server: Server) -> None:
    model = await get(server, STRANGER)

    assert (model.id, model.license, model.stage) == (SMALL, "MIT", "s2")
    assert (model.parameters, model.context_length, model.vocabulary_size) == (1, 1_024, 3_840)
    assert (model.weights_sha256, model.dtype, model.state) == ("00" * 32, "float32", READY)
    assert model.open_to == model_service_pb2.AUDIENCE_PUBLIC
    assert model.caller_access.allowed


async def test_a_model_that_is_hosted_elsewhere_is_unavailable_here(server: Server) -> None:
    model = await get(server, STRANGER, "gpt2-355m")

    assert model.state == UNAVAILABLE
    assert (model.parameters, model.weights_sha256, model.dtype) == (0, "", "")
    assert model.caller_access.allowed


async def test_a_model_tells_why_the_caller_may_not_use_it(server: Server) -> None:
    model = await get(server, bearer(scope="generate:gpt2-355m"))

    assert not model.caller_access.allowed
    assert model.caller_access.reason == REASON_SCOPE_MISSING


async def test_a_partner_sees_its_agreement_whatever_purpose_it_would_have_to_state(tmp_path: Path) -> None:
    async with serving(tmp_path, agreements=[open_agreement(purposes=["human-susceptibility"])]) as server:
        model = await get(server, PARTNER, "gpt2-774m")

        assert model.caller_access.allowed
        assert model.caller_access.reason == REASON_UNSPECIFIED != REASON_PURPOSE_NOT_PERMITTED
        assert model.caller_access.agreement == "agr-example-lab"


async def test_a_model_comes_with_its_card(tmp_path: Path) -> None:
    weights = "00" * 32
    files = tmp_path / "policy" / "evidence"
    made.write(files, "bias.json", made.bias(SMALL, stereotype=58, other=42, weights=weights))
    made.write(files, "watermark.json", made.watermark(SMALL, weights=weights))
    made.write(files, "memorisation.json", made.memorisation(SMALL, matched=2, weights=weights))

    async with serving(tmp_path) as server:
        answer = await server.models.GetModel(GetModelRequest(model=SMALL), metadata=STRANGER, timeout=LONG_SECONDS)

    [bias], [memorisation] = answer.card.bias, answer.card.memorisation
    assert (bias.suite, bias.pairs, bias.ties, bias.share) == ("occupations", 100, 0, 0.58)
    assert bias.interval.low == pytest.approx(0.477119)
    assert bias.evidence_sha256 == digest((files / "bias.json").read_bytes())
    assert bias.evaluation_time.ToDatetime(tzinfo=UTC) == made.ENDED
    assert [(each.tokens, each.temperature, each.rate) for each in answer.card.watermark.power] == [(200, 0.7, 0.98)]
    assert (answer.card.watermark.false_positive_rate, answer.card.watermark.prose_rate) == (0.001, 0.0009)
    assert (memorisation.samples, memorisation.matched, memorisation.rate) == (1_000, 2, 0.002)
    assert (memorisation.least_tokens, memorisation.top_k, memorisation.interval.high) == (50, 40, 0.007206)


async def test_a_card_tells_how_the_model_came_to_be_open(server: Server) -> None:
    request = GetModelRequest(model="gpt2-355m")

    answer = await server.models.GetModel(request, metadata=STRANGER, timeout=LONG_SECONDS)

    [change] = answer.card.openings
    assert (change.from_stage, change.to_stage) == ("s1", "s2")
    assert change.open_before == model_service_pb2.AUDIENCE_UNSPECIFIED
    assert change.open_after == model_service_pb2.AUDIENCE_PUBLIC
    assert not answer.card.HasField("watermark")


async def test_a_watch_follows_the_policy(server: Server) -> None:
    call = watch(server, STRANGER)
    told = [ids(await call.read())]

    server.write_policy(demo_plan(active="s3"))
    told.append(ids(await call.read()))
    server.write_policy(demo_plan(active="s1"))
    told.append(ids(await call.read()))

    assert told == [["gpt2-124m", "gpt2-355m"], ["gpt2-124m", "gpt2-355m", "gpt2-774m"], ["gpt2-124m"]]


async def test_a_watch_says_nothing_of_what_does_not_concern_the_caller(server: Server) -> None:
    call = watch(server, STRANGER)
    await call.read()
    plan = demo_plan()
    plan["models"]["gpt2-next"]["description"] = "secret"

    server.write_policy(plan)
    await watch_for_revision(server)
    plan["models"][SMALL]["description"] = "public"
    server.write_policy(plan)

    [model, *_] = (await call.read()).models
    assert model.description == "public"


async def watch_for_revision(server: Server) -> None:
    """Wait until an insider has been told of a change."""
    call = watch(server, INSIDER)
    while not any(model.description == "secret" for model in (await call.read()).models):
        pass
    call.cancel()


async def test_a_bad_policy_leaves_the_last_good_one_in_force(
    server: Server, logs: list[MutableMapping[str, Any]]
) -> None:
    async def is_refused() -> bool:
        return any(entry["event"] == "policy_refused" for entry in logs)

    (server.directory / "policy/release.yaml").write_text("active: nowhere")
    await until(is_refused)

    assert ids(await page(server, STRANGER)) == ["gpt2-124m", "gpt2-355m"]


async def test_a_watch_follows_the_engine(server: Server) -> None:
    call = watch(server, STRANGER)
    told = [(await call.read()).models[0].state]

    server.engine.lose()

    told += [(await call.read()).models[0].state, (await call.read()).models[0].state]
    assert told == [READY, LOADING, READY]


async def test_a_watch_follows_the_dates_of_an_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.server.gate.LOOK_AGAIN_SECONDS", 0.05)
    valid = {"from": "2026-02-02T02:41:00Z", "until": "2026-02-02T02:42:00Z"}  # a minute from now
    async with serving(tmp_path, agreements=[open_agreement(valid=valid)]) as server:
        call = watch(server, PARTNER)
        told = [ids(await call.read())]
        for moment in (60, 120):
            server.clock.now = NOW + moment
            told.append(ids(await call.read()))

    public = ["gpt2-124m", "gpt2-355m"]
    assert told == [public, [*public, "gpt2-774m"], public]


async def test_a_watch_ends_with_its_token(server: Server) -> None:
    call = watch(server, bearer(exp=NOW + 60))
    await call.read()

    server.clock.now = NOW + 60
    server.write_policy(demo_plan(active="s1"))

    assert (await refusal(call)).verdict == "UNAUTHENTICATED TOKEN_EXPIRED"


async def test_a_watch_that_nothing_wakes_ends_with_its_token_too(server: Server) -> None:
    server.clock.now = NOW + 899.95  # 50 ms before the token's end
    call = watch(server, bearer())
    await call.read()

    server.clock.now = NOW + 900

    assert (await refusal(call)).verdict == "UNAUTHENTICATED TOKEN_EXPIRED"


async def test_a_watch_without_a_token_ends_when_such_callers_are_served_no_more(tmp_path: Path) -> None:
    serves = demo_plan()
    serves["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
    async with serving(tmp_path, serves) as server:
        call = watch(server, ())
        assert ids(await call.read()) == ["gpt2-124m", "gpt2-355m"]

        server.write_policy(demo_plan())

        assert (await refusal(call)).verdict == "UNAUTHENTICATED TOKEN_MISSING"


async def test_a_watch_that_its_client_leaves_is_over(server: Server) -> None:
    call = watch(server, STRANGER)
    await call.read()

    call.cancel()

    assert await call.code() is grpc.StatusCode.CANCELLED
