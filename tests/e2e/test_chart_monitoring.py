"""The Helm chart's rules, dashboards and ServiceMonitor."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from chart import CHART, CPU, HELM, PRODUCTION, one, rendered
from chart_values import ALL_ON
from foreign import run
from prometheus import prometheus
from real_server import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_the_service_monitor_finds_the_metrics_and_nothing_else(tmp_path: Path) -> None:
    objects = rendered(tmp_path, PRODUCTION, namespace="gates")
    spec = one(objects, "ServiceMonitor")["spec"]
    services = [each for each in objects if each["kind"] == "Service"]

    selected = [
        each for each in services if spec["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]

    assert [each["metadata"]["name"] for each in selected] == ["gate-sluicegate-metrics"]
    assert spec["endpoints"][0]["port"] == selected[0]["spec"]["ports"][0]["name"]
    assert spec["endpoints"][0]["relabelings"] == [{"targetLabel": "job", "replacement": "sluicegate-gates-gate"}]


def test_prometheus_is_told_how_to_log_in_where_the_endpoint_asks(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, ALL_ON)

    (endpoint,) = one(objects, "ServiceMonitor")["spec"]["endpoints"]

    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {
        "serverName": "gate-metrics.example",
        "ca": {"configMap": {"name": "gate-ca", "key": "ca.crt"}},
        "cert": {"secret": {"name": "prometheus-client", "key": "tls.crt"}},
        "keySecret": {"name": "prometheus-client", "key": "tls.key"},
    }
    assert endpoint["basicAuth"] == {
        "username": {"name": "gate-scraper", "key": "username"},
        "password": {"name": "gate-scraper", "key": "password"},
    }


def test_the_rules_are_those_of_the_file_but_for_two_addresses(tmp_path: Path) -> None:
    spec = one(rendered(tmp_path, CPU, ALL_ON), "PrometheusRule")["spec"]
    text = (CHART / "files/rules.yaml").read_text()
    assert "https://runbooks.example/" in text
    assert "https://grafana.example/" in text
    expected = text.replace("https://runbooks.example", "https://wiki.example/runbooks")

    assert spec == yaml.safe_load(expected.replace("https://grafana.example", "https://grafana.corp.example"))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    with prometheus(tmp_path / "prometheus", {}, [tmp_path / "rules.yaml"]) as running:
        wait_for("all rules evaluated", lambda: all(rule["health"] == "ok" for rule in running.rules()))
        loaded = {rule["name"] for rule in running.rules()}
    assert loaded == {rule.get("alert") or rule["record"] for group in spec["groups"] for rule in group["rules"]}


def test_each_dashboard_is_in_a_map_of_its_own_octet_by_octet(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, ALL_ON)

    maps = [each for each in objects if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]

    found = {name: text for each in maps for name, text in each["data"].items()}
    files = {f"sluicegate-{path.name}": path.read_text() for path in (CHART / "files/dashboards").glob("*.json")}
    assert found == files
    assert len(maps) == len(files) >= 4
    assert all(each["metadata"]["annotations"] == {"grafana_folder": "Sluicegate"} for each in maps)


def test_without_asking_there_is_no_monitoring(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, arguments=())

    assert {each["kind"] for each in objects} == {
        *("ServiceAccount", "ConfigMap", "Service", "StatefulSet", "PodDisruptionBudget", "Pod")
    }
    assert not [each for each in objects if "grafana_dashboard" in each["metadata"]["labels"]]


def test_the_package_has_the_rules_and_dashboards_and_no_examples(tmp_path: Path) -> None:
    packed = run(HELM, "package", CHART, "--destination", tmp_path, home=tmp_path)
    assert packed.returncode == 0, packed.stderr
    (archive,) = tmp_path.glob("*.tgz")

    shown = run("tar", "--list", "--file", archive).stdout.split()

    assert "sluicegate/files/rules.yaml" in shown
    assert "sluicegate/values.schema.json" in shown
    assert not [name for name in shown if "examples" in name]
