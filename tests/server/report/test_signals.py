from __future__ import annotations

import json
import re
from collections.abc import Mapping

import httpx
from report_logs import PERIOD, START

from sluicegate.server.fetching import Access, open_client
from sluicegate.server.report.figures import AlertRow, SignalRow, Signals
from sluicegate.server.report.period import Period
from sluicegate.server.report.prometheus import Prometheus
from sluicegate.server.report.signals import ask_signals
from sluicegate.server.report.suppression import Figure

ALERT = {"alertname": "TemplateCampaign", "area": "misuse", "severity": "page"}


class FakePrometheus(httpx.AsyncBaseTransport):
    """Answers with counts by metric, with alerts by the minute, and with the hours that it knows of."""

    def __init__(self) -> None:
        self.counts: dict[str, list[tuple[Mapping[str, str], str]]] = {}
        self.firing: list[tuple[Mapping[str, str], list[int]]] = []
        self.latest: list[Mapping[str, str]] = []
        """Those that fire from after the last whole minute on."""
        self.known_hours: set[int] | None = None
        self.ranges: list[tuple[float, float, float]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = dict(request.url.params)
        result: list[object] = []
        if request.url.path.endswith("/query"):
            kind = "vector"
            [metric] = re.findall(r"increase\((\w+)\[(?:\d+)s\]\)", asked["query"])
            assert float(asked["time"]) == START + 7 * 86_400
            result = [{"metric": labels, "value": [0, value]} for labels, value in self.counts.get(metric, [])]
        else:
            kind = "matrix"
            start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
            self.ranges.append((start, end, step))
            if asked["query"].startswith("ALERTS"):
                for labels, minutes in self.firing:
                    times = [START + 60 * minute for minute in minutes if start <= START + 60 * minute <= end]
                    result += [{"metric": labels, "values": [[time, "1"] for time in times]}] if times else []
                if end > START + 7 * 86_400 - 60 and start == end:
                    result += [{"metric": labels, "values": [[end, "1"]]} for labels in self.latest]
            else:
                hours = range(round((start - START) / 3600), round((end - START) / 3600) + 1)
                known = [hour for hour in hours if self.known_hours is None or hour in self.known_hours]
                result = [{"metric": {}, "values": [[START + 3600 * hour, "2"] for hour in known]}]
        body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))


async def asked(fake: FakePrometheus, period: Period = PERIOD) -> Signals:
    async with open_client(Access(), transport=fake) as client:
        return await ask_signals(Prometheus(client, httpx.URL("http://prometheus:9090")), period)


async def test_counts_are_rounded_and_those_that_may_be_small_withheld() -> None:
    fake = FakePrometheus()
    fake.counts["sluicegate_prompt_duplicates_total"] = [
        ({"partner": "lab"}, "41.7"),
        ({"partner": "uni"}, "3.2"),
        ({"partner": "college"}, "5.4"),
        ({"partner": "school"}, "0.3"),
        ({"partner": "clinic"}, "6.0"),
        ({"partner": "newsroom"}, "0"),
        ({"partner": "broken"}, "NaN"),
    ]
    fake.counts["sluicegate_pii_found_total"] = [({"type": "email"}, "9")]

    signals = await asked(fake)

    assert signals.prompt_duplicates == (
        SignalRow("clinic", Figure(6)),
        SignalRow("college", Figure(0, 1)),
        SignalRow("lab", Figure(42)),
        SignalRow("newsroom", Figure(0)),
        SignalRow("school", Figure(0, 1)),
        SignalRow("uni", Figure(0, 1)),
    )
    assert signals.personal_data == (SignalRow("email", Figure(9)),)
    assert signals.gaps == ()


async def test_an_alert_that_pauses_was_raised_twice_and_two_at_once_are_two() -> None:
    fake = FakePrometheus()
    fake.firing = [
        ({**ALERT, "partner": "lab"}, [10, 11, 12, 40, 41]),
        ({**ALERT, "partner": "uni"}, [11]),
        ({"alertname": "AuditStopped", "area": "control", "severity": "page"}, [5]),
    ]

    signals = await asked(fake)

    assert signals.alerts == (
        AlertRow("AuditStopped", "control", "page", 1, 1),
        AlertRow("TemplateCampaign", "misuse", "page", 3, 6),
    )


async def test_an_alert_over_the_edge_of_a_question_was_raised_once() -> None:
    fake = FakePrometheus()
    fake.firing = [(ALERT, [9_998, 9_999, 10_000, 10_001])]

    signals = await asked(fake)

    assert [(row.times, row.minutes) for row in signals.alerts] == [(1, 4)]
    assert all((end - start) / step < 11_000 for start, end, step in fake.ranges)


async def test_an_alert_that_still_fires_at_the_end_is_found_however_late_it_came() -> None:
    fake = FakePrometheus()
    minutes = 7 * 24 * 60
    fake.firing = [(ALERT, [minutes - 2, minutes - 1])]
    fake.latest = [({**ALERT, "partner": "uni"})]

    signals = await asked(fake)

    assert signals.alerts == (AlertRow("TemplateCampaign", "misuse", "page", 2, 3),)


async def test_hours_that_it_knows_nothing_of_are_told() -> None:
    fake = FakePrometheus()
    fake.known_hours = set(range(1, 101))
    fake.counts["sluicegate_signals_dropped_total"] = [({}, "12")]

    signals = await asked(fake)

    first, second = signals.gaps
    assert first.startswith("Prometheus has nothing of any server in 68 of 168 stretches of 60 minutes")
    assert second.startswith("Some prompts or outputs were not looked at")
