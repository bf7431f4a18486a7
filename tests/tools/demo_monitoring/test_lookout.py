"""What the programs answer becomes news once, and a board of what was seen."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import httpx
import pytest

from tools.demo_monitoring.errors import ProgramLost
from tools.demo_monitoring.inbox import Told
from tools.demo_monitoring.lookout import Alert, Lookout, Sighting

JUDGE, TELLER = "http://prometheus", "http://alertmanager"
PROBING = Alert("ScopeProbing", "curious-lab")
LABELS = {"alertname": "ScopeProbing", "partner": "curious-lab", "severity": "ticket", "area": "misuse"}


def judged(state: str) -> dict[str, Any]:
    return {"state": state, "labels": LABELS, "annotations": {"summary": "curious-lab tries doors"}}


def lookout(answer: Callable[[str], httpx.Response], messages: SimpleQueue[Told] | None = None) -> Lookout:
    transport = httpx.MockTransport(lambda request: answer(str(request.url)))
    client = httpx.AsyncClient(transport=transport)
    return Lookout(client, JUDGE, TELLER, messages or SimpleQueue(), clock=lambda: 7.0)


def answers(alerts: list[dict[str, Any]], inhibited_by: list[str]) -> Callable[[str], httpx.Response]:
    told = [{"labels": LABELS, "status": {"inhibitedBy": inhibited_by}}]
    return lambda url: httpx.Response(200, json={"data": {"alerts": alerts}} if url.startswith(JUDGE) else told)


async def test_an_alert_is_news_when_it_is_pending_and_when_it_fires_and_never_again() -> None:
    alerts = [judged("pending")]
    looking = lookout(answers(alerts, []))

    pending = await looking.look()
    alerts[:] = [judged("firing")]
    firing = await looking.look()
    again = await looking.look()

    assert pending == ["Prometheus: ScopeProbing is pending"]
    assert firing == ["Prometheus: ScopeProbing fires (ticket): curious-lab tries doors"]
    assert again == []
    assert looking.board.firing == {PROBING: Sighting(7.0, "ticket", "misuse", "curious-lab tries doors")}


async def test_messages_are_news_once_however_often_they_are_repeated() -> None:
    messages: SimpleQueue[Told] = SimpleQueue()
    for _ in range(2):
        messages.put(Told("tickets", "ScopeProbing", "curious-lab", "curious-lab tries doors"))
    looking = lookout(answers([], []), messages)

    assert await looking.look() == ["Alertmanager tells tickets: curious-lab tries doors"]
    assert looking.board.told == {PROBING: "tickets"}


async def test_an_alert_that_another_says_already_is_kept_back() -> None:
    looking = lookout(answers([], ["fingerprint"]))

    assert await looking.look() == ["Alertmanager keeps ScopeProbing to itself: another alert says it already"]
    assert looking.board.kept_back == {PROBING}


@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.Response(200, text="no JSON")])
async def test_a_program_that_does_not_answer_is_told(answer: httpx.Response) -> None:
    with pytest.raises(ProgramLost, match="http://prometheus/api/v1/alerts"):
        await lookout(lambda _: answer).look()


async def test_waiting_ends_when_the_metric_was_scraped() -> None:
    asked: list[str] = []

    def answer(url: str) -> httpx.Response:
        asked.append(url)
        return httpx.Response(200, json={"data": {"result": [1] if len(asked) > 1 else []}})

    await lookout(answer).wait_until_scraped("a_total")

    assert len(asked) == 2
    assert "count_over_time" in asked[0]
