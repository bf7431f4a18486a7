"""The Helm chart as Helm makes objects of it, and what Kubernetes' schemas say of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from foreign import ROOT, run

CHART = ROOT / "helm/sluicegate"
EXAMPLES = CHART / "examples"
HELM = ROOT / ".tools/helm/helm"
KUBERNETES_VALIDATE = ROOT / ".tools/venv/bin/kubernetes-validate"
JSONSCHEMA = ROOT / ".tools/venv/bin/jsonschema"
CUSTOM = {
    "ServiceMonitor": Path(__file__).with_name("service_monitor.schema.json"),
    "PrometheusRule": Path(__file__).with_name("prometheus_rule.schema.json"),
}
"""Kinds that Kubernetes does not bring: what of them the chart uses, after the operator's own definitions."""
CPU, REDIS = EXAMPLES / "cpu.yaml", EXAMPLES / "replicas-redis.yaml"
OPERATOR = ("--api-versions", "monitoring.coreos.com/v1")

Document = dict[str, Any]
Values = Mapping[str, Any]


def template(
    directory: Path, *values: Path | Values, arguments: Sequence[str] = (), namespace: str = "default"
) -> subprocess.CompletedProcess[str]:
    """`helm template gate` with these values, later ones over earlier ones."""
    files = []
    for number, each in enumerate(values):
        path = each if isinstance(each, Path) else directory / f"values-{number}.yaml"
        if not isinstance(each, Path):
            path.write_text(yaml.safe_dump(dict(each), sort_keys=False))
        files += ["--values", str(path)]
    return run(HELM, "template", "gate", CHART, "--namespace", namespace, *files, *arguments, home=directory)


def rendered(
    directory: Path, *values: Path | Values, arguments: Sequence[str] = OPERATOR, namespace: str = "default"
) -> list[Document]:
    """The objects. By default the cluster has the Prometheus operator."""
    made = template(directory, *values, arguments=arguments, namespace=namespace)
    assert made.returncode == 0, made.stderr
    return [document for document in yaml.safe_load_all(made.stdout) if document]


def refused(directory: Path, *values: Path | Values, arguments: Sequence[str] = OPERATOR) -> str:
    """What Helm says against the values."""
    made = template(directory, *values, arguments=arguments)
    assert made.returncode != 0, made.stdout
    assert made.stdout == ""
    return made.stderr


def one(objects: Sequence[Document], kind: str, suffix: str = "") -> Document:
    """The one object of this kind whose name ends so."""
    (found,) = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
    return found


def objections(directory: Path, objects: Sequence[Document]) -> list[str]:
    """What the schemas have against the objects: Kubernetes' own, strictly, or ours. So is a kind without a schema."""
    found = []
    for number, each in enumerate(objects):
        path = directory / f"object-{number}.json"
        path.write_text(json.dumps(each))
        if (schema := CUSTOM.get(each["kind"])) is not None:
            checked = run(JSONSCHEMA, "--instance", path, schema, home=directory)
        else:
            checked = run(KUBERNETES_VALIDATE, "--strict", path, home=directory)
        said = checked.stdout + checked.stderr
        if checked.returncode != 0 or "Couldn't find schema" in said:
            found.append(f"{each['kind']}: {said}")
    return found


def pod(objects: Sequence[Document]) -> Document:
    """The spec of the replicas' pods."""
    spec: Document = one(objects, "StatefulSet")["spec"]["template"]["spec"]
    return spec


def server(objects: Sequence[Document]) -> Document:
    """The container of such a pod."""
    (container,) = pod(objects)["containers"]
    found: Document = container
    return found


def settings_text(objects: Sequence[Document]) -> str:
    """The settings file."""
    text: str = one(objects, "ConfigMap", "-settings")["data"]["sluicegate.yaml"]
    return text
