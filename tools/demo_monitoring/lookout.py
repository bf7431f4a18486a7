"""What Prometheus, Alertmanager and the inbox say, looked at again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import httpx

from tools.demo_monitoring.errors import ProgramLost
from tools.demo_monitoring.inbox import Told

SERVICE = "service"
"""The area of alerts that are about the machine here, not about callers."""


SCRAPED_SECONDS = 30.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert, and the partner that it names; None if it names none."""

    name: str
    partner: str | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Sighting:
    """When an alert was first seen to fire, on the lookout's clock in seconds, and what a person reads of it."""

    at_seconds: float
    severity: str
    area: str
    summary: str


@dataclass(slots=True)
class Board:
    """All that was seen so far. `told`: the receiver of the message; `kept_back`: silent since another says it."""

    pending: set[Alert] = field(default_factory=set)
    firing: dict[Alert, Sighting] = field(default_factory=dict)
    told: dict[Alert, str] = field(default_factory=dict)
    kept_back: set[Alert] = field(default_factory=set)


class Lookout:
    """Looks at the programs at these URLs. `look` is called in turns, never twice at a time."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        prometheus: str,
        alertmanager: str,
        messages: SimpleQueue[Told],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._messages = messages
        self._clock = clock
        self.board = Board()

    async def look(self) -> list[str]:
        """Renew the board; gives the news, each a sentence. Raises ProgramLost."""
        answer = await self._get(f"{self._prometheus}/api/v1/alerts")
        news = self._note_prometheus(answer["data"]["alerts"])
        news += self._note_messages()
        answer = await self._get(f"{self._alertmanager}/api/v2/alerts")
        return news + self._note_alertmanager(answer)

    async def wait_until_scraped(self, metric: str) -> None:
        """Wait until Prometheus has had a metric of the server twice: all that is counted from then on is seen.

        Raises ProgramLost.
        """
        question = {"query": f"min(count_over_time({metric}[1m])) > 1"}
        for _ in range(round(SCRAPED_SECONDS / _POLL_SECONDS)):
            answer = await self._get(f"{self._prometheus}/api/v1/query", question)
            if answer["data"]["result"]:
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise ProgramLost(f"{self._prometheus} did not get {metric} within {SCRAPED_SECONDS:.0f} s")

    def _note_prometheus(self, alerts: list[Mapping[str, Any]]) -> list[str]:
        news = []
        for each in alerts:
            labels: Mapping[str, str] = each["labels"]
            alert = _alert(labels)
            if each["state"] == "firing" and alert not in self.board.firing:
                summary = each["annotations"].get("summary", "")
                sighting = Sighting(self._clock(), labels["severity"], labels["area"], summary)
                self.board.firing[alert] = sighting
                news.append(f"Prometheus: {alert} fires ({sighting.severity}): {summary}")
            elif each["state"] == "pending" and alert not in self.board.pending:
                self.board.pending.add(alert)
                news.append(f"Prometheus: {alert} is pending")
        return news

    def _note_messages(self) -> list[str]:
        news: list[str] = []
        while True:
            try:
                told = self._messages.get_nowait()
            except Empty:
                return news
            alert = Alert(told.name, told.partner)
            if alert not in self.board.told:
                self.board.told[alert] = told.receiver
                news.append(f"Alertmanager tells {told.receiver}: {told.summary}")

    def _note_alertmanager(self, alerts: list[Mapping[str, Any]]) -> list[str]:
        news = []
        for each in alerts:
            alert = _alert(each["labels"])
            if each["status"]["inhibitedBy"] and alert not in self.board.kept_back:
                self.board.kept_back.add(alert)
                news.append(f"Alertmanager keeps {alert} to itself: another alert says it already")
        return news

    async def _get(self, url: str, parameters: Mapping[str, str] | None = None) -> Any:
        try:
            response = await self._client.get(url, params=parameters)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProgramLost(f"{url}: {error}") from error


def _alert(labels: Mapping[str, str]) -> Alert:
    return Alert(labels["alertname"], labels.get("partner"))
