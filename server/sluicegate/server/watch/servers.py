"""What is known of each server from the pages it has shown: the latest, and what its counters did between two."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from sluicegate.server.observe.reading import Labels, Samples

WINDOW_SECONDS = 10.0
"""Rates are over so long, or over the last two scrapes if these are further apart."""
COUNTED_SINCE = (
    "sluicegate_pii_found_total",
    "sluicegate_flagged_lexicon_total",
    "sluicegate_offhours_requests_total",
    "sluicegate_memorisation_suspects_total",
)
"""Rare events: as a rate they would be gone before anybody looks, so they are counted since watching began."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """A page with when it was read, in monotonic seconds."""

    at: float
    samples: Samples


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two scrapes of one server."""

    before: Scrape
    after: Scrape

    @property
    def seconds(self) -> float:
        return self.after.at - self.before.at

    def increases(self, name: str) -> Iterator[tuple[Labels, float]]:
        """By how much each series of a counter grew, never less than 0.

        A process that was started anew counts from 0, and so does a series that is new. Its last counts before the
        restart are lost, as they are to Prometheus.
        """
        before, after = self.before.samples, self.after.samples
        earlier = before.of(name) if before.started == after.started else {}
        for labels, value in after.of(name).items():
            old = earlier.get(labels, 0.0)
            grown = value - old if value >= old else value
            if math.isfinite(grown) and grown >= 0:
                yield labels, grown


class Server:
    """One server that is watched."""

    def __init__(self, url: httpx.URL) -> None:
        self.url = url
        self.problem: str | None = "not asked yet"
        """Why its latest page is not there; None if it is."""
        self.has_answered = False
        self.counted: Counter[tuple[str, Labels]] = Counter()
        """Increases of COUNTED_SINCE since watching began."""
        self._scrapes: deque[Scrape] = deque()

    @property
    def name(self) -> str:
        port = "" if self.url.port is None else f":{self.url.port}"
        return f"{self.url.host}{port}"

    @property
    def samples(self) -> Samples | None:
        """The latest page; None while there is a problem, since an old one says nothing about now."""
        return self._scrapes[-1].samples if self._scrapes and self.problem is None else None

    @property
    def interval(self) -> Interval | None:
        """What rates are made of; None before the second page and while there is a problem."""
        if len(self._scrapes) < 2 or self.problem is not None:
            return None
        return Interval(self._scrapes[0], self._scrapes[-1])

    def take(self, scrape: Scrape) -> None:
        """Take its newest page."""
        self.problem, self.has_answered = None, True
        if self._scrapes:
            last = Interval(self._scrapes[-1], scrape)
            for name in COUNTED_SINCE:
                for labels, grown in last.increases(name):
                    self.counted[name, labels] += grown  # type: ignore[assignment]  # counts are floats on the wire
            if last.before.samples.started != scrape.samples.started:
                # Rates over a restart would count what the new process did as if it took the whole window.
                self._scrapes = deque([self._scrapes[-1]])
        self._scrapes.append(scrape)
        while len(self._scrapes) > 2 and self._scrapes[1].at <= scrape.at - WINDOW_SECONDS:
            self._scrapes.popleft()

    def fail(self, problem: str) -> None:
        """It has shown no page this time."""
        self.problem = problem
