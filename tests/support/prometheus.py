"""A real Prometheus on loopback, which scrapes servers at short intervals and evaluates rules."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from real_server import WAIT_SECONDS, wait_for
from redis_server import free_port

INTERVAL = "500ms"
"""Between two scrapes, and between two evaluations of rules: with rules sixty times as fast, 30 s of true life."""


VARIABLES = {
    "$__rate_interval": "5m",
    "$__range": "5m",
    "$__interval": "1s",
    "$job": "sluicegate",
    "$partner": ".*",
    "$model": ".*",
}
"""What Grafana would put in for the variables of a dashboard."""


def asked(query: str, **others: str) -> str:
    """A panel's query as Grafana would send it, with other values for some variables."""
    for variable, value in {**VARIABLES, **{f"${name}": value for name, value in others.items()}}.items():
        query = query.replace(variable, value)
    assert "$" not in re.sub(r'"\$1"', "", query), query
    return query


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of an instant query."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is pending or firing, as Prometheus has it."""

    name: str
    is_firing: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    """As a person would read them."""


class Prometheus:
    """A process that runs already."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=WAIT_SECONDS)

    def close(self) -> None:
        self._client.close()

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """The samples of an expression now, or at a Unix time. A scalar is one sample without labels.

        Fails the test with Prometheus' own words if the expression is wrong.
        """
        answer = self._get("/api/v1/query", {"query": expression} | ({} if at is None else {"time": str(at)}))
        if answer["resultType"] == "scalar":
            return [Sample({}, float(answer["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in answer["result"]]

    def has(self, expression: str) -> bool:
        """Whether an expression has a sample that is a number."""
        return any(not math.isnan(sample.value) for sample in self.query(expression))

    def value(self, expression: str) -> float:
        """The one sample of an expression."""
        (sample,) = self.query(expression)
        return sample.value

    def alerts(self) -> list[Alert]:
        """All alerts that are pending or firing."""
        return [
            Alert(
                each["labels"]["alertname"],
                each["state"] == "firing",
                {name: value for name, value in each["labels"].items() if name != "alertname"},
                each["annotations"],
            )
            for each in self._get("/api/v1/alerts")["alerts"]
        ]

    def firing(self) -> frozenset[str]:
        """The names of the alerts that fire."""
        return frozenset(alert.name for alert in self.alerts() if alert.is_firing)

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with their health and what last went wrong."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes, with each one's health."""
        return list(self._get("/api/v1/targets")["activeTargets"])

    def wait_for_scrapes(self, count: int = 3) -> None:
        """Wait until each target was scraped so many times more: what was counted before is in all ranges then."""
        scrapes = 'sum by (job, instance) (count_over_time(up{job!=""}[1h]))'
        before = {_target(sample): sample.value for sample in self.query(scrapes)}

        def all_moved() -> bool:
            now = self.query(scrapes)
            return bool(now) and all(each.value >= before.get(_target(each), 0) + count for each in now)

        wait_for(f"{count} scrapes", all_moved)

    def _get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        response = self._client.post(path, data=parameters) if parameters else self._client.get(path)
        body = response.json()
        assert body["status"] == "success", f"{parameters}: {body.get('error')}"
        return body["data"]


@contextmanager
def prometheus(
    directory: Path,
    targets: Mapping[str, Sequence[str]],
    rules: Sequence[Path] = (),
    *,
    interval: str = INTERVAL,
) -> Iterator[Prometheus]:
    """A Prometheus of its own directory, ended and waited for with the context.

    `targets`: for each job the `host:port`s whose /metrics are scraped.
    """
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is not installed: run `make e2e`"
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(_config(targets, rules, interval)))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
        "--query.lookback-delta=30s",
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    running = Prometheus(f"http://{address}")
    try:
        wait_for("Prometheus ready", lambda: process.poll() is not None or running.is_ready())
        assert process.poll() is None, f"Prometheus ended: {log.read_text()[-4_000:]}"
        yield running
    finally:
        running.close()
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _target(sample: Sample) -> tuple[str, str]:
    return sample.labels["job"], sample.labels["instance"]


def _config(targets: Mapping[str, Sequence[str]], rules: Sequence[Path], interval: str) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(path.resolve()) for path in rules],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }
