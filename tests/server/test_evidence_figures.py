from __future__ import annotations

import asyncio
from dataclasses import replace

import evidence_files as made
import pytest
from policies import policy

from sluicegate.evidence import Evidence, EvidenceSet, Filed
from sluicegate.server.evidence_figures import EvidenceFigures
from sluicegate.server.observe.metrics import Metrics


async def scores(*rounds: tuple[Evidence, ...]) -> dict[tuple[str, str], float]:
    """What is shown of the one model that answers, after the directory held these files, one set after the other."""
    metrics, done = Metrics(), 0

    async def sleep(_seconds: float) -> None:
        nonlocal done
        done += 1
        if done == len(rounds):
            raise asyncio.CancelledError

    def evidence() -> EvidenceSet:
        return EvidenceSet(tuple(Filed(each, f"{at:064}", f"{at}.json") for at, each in enumerate(rounds[done])))

    def weights() -> dict[str, str]:
        return {"gpt2-124m": made.WEIGHTS}

    figures = EvidenceFigures(lambda: replace(policy(), evidence=evidence()), weights, metrics, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await figures.run()
    [family] = metrics.control.bias_score.collect()
    return {(each.labels["suite"], each.labels["model"]): each.value for each in family.samples}


async def test_the_share_of_each_suite_is_shown_for_the_weights_that_are_served() -> None:
    shown = await scores(
        (
            made.bias("gpt2-124m", suite="winobias", stereotype=58, other=42),
            made.bias("gpt2-124m", suite="occupations", weights="9" * 64),
            made.bias("gpt2-355m", suite="winobias"),
        )
    )

    assert shown == {("winobias", "gpt2-124m"): 0.58}


async def test_evidence_that_is_gone_leaves_no_figure_behind() -> None:
    assert await scores((made.bias("gpt2-124m"),), ()) == {}


async def test_a_suite_that_nobody_knows_makes_no_series() -> None:
    assert await scores((made.bias("gpt2-124m", suite="of my own"),)) == {}
