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
CUSTOM_RESOURCES = Path(__file__).with_name("custom_resources.mjs")
KUBERNETES = ("1.27", "1.32", "1.37")
"""Versions whose schemas the objects must fit: the oldest that Chart.yaml allows, the newest, and one between."""
CPU, GPU, PRODUCTION, ENVOY = (EXAMPLES / f"{name}.yaml" for name in ("cpu", "gpu", "production", "envoy"))
CUSTOM_GROUPS = ("monitoring.coreos.com", "keda.sh", "gateway.networking.k8s.io")
"""Groups of the kinds that Kubernetes does not bring."""
ALL_APIS = (
    *("--api-versions", "monitoring.coreos.com/v1"),
    *("--api-versions", "keda.sh/v1alpha1"),
    *("--api-versions", "gateway.networking.k8s.io/v1"),
)

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
    directory: Path, *values: Path | Values, arguments: Sequence[str] = ALL_APIS, namespace: str = "default"
) -> list[Document]:
    """The objects. By default the cluster has the Prometheus operator, KEDA and the Gateway API."""
    made = template(directory, *values, arguments=arguments, namespace=namespace)
    assert made.returncode == 0, made.stderr
    return [document for document in yaml.safe_load_all(made.stdout) if document]


def refused(directory: Path, *values: Path | Values, arguments: Sequence[str] = ALL_APIS) -> str:
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
    """What is wrong with the objects, after the strict schemas of each Kubernetes or what their projects publish.

    A field that is not known there is wrong, and so is a kind.
    """
    custom = [each for each in objects if each["apiVersion"].partition("/")[0] in CUSTOM_GROUPS]
    own = [each for each in objects if each not in custom]
    found = []
    if own:
        path = directory / "objects.yaml"
        path.write_text(yaml.safe_dump_all(own))
        versions = [f"--kubernetes-version={version}" for version in KUBERNETES]
        checked = run(KUBERNETES_VALIDATE, "--strict", "--quiet", *versions, path, home=directory)
        found += (checked.stdout + checked.stderr).splitlines()
        assert checked.returncode == 0 or found, "a failure says what it is"
    if custom:
        path = directory / "custom.json"
        path.write_text(json.dumps(custom))
        checked = run("node", CUSTOM_RESOURCES, path)
        assert checked.returncode == 0, checked.stderr
        found += json.loads(checked.stdout)
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
