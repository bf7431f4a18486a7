"""The release plan: its models, stages, transitions, and when one stage opens wider than another."""

from __future__ import annotations

import pytest
from policies import policy, release

from sluicegate.auth import Audience, PolicyError, Stage
from sluicegate.auth.release import ReleasePlan


def problem(**changes: object) -> str:
    with pytest.raises(PolicyError) as caught:
        policy(release(**changes))
    return str(caught.value)


def stage(**open_to: str) -> Stage:
    return Stage.model_validate({"id": "s", "name": "s", "open": open_to})


@pytest.mark.parametrize(
    "source",
    [
        "/models/gpt2",
        "./weights",
        "../weights/gpt2 large",
        "openai-community/gpt2",
        "openai-community/gpt2@main",
        "openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "openai-community/gpt2@refs/pr/1",
    ],
)
def test_a_source_is_a_directory_or_a_hub_id_at_a_revision(source: str) -> None:
    plan = release()
    plan["models"]["gpt2-124m"]["source"] = source

    assert policy(plan).models["gpt2-124m"].source == source


@pytest.mark.parametrize(
    "source",
    [
        "gpt2",
        "weights/",
        "~/weights/x",
        "a/b/c",
        "owner/name@",
        "owner/@x",
        "https://x.example/y",
        "a b/c",
        "./x\n",
        "",
    ],
)
def test_another_source_is_refused(source: str) -> None:
    plan = release()
    plan["models"]["gpt2-124m"]["source"] = source

    assert "models.gpt2-124m.source: write a directory" in problem(models=plan["models"])


def test_each_stage_opens_models_to_one_audience_each() -> None:
    assert policy().stage.open["gpt2-774m"] is Audience.PARTNER


@pytest.mark.parametrize(
    ("before", "after", "wider"),
    [
        ({}, {"a": "internal"}, True),
        ({"a": "internal"}, {}, False),
        ({"a": "partner"}, {"a": "partner"}, False),
        ({"a": "partner"}, {"a": "public"}, True),
        ({"a": "public"}, {"a": "partner"}, False),
        ({"a": "internal"}, {"a": "partner"}, True),
        ({"a": "public"}, {"a": "internal", "b": "internal"}, True),
    ],
)
def test_a_stage_opens_wider_if_anybody_reaches_more(
    before: dict[str, str], after: dict[str, str], wider: bool
) -> None:
    assert stage(**after).opens_wider_than(stage(**before)) is wider


def test_a_requirement_is_a_gate_or_a_finding() -> None:
    stages = release()["stages"]
    stages[2]["requires"] = [{"model": "gpt2-774m"}, {"gate": "bias", "finding": "example-lab", "model": "gpt2-774m"}]

    text = problem(stages=stages)

    assert "stages.2.requires.0: name either a `gate` or, by its partner, a `finding`" in text
    assert "stages.2.requires.1: name either" in text


def test_anonymous_callers_need_quotas_of_their_own() -> None:
    assert "`anonymous: serve` needs `anonymous_quotas`" in problem(public={"anonymous": "serve", "quotas": {}})


def test_what_is_left_out_is_closed() -> None:
    plan = ReleasePlan.model_validate(
        {
            "apiVersion": "sluicegate/release/v1",
            "models": {"m": {"parameters": 1, "source": "./m", "license": "MIT"}},
            "stages": [{"id": "s", "name": "s", "open": {}}],
            "active": "s",
            "public": {"quotas": {}},
        }
    )

    assert plan.public.anonymous == "refuse"
    assert (plan.on_state_lost.public, plan.on_state_lost.partner) == ("refuse", "refuse")
    assert plan.internal.clients == ()
