"""A real Prometheus that scrapes a real server: every panel, rule and runbook asks it something that it can answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deployment import EVAL_TEAM, LAB_APP, Deployment
from evidence_files import bias, write
from prometheus import Alert, Prometheus, asked, prometheus
from real_server import RealServer, real_server, wait_for

from sluicegate.auth import create_signing_key
from sluicegate.client import (
    AccessDenied,
    AuthenticationFailed,
    Client,
    FindingKind,
    FindingSeverity,
    GenerationConfig,
    QuotaExceeded,
)
from tools.scaled_rules import scaled_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "helm/sluicegate/files"
RULES = FILES / "rules.yaml"
RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
DASHBOARDS = ("service", "release", "partners", "misuse")
SCALE = 60
QUIET = {
    "service": {
        "Failed calls",  # a share of the calls in five minutes, which are five seconds here
        "Errors by code",  # none of the server's fault
        "Early ends of generations",  # all ended by their own limits
        "Streams",  # none is under way when it is asked
    },
    "release": {
        "Withdrawals by kind",  # nothing is withdrawn
        "Failures of the audit log",
    },
    "partners": {
        "Streams by partner",
        "Early ends of generations",
    },
    "misuse": {
        "Alerts that fire",
        "Alerts over time",
        "Near-duplicates among prompts",
        "Near-duplicates among outputs",
        "Campaigns",
        "Different prompts in a day",
        "Prompts and duplicates",
        "Outputs and duplicates",
        "Networks of one token",
        "Outside agreed hours",
        "Personal data in outputs",
        "Personal data by type",
        "Personal data taken out",
        "Flagged words by category",
        "Outputs that look memorised",
        "Texts not looked at",
    },
}
"""Panels that may be empty after the traffic below."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A server that has had mixed traffic, and the Prometheus that saw it."""

    server: RealServer
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("watched")
    deployment = Deployment(directory / "files")
    quotas = {
        "requests_per_minute": 1,
        "output_tokens_per_day": 1_000,
    }  # what a minute used may be over before it shows
    deployment.add_agreement("agr-small-lab", "small-app", partner="small-lab", models=["demo-s"], quotas=quotas)
    weights = deployment.release()["models"]["demo-xs"]["weights_sha256"]
    write(deployment.release_file.parent / "evidence", "bias.json", bias("demo-xs", weights=weights))
    fast = directory / "fast.yaml"
    fast.write_text(scaled_rules(RULES.read_text(encoding="utf-8"), SCALE))
    with real_server(deployment) as server:
        address = server.metrics_url.removeprefix("http://").removesuffix("/metrics")
        with prometheus(directory / "prometheus", {"sluicegate": [address]}, [fast]) as running:
            running.wait_for_scrapes()
            asyncio.run(traffic(server))
            running.wait_for_scrapes()
            yield Watched(server, running)


async def traffic(server: RealServer) -> None:
    """Calls of the public, a partner and the operator; some denied for each kind of reason."""
    config = GenerationConfig(max_output_tokens=12, ignore_eos=True)
    for who, models in (
        (server.token(), ["demo-xs"]),
        (server.token(LAB_APP), ["demo-s"]),
        (server.token(EVAL_TEAM), ["demo-next"]),
    ):
        async with Client(server.address, token=who) as client:
            for model in models:
                await asyncio.gather(*(client.generate(model, f"It was the {at}th", config) for at in range(4)))
                await client.score(model, "It was a dark and stormy night.")
    async with Client(server.address, token=server.token()) as client:
        with pytest.raises(AccessDenied):
            await client.generate("demo-next", "It was")
        with pytest.raises(AccessDenied):
            await client.generate("no-such-model", "It was")
    async with Client(server.address, token=server.token(scopes=("score:demo-xs",))) as client:
        with pytest.raises(AccessDenied):
            await client.generate("demo-xs", "It was")
    async with Client(server.address, token=server.token(key=create_signing_key(key_id="first"))) as client:
        with pytest.raises(AuthenticationFailed):
            await client.generate("demo-xs", "It was")
    async with Client(server.address, token=server.token(LAB_APP, scopes=("findings:write",))) as client:
        await client.create_finding("demo-s", FindingKind.OTHER, FindingSeverity.LOW, "It rhymes without being asked.")
    async with Client(server.address, token=server.token(scopes=("detect:watermark",))) as client:
        await client.detect_text("It was a dark and stormy night.")
    async with Client(server.address, token=server.token("small-app")) as client:
        await client.generate("demo-s", "It was", config)
        with pytest.raises(QuotaExceeded):
            await client.generate("demo-s", "It was", config)


def panels(name: str) -> Iterator[dict[str, Any]]:
    whole = json.loads((FILES / f"dashboards/{name}.json").read_text(encoding="utf-8"))
    for entry in whole["panels"]:
        yield from (panel for panel in (entry, *entry.get("panels", [])) if panel["type"] != "row")


def test_server_is_scraped_in_peace(watched: Watched) -> None:
    (target,) = watched.prometheus.targets()

    assert (target["health"], target["lastError"]) == ("up", "")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_of_every_panel_is_answered(watched: Watched, name: str) -> None:
    queries = [asked(target["expr"]) for panel in panels(name) for target in panel["targets"]]

    for query in queries:
        watched.prometheus.query(query)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_show_what_happened(watched: Watched, name: str) -> None:
    def empty() -> set[str]:
        return {
            panel["title"]
            for panel in panels(name)
            if not any(watched.prometheus.has(asked(target["expr"])) for target in panel["targets"])
        }

    wait_for(f"only {sorted(QUIET[name])} empty", lambda: empty() <= QUIET[name])


def test_variables_of_the_dashboards_have_values(watched: Watched) -> None:
    prometheus = watched.prometheus

    assert prometheus.query("count by (job) (sluicegate_policy_info)")[0].labels == {"job": "sluicegate"}
    partners = {
        sample.labels["partner"] for sample in prometheus.query("count by (partner) (sluicegate_requests_total)")
    }
    models = {sample.labels["model"] for sample in prometheus.query("count by (model) (sluicegate_model_ready)")}
    assert partners == {"public", "internal", "other", "example-lab", "small-lab"}
    assert {"demo-xs", "demo-s", "demo-next"} <= models


def test_every_rule_is_evaluated_without_an_error(watched: Watched) -> None:
    wait_for("all rules evaluated", lambda: all(rule["health"] != "unknown" for rule in watched.prometheus.rules()))

    faults = {rule["name"]: rule.get("lastError") for rule in watched.prometheus.rules() if rule["health"] != "ok"}

    assert faults == {}


def test_honest_traffic_and_a_few_mistakes_raise_no_alert(watched: Watched) -> None:
    watched.prometheus.wait_for_scrapes(12)

    assert watched.prometheus.firing() == frozenset()


def test_recorded_tokens_are_those_of_the_traffic(watched: Watched) -> None:
    tokens = 'sum by (partner) (sluicegate_tokens_total{partner="example-lab", direction="output"})'

    assert watched.prometheus.value(tokens) == 4 * 12
    assert watched.prometheus.has('job_partner:sluicegate_tokens:increase1h{partner="example-lab"}')


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_every_question_of_a_runbook_is_answered(watched: Watched, runbook: Path) -> None:
    (block,) = re.findall(r"^```promql\n(.*?)^```", runbook.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

    for query in block.splitlines():
        watched.prometheus.query(query)


def test_a_server_that_is_gone_pages(tmp_path: Path) -> None:
    """The whole way once: from a target that does not answer to words that a person reads."""
    fast = tmp_path / "fast.yaml"
    fast.write_text(scaled_rules(RULES.read_text(encoding="utf-8"), SCALE))

    with prometheus(tmp_path / "prometheus", {"sluicegate": ["127.0.0.1:9"]}, [fast]) as running:

        def fired() -> list[Alert]:
            # Before the first scrape it fires too, for want of any server, and names none.
            return [each for each in running.alerts() if each.is_firing and "job" in each.labels]

        (alert,) = wait_for("ServerDown fires", fired)

    assert alert.name == "ServerDown"
    assert alert.labels == {"job": "sluicegate", "severity": "page", "area": "service"}
    assert alert.annotations["description"].startswith("Prometheus reaches no replica of sluicegate.")
