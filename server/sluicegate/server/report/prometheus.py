"""Asks a Prometheus for what logs cannot know, through its HTTP API. It may be an impostor: what it says is checked.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from sluicegate.auth.encoding import parse_json
from sluicegate.server.errors import PageUnusable
from sluicegate.server.fetching import fetch_page

MAX_ANSWER_BYTES = 64 << 20
MAX_SERIES = 10_000
PATIENCE_SECONDS = 120.0
"""Prometheus gives up on a query after two minutes."""
MAX_POINTS = 10_000
"""Of a range: Prometheus refuses more than 11,000 a series."""
_MAX_LABEL_CHARS = 255

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: Unix seconds and values."""

    labels: Labels
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """A Prometheus at a URL, which may have a path before `/api/v1`."""

    def __init__(self, client: httpx.AsyncClient, url: httpx.URL) -> None:
        self._client = client
        self._url = url

    async def at(self, query: str, time: float) -> list[Series]:
        """The value of a query at a time, in Unix seconds. Raises PageError."""
        result = await self._ask("query", {"query": query, "time": f"{time:.3f}"}, "vector")
        return [_series(entry, [_member(entry, "value")]) for entry in result]

    async def over(self, query: str, start: float, end: float, step: float) -> list[Series]:
        """The values from `start` to `end`, both included; in one question, so with few enough. Raises PageError."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        result = await self._ask("query_range", {"query": query, **times}, "matrix")
        return [_series(entry, _member(entry, "values")) for entry in result]

    async def _ask(self, endpoint: str, parameters: Mapping[str, str], kind: str) -> list[object]:
        url = self._url.copy_with(path=f"{self._url.path.rstrip('/')}/api/v1/{endpoint}")
        body = await fetch_page(
            self._client,
            url,
            accept="application/json",
            limit_bytes=MAX_ANSWER_BYTES,
            limit_seconds=PATIENCE_SECONDS,
            parameters=parameters,
        )
        try:
            answer = parse_json(body)
        except ValueError:
            raise PageUnusable("answered no JSON: is it a Prometheus?") from None
        data = answer.get("data") if isinstance(answer, dict) and answer.get("status") == "success" else None
        result = data.get("result") if isinstance(data, dict) and data.get("resultType") == kind else None
        if not isinstance(result, list) or len(result) > MAX_SERIES:
            raise PageUnusable("answered what a Prometheus does not")
        return result


def _member(entry: object, name: str) -> object:
    return entry.get(name) if isinstance(entry, dict) else None


def _series(entry: object, points: object) -> Series:
    labels = _member(entry, "metric")
    if not isinstance(labels, dict) or not isinstance(points, list):
        raise PageUnusable("answered what a Prometheus does not")
    known = {str(name): str(value)[:_MAX_LABEL_CHARS] for name, value in labels.items()}
    return Series(known, tuple(_point(each) for each in points))


def _point(point: object) -> tuple[float, float]:
    match point:
        case [int() | float() as time, str() as text]:
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            return float(time), value
        case _:
            raise PageUnusable("answered what a Prometheus does not")
