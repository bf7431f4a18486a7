"""The bias evaluation through a whole server with a real model."""

from __future__ import annotations

from pathlib import Path

import pytest
from bias_runs import journal
from harness import EVERY_SCOPE, SMALL, serving
from issuer import token

from sluicegate.client import AccessDenied, Client
from sluicegate.client.evaluation.bias import Measurement
from sluicegate.client.evaluation.occupations import occupations
from sluicegate.client.evaluation.subject import ModelUnderTest
from sluicegate.client.evaluation.suites import Suite
from sluicegate.client.results import Score
from sluicegate.evidence import BiasEvidence
from sluicegate.server.gpt2.loading import load_runner

SUITE = Suite("occupations", occupations().pairs[::20])
MODELS = {SMALL: {"device": "cpu", "dtype": "float32", "slots": 8}}


async def measured(client: Client, path: Path, concurrency: int) -> BiasEvidence:
    subject = ModelUnderTest.of(await client.model(SMALL))

    async def score(text: str) -> Score:
        return await client.score(SMALL, text)

    with journal(path, SUITE, subject) as opened:
        work = Measurement(SUITE, subject, opened)
        await work.measure(score, lambda _: None, concurrency)
        return work.evidence("sluicegate", None)


async def test_figures_repeat_to_the_digit_alone_and_in_company(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, models=MODELS, load=load_runner) as server,
        Client(server.target, token=token(scope=EVERY_SCOPE)) as client,
    ):
        alone = await measured(client, tmp_path / "alone", 1)
        company = await measured(client, tmp_path / "company", 8)
        stated = await client.model(SMALL)

    assert alone.pairs == company.pairs
    assert alone.figures == company.figures
    assert alone.subject == company.subject
    assert alone.subject.weights_sha256 == stated.weights_sha256
    assert [each.stage for each in alone.subject.served_under] == ["s2"]
    assert all(pair.stereotype < 0 and pair.other < 0 for pair in alone.pairs)


@pytest.mark.parametrize("scope", [f"score:{SMALL}", f"logprobs:{SMALL}"])
async def test_a_token_without_both_scopes_measures_nothing(scope: str, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, models=MODELS, load=load_runner) as server,
        Client(server.target, token=token(scope=scope)) as client,
    ):
        with pytest.raises(AccessDenied) as refused:
            await measured(client, tmp_path / "journal", 2)

    assert refused.value.reason == "SCOPE_MISSING"
