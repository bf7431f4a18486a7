"""What operators see of calls through the wire: denials, quotas, hours, the policy; and that nobody creates series."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from harness import (
    LONG_SECONDS,
    METRICS,
    SMALL,
    Server,
    bearer,
    demo_plan,
    open_agreement,
    refusal,
    serving,
    until,
)
from issuer import ISSUER, NOW
from operators import withdraw

from sluicegate.server import quota_figures
from sluicegate.v1.access_service_pb2 import CheckAccessRequest
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, StreamGenerateRequest
from sluicegate.v1.model_service_pb2 import WatchModelsRequest
from sluicegate.v1.withdrawal_service_pb2 import ClientTarget, WithdrawalTarget

LARGE = "gpt2-774m"
OUTSIDER, PARTNER = bearer(), bearer(client_id="lab-app")
PARTNERS = ("example-lab", "public", "internal", "other")
PURPOSE = "human-susceptibility"


def generate(server: Server, who: Any, model: str = SMALL, tokens: int = 1, **fields: Any) -> Any:
    request = GenerateRequest(model=model, text="a", config=GenerationConfig(max_output_tokens=tokens), **fields)
    return server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


def denials(samples: dict[str, float]) -> dict[tuple[str, str], float]:
    """The denials that were counted, by partner and class."""
    found = {}
    for name, count in samples.items():
        if name.startswith("sluicegate_denials_total") and count:
            kind, partner = name.split('"')[1::2]  # labels are written in the order of their names
            found[partner, kind] = count
    return found


async def test_each_refusal_counts_by_who_was_refused_and_for_want_of_what(tmp_path: Path) -> None:
    plan = demo_plan()
    plan["public"]["quotas"] = {"output_tokens_per_day": 3}
    async with serving(tmp_path, plan, [open_agreement(purposes=[PURPOSE])], metrics=METRICS) as server:
        await generate(server, OUTSIDER, tokens=3)

        refused = [
            await refusal(call)
            for call in (
                generate(server, ()),
                generate(server, bearer("not.a.token")),
                generate(server, bearer(client_id="lab-app", iat=NOW - 900, exp=NOW - 1)),
                generate(server, bearer(client_id="lab-app", scope="generate:nothing")),
                generate(server, OUTSIDER, "gpt2-next"),
                generate(server, bearer(client_id="eval-team", scope="generate:made-up"), "made-up"),
                generate(server, PARTNER, LARGE, purpose="another"),
                generate(server, OUTSIDER),
                generate(server, OUTSIDER, tokens=100_000),
            )
        ]
        found = await server.metrics()

    assert [each.reason for each in refused] == [
        "TOKEN_MISSING",
        "TOKEN_MALFORMED",
        "TOKEN_EXPIRED",
        "SCOPE_MISSING",
        "MODEL_NOT_RELEASED",
        "MODEL_NOT_RELEASED",
        "PURPOSE_NOT_PERMITTED",
        "DAILY_TOKEN_QUOTA",
        "REQUEST_INVALID",
    ]
    assert denials(found) == {
        ("other", "authn"): 3,
        ("example-lab", "scope"): 1,
        ("public", "stage"): 1,
        ("internal", "stage"): 1,
        ("example-lab", "agreement"): 1,
        ("public", "quota"): 1,
    }
    assert found['sluicegate_quota_refusals_total{limit="output_tokens_per_day",partner="public"}'] == 1


async def test_being_told_that_a_call_would_be_denied_is_no_denial(tmp_path: Path) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        answer = await server.access.CheckAccess(
            CheckAccessRequest(action="generate", model="gpt2-next"), metadata=OUTSIDER, timeout=LONG_SECONDS
        )

        assert not answer.allowed
        assert denials(await server.metrics()) == {}


async def test_the_end_of_what_was_served_so_far_is_no_denial(tmp_path: Path) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        server.engine.pause_after(1)
        request = StreamGenerateRequest(model=SMALL, text="a", config=GenerationConfig(max_output_tokens=50))
        running = server.generation.StreamGenerate(request, metadata=OUTSIDER, timeout=LONG_SECONDS)
        watching = server.models.WatchModels(WatchModelsRequest(), metadata=OUTSIDER, timeout=LONG_SECONDS)
        await running.read()
        await watching.read()

        await withdraw(server, WithdrawalTarget(client=ClientTarget(issuer=ISSUER, client_id="app")))
        ends = [(await refusal(call)).reason for call in (running, watching)]
        before = denials(await server.metrics())
        await refusal(generate(server, OUTSIDER))
        after = denials(await server.metrics())

    assert ends == ["CALLER_WITHDRAWN"] * 2
    assert (before, after) == ({}, {("other", "authn"): 1})


async def test_calls_beyond_the_hours_that_an_agreement_signals_are_counted(tmp_path: Path) -> None:
    hours = {"weekdays": "07:00-22:00", "mode": "signal"}  # the clock of tests stands on a Sunday evening
    async with serving(tmp_path, None, [open_agreement(hours=hours)], metrics=METRICS) as server:
        await generate(server, PARTNER)
        await generate(server, OUTSIDER)

        found = await server.metrics()

    counts = {partner: found[f'sluicegate_offhours_requests_total{{partner="{partner}"}}'] for partner in PARTNERS}
    assert counts == {"example-lab": 1, "public": 0, "internal": 0, "other": 0}


async def test_what_partners_have_used_of_their_quotas_shows_a_while_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_figures, "REFRESH_SECONDS", 0.01)
    terms = open_agreement(quotas={"output_tokens_per_day": 10, "requests_per_minute": 4})
    async with serving(tmp_path, None, [terms], metrics=METRICS) as server:
        await generate(server, PARTNER, tokens=5)

        async def is_shown() -> bool:
            found = await server.metrics()
            return used(found, "output_tokens_per_day") == 0.5 and used(found, "requests_per_minute") == 0.25

        await until(is_shown)


async def test_what_is_closed_and_when_terms_end_is_shown(tmp_path: Path) -> None:
    async with serving(tmp_path, None, [open_agreement()], metrics=METRICS) as server:
        before = await server.metrics()
        await withdraw(server, WithdrawalTarget(model=SMALL))
        after = await server.metrics()

    until_ = datetime(2027, 1, 20, tzinfo=UTC).timestamp()
    assert before['sluicegate_agreement_expiry_timestamp_seconds{partner="example-lab"}'] == until_
    for found, is_open in ((before, 1), (after, 0)):
        assert found[f'sluicegate_model_open{{audience="public",model="{SMALL}"}}'] == is_open
        assert found['sluicegate_withdrawals_in_force{kind="model"}'] == 1 - is_open


async def test_a_policy_that_is_gone_leaves_no_series(tmp_path: Path) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        before = infos(await server.metrics())
        server.write_policy(demo_plan(active="s1"))

        async def is_taken() -> bool:
            return infos(await server.metrics()) != before

        await until(is_taken)
        after = infos(await server.metrics())

    assert ('stage="s2"' in before[0], 'stage="s1"' in after[0]) == (True, True)
    assert len(before) == len(after) == 1


def infos(samples: dict[str, float]) -> list[str]:
    return [name for name in samples if name.startswith("sluicegate_policy_info")]


def used(samples: dict[str, float], limit: str) -> float:
    return samples[f'sluicegate_quota_used_ratio{{limit="{limit}",partner="example-lab"}}']


async def test_a_policy_that_is_refused_shows_until_its_files_are_mended_or_put_back(tmp_path: Path) -> None:
    async def shows(refused: float, counted: float) -> bool:
        samples = await server.metrics()
        reloads = samples['sluicegate_policy_reloads_total{result="refused"}']
        return (samples["sluicegate_policy_refused"], reloads) == (refused, counted)

    async with serving(tmp_path, metrics=METRICS) as server:
        assert await shows(0, 0)
        (tmp_path / "policy/release.yaml").write_text("active: nowhere")
        await until(lambda: shows(1, 1))

        server.write_policy(demo_plan())

        await until(lambda: shows(0, 1))
