"""What a run came to, by model and caller, and its picture."""

from __future__ import annotations

import asyncio
import json
import math
from itertools import islice
from xml.etree import ElementTree

import pytest
from client_server import delta, finished, started
from scripted_streams import Script, VirtualTime

from sluicegate.client.commands.terminal import as_json
from sluicegate.client.load.driver import Driver, Plan
from sluicegate.client.load.histogram import RELATIVE_ERROR, Histogram
from sluicegate.client.load.mix import Mix, Span
from sluicegate.client.load.report import Distribution, plot, results, total
from sluicegate.client.load.tally import Tally

NAMESPACE = "{http://www.w3.org/2000/svg}"
MIX = Mix(
    shares={"a": 1.0, "b": 1.0},
    vocabularies={"a": 9, "b": 9},
    callers=2,
    prompt=Span(1, 1),
    output=Span(1, 1),
    cancel_share=0.0,
)
PLAN = Plan(concurrency=1, rate=None, warm_up_seconds=0.0, seconds=math.inf, requests=12, max_wait_seconds=None, seed=3)


@pytest.fixture
async def driver() -> Driver:
    time = VirtualTime()
    script = Script(time, [(0.0, started()), (1.0, delta("x")), (1.0, finished(output_tokens=1))])
    driver = Driver(PLAN, MIX, script, clock=time, sleep=time.sleep)
    await time.pass_for(asyncio.ensure_future(driver.run()))
    return driver


async def test_requests_stand_under_their_model_and_under_their_caller(driver: Driver) -> None:
    asked = list(islice(MIX.requests(3), 12))

    found = results(driver, ["one", "two"])

    assert found.total.requests == 12
    assert {name: row.answered for name, row in found.by_model.items()} == {
        name: sum(request.model == name for request in asked) for name in ("a", "b")
    }
    assert {name: row.answered for name, row in found.by_caller.items()} == {
        name: sum(request.caller == place for request in asked) for place, name in enumerate(("one", "two"))
    }
    assert (found.seconds, found.mean_output_tokens_per_second, found.requests_per_second) == (24.0, 0.5, 0.5)
    assert found.total.first_token_seconds.p50 == pytest.approx(1.0, rel=RELATIVE_ERROR)


async def test_all_of_it_has_a_json_form(driver: Driver) -> None:
    shown = json.loads(as_json(results(driver, ["one", "two"])))

    assert shown["total"]["inter_token_seconds"] == dict.fromkeys(
        ("mean", "least", "p50", "p90", "p99", "p999", "most")
    ) | {"count": 0}
    assert shown["by_model"]["a"]["finish_reasons"] == {"STOP": shown["by_model"]["a"]["answered"]}
    assert shown["served_under"][0]["model"] == "gpt2-124m"


async def test_the_plot_has_a_line_for_each_time_that_was_taken(driver: Driver) -> None:
    root = ElementTree.fromstring(plot("<title>", total(driver)))

    texts = {each.text for each in root.findall(f"{NAMESPACE}text")}
    assert {"<title>", "first token", "whole answer", "99.9"} <= texts
    assert "between tokens" not in texts
    assert len(root.findall(f"{NAMESPACE}polyline")) == 2


def test_a_curve_ends_where_there_are_no_values_beyond() -> None:
    tally = Tally()
    for number in range(1, 11):
        tally.first_token.record(number / 1e3)

    root = ElementTree.fromstring(plot("", tally))

    # Of the percentiles with a mark, 0, 50 and 90: one of ten values is beyond the last.
    assert len(root.findall(f"{NAMESPACE}circle")) == 3


def test_a_distribution_of_nothing_says_so() -> None:
    assert Distribution.of(Histogram()) == Distribution(0, None, None, None, None, None, None, None)
