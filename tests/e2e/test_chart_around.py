"""What the Helm chart puts around the replicas: autoscaling, budgets, routes, network policies, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import CPU, GPU, PRODUCTION, Document, one, pod, rendered, server
from chart_values import ALL_ON, HPA
from foreign import run

from sluicegate.server.observe.metrics import Metrics

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DNS: Document = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}


def replica_labels(objects: list[Document]) -> dict[str, str]:
    labels: dict[str, str] = one(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    return labels


def gauges() -> set[str]:
    """The names of the server's gauges."""
    return {family.name for family in Metrics().registry.collect() if family.type == "gauge"}


@pytest.mark.parametrize(("kind", "values"), [("HorizontalPodAutoscaler", HPA), ("ScaledObject", {})])
def test_an_autoscaler_has_the_number_of_replicas_to_itself(tmp_path: Path, kind: str, values: Document) -> None:
    objects = rendered(tmp_path, PRODUCTION, values)
    stateful_set = one(objects, "StatefulSet")

    target = one(objects, kind)["spec"]["scaleTargetRef"]

    assert "replicas" not in stateful_set["spec"]
    assert target == {
        "apiVersion": stateful_set["apiVersion"],
        "kind": stateful_set["kind"],
        "name": stateful_set["metadata"]["name"],
    }
    assert len([each for each in objects if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]) == 1


def test_an_autoscaler_of_pods_asks_for_what_the_server_exports(tmp_path: Path) -> None:
    spec = one(rendered(tmp_path, CPU, ALL_ON, HPA), "HorizontalPodAutoscaler")["spec"]

    asked = {each["pods"]["metric"]["name"]: each["pods"]["target"] for each in spec["metrics"]}

    assert asked == {
        "sluicegate_engine_queue_length": {"type": "AverageValue", "averageValue": "5"},
        "sluicegate_engine_sequences_running": {"type": "AverageValue", "averageValue": "6"},
    }
    assert asked.keys() <= gauges()
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 30)
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 0


def test_an_autoscaler_of_prometheus_asks_about_this_release(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, ALL_ON, namespace="gates")
    spec = one(objects, "ScaledObject")["spec"]
    (endpoint,) = one(objects, "ServiceMonitor")["spec"]["endpoints"]
    job = endpoint["relabelings"][0]["replacement"]

    queries = [trigger["metadata"]["query"] for trigger in spec["triggers"]]

    names = ("sluicegate_engine_queue_length", "sluicegate_engine_sequences_running")
    assert queries == [f'sum({name}{{job="{job}"}})' for name in names]
    assert set(names) <= gauges()
    rules = {"groups": [{"name": "scale", "rules": [{"record": f"r{at}", "expr": q} for at, q in enumerate(queries)]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    assert run("promtool", "check", "rules", tmp_path / "rules.yaml").returncode == 0
    for trigger in spec["triggers"]:
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert trigger["authenticationRef"] == {"name": "prometheus"}
    assert [trigger["metadata"]["threshold"] for trigger in spec["triggers"]] == ["5", "6"]


def test_without_an_autoscaler_the_number_counts_even_if_it_is_none(tmp_path: Path) -> None:
    assert one(rendered(tmp_path, CPU, {"replicas": 0}), "StatefulSet")["spec"]["replicas"] == 0


@pytest.mark.parametrize("away", [1, 0, "25%"])
def test_nodes_are_emptied_of_so_many_replicas_at_once(tmp_path: Path, away: Any) -> None:
    objects = rendered(tmp_path, CPU, {"podDisruptionBudget": {"maxUnavailable": away}})

    spec = one(objects, "PodDisruptionBudget")["spec"]

    assert spec["maxUnavailable"] == away
    assert spec["selector"]["matchLabels"].items() <= replica_labels(objects).items()


def test_a_route_leads_to_the_service_and_keeps_tls_on_the_way(tmp_path: Path) -> None:
    objects = rendered(tmp_path, PRODUCTION)
    services = {each["metadata"]["name"]: each["spec"]["ports"] for each in objects if each["kind"] == "Service"}

    (rule,) = one(objects, "GRPCRoute")["spec"]["rules"]

    (backend,) = rule["backendRefs"]
    assert backend["port"] in [port["port"] for port in services[backend["name"]]]
    (target,) = one(objects, "BackendTLSPolicy")["spec"]["targetRefs"]
    assert target["name"] == backend["name"]
    assert target["sectionName"] in [port["name"] for port in services[target["name"]]]
    assert one(objects, "BackendTLSPolicy")["spec"]["validation"]["hostname"] == "gate.example"


def test_without_tls_of_its_own_a_route_speaks_none(tmp_path: Path) -> None:
    values = {"gateway": {"enabled": True, "parentRefs": [{"name": "edge"}]}}

    kinds = [each["kind"] for each in rendered(tmp_path, CPU, values)]

    assert "GRPCRoute" in kinds
    assert "BackendTLSPolicy" not in kinds


def test_an_ingress_leads_every_host_to_the_service(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, ALL_ON)
    services = {each["metadata"]["name"]: each["spec"]["ports"] for each in objects if each["kind"] == "Service"}

    spec = one(objects, "Ingress")["spec"]

    assert [rule["host"] for rule in spec["rules"]] == ["gate.example", "*.gate.example"]
    assert spec["tls"] == [{"hosts": ["gate.example", "*.gate.example"], "secretName": "gate-edge-tls"}]
    for rule in spec["rules"]:
        (path,) = rule["http"]["paths"]
        service = path["backend"]["service"]
        assert service["port"]["name"] in [port["name"] for port in services[service["name"]]]


def test_only_those_who_are_named_reach_the_replicas_each_on_its_port(tmp_path: Path) -> None:
    objects = rendered(tmp_path, PRODUCTION)
    spec = one(objects, "NetworkPolicy")["spec"]
    values = yaml.safe_load(PRODUCTION.read_text())["networkPolicy"]

    callers, scrapers, test = spec["ingress"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["podSelector"]["matchLabels"].items() <= replica_labels(objects).items()
    assert (callers["from"], callers["ports"][0]["port"]) == (values["callers"], "grpc")
    assert (scrapers["from"], scrapers["ports"][0]["port"]) == (values["scrapers"], "metrics")
    assert test["ports"][0]["port"] == "health"
    (peer,) = test["from"]
    assert peer["podSelector"]["matchLabels"].items() <= one(objects, "Pod")["metadata"]["labels"].items()
    named = {port["name"] for port in server(objects)["ports"]}
    assert {rule["ports"][0]["port"] for rule in spec["ingress"]} <= named


def test_replicas_reach_names_issuers_and_redis_and_nothing_else(tmp_path: Path) -> None:
    spec = one(rendered(tmp_path, PRODUCTION), "NetworkPolicy")["spec"]
    values = yaml.safe_load(PRODUCTION.read_text())["networkPolicy"]

    assert spec["egress"] == [
        {"to": [DNS], "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
        {"to": values["issuers"]["peers"], "ports": [{"port": 443, "protocol": "TCP"}]},
        {"to": values["redis"]["peers"], "ports": [{"port": 6379, "protocol": "TCP"}]},
    ]


def test_a_rule_of_ones_own_opens_more(tmp_path: Path) -> None:
    spec = one(rendered(tmp_path, CPU, ALL_ON), "NetworkPolicy")["spec"]

    assert spec["egress"][-1] == ALL_ON["networkPolicy"]["egress"][0]
    assert [rule["ports"][0]["port"] for rule in spec["egress"]] == [53, 8443, 6380, 443]


def test_without_peers_a_rule_is_left_out_and_lets_nobody_in(tmp_path: Path) -> None:
    """A rule with an empty list of peers would let in everybody."""
    values: Document = {
        "networkPolicy": {"enabled": True, "callers": [{"podSelector": {}}], "dns": []},
        "settings": {"tokens": {"issuers": [{"issuer": "a", "audience": "b", "keys": {"file": "/etc/keys/a"}}]}},
    }

    spec = one(rendered(tmp_path, CPU, values), "NetworkPolicy")["spec"]

    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == ["grpc", "health"]
    assert spec["egress"] == []


@pytest.mark.parametrize("values", [(GPU,), (CPU, ALL_ON)], ids=["gpu", "all on"])
def test_weights_are_put_where_the_server_only_reads_them(tmp_path: Path, values: tuple[Any, ...]) -> None:
    spec = pod(rendered(tmp_path, *values))
    (fetching,) = [each for each in spec["initContainers"] if each["name"] == "weights"]

    (written,) = [mount for mount in fetching["volumeMounts"] if mount["name"] == "weights"]
    (read,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "weights"]

    assert written["mountPath"] == read["mountPath"] == "/models"
    assert not written.get("readOnly")
    assert read["readOnly"] is True
    (volume,) = [each for each in spec["volumes"] if each["name"] == "weights"]
    assert "emptyDir" in volume


def test_a_pod_with_a_gpu_waits_for_a_node_that_has_one(tmp_path: Path) -> None:
    objects = rendered(tmp_path, GPU)

    assert server(objects)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod(objects)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod(objects)["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod(objects)["runtimeClassName"] == "nvidia"


def test_evidence_may_be_on_a_volume_of_its_own(tmp_path: Path) -> None:
    claim = {"persistentVolumeClaim": {"claimName": "gate-evidence", "readOnly": True}}

    spec = pod(rendered(tmp_path, CPU, {"policy": {"evidenceVolume": claim}}))

    assert {"name": "evidence", **claim} in spec["volumes"]
