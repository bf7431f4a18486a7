"""The Helm chart: what Helm makes of it, under the eyes of Helm's lint and Kubernetes' schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml
from chart import (
    ALL_APIS,
    CHART,
    CPU,
    GPU,
    HELM,
    KUBERNETES,
    PRODUCTION,
    Document,
    objections,
    one,
    pod,
    rendered,
    server,
    settings_text,
)
from chart_values import ALL_ON, HPA
from foreign import run

from sluicegate.server.config import Settings
from sluicegate.server.settings_file import load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SECRETS = {"gate-audit", "gate-redis", "gate-tls", "gate-metrics-tls", "gate-operators-tls", "gate-scraper"}
EXAMPLES = {"cpu": CPU, "gpu": GPU, "production": PRODUCTION}
CUSTOM_KINDS = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "GRPCRoute", "BackendTLSPolicy"}
CASES = {**{name: (path,) for name, path in EXAMPLES.items()}, "all on": (CPU, ALL_ON), "hpa": (PRODUCTION, HPA)}


@pytest.fixture(params=CASES)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> list[Document]:
    """What each example becomes, and what becomes of values that switch everything on."""
    return rendered(tmp_path, *CASES[request.param])


def accepted(directory: Path, objects: list[Document]) -> Settings:
    """The settings as the server reads them."""
    path = directory / "sluicegate.yaml"
    path.write_text(settings_text(objects))
    return load_settings(path)


@pytest.mark.parametrize("values", [None, *EXAMPLES.values()], ids=["default", *EXAMPLES])
def test_lint_has_nothing_against_the_chart(values: Path | None) -> None:
    more: list[str | Path] = [] if values is None else ["--values", values]

    linted = run(HELM, "lint", "--strict", CHART, *more)

    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert "[WARNING]" not in linted.stdout


def test_every_object_fits_its_schema(objects: list[Document], tmp_path: Path) -> None:
    assert objections(tmp_path, objects) == []


def test_a_field_that_no_schema_knows_is_objected_to_in_every_kind(tmp_path: Path) -> None:
    objects = [each for each in rendered(tmp_path, CPU, ALL_ON) if "spec" in each]
    spoilt = copy.deepcopy(objects)
    for each in spoilt:
        each["spec"]["sesrvice"] = "misspelt"

    found = objections(tmp_path, spoilt)

    custom = [each for each in found if each.endswith("/spec/sesrvice: no such field")]
    assert len(custom) == len([each for each in objects if each["kind"] in CUSTOM_KINDS]) == len(CUSTOM_KINDS)
    assert len([each for each in found if "'sesrvice' was unexpected" in each]) == len(KUBERNETES) * (
        len(objects) - len(custom)
    )


@pytest.mark.parametrize("kind", sorted(CUSTOM_KINDS))
def test_a_field_of_another_type_is_objected_to(tmp_path: Path, kind: str) -> None:
    spoilt = copy.deepcopy(next(each for each in rendered(tmp_path, CPU, ALL_ON) if each["kind"] == kind))
    name = next(iter(spoilt["spec"]))
    spoilt["spec"][name] = 1

    assert any(f": /spec/{name}: type" in each for each in objections(tmp_path, [spoilt]))


@pytest.mark.parametrize("group", ["example.com", "keda.sh"])
def test_a_kind_that_no_schema_knows_is_objected_to(tmp_path: Path, group: str) -> None:
    unknown = {"apiVersion": f"{group}/v1", "kind": "Gate", "metadata": {"name": "gate"}}

    found = objections(tmp_path, [unknown])

    assert found
    assert all("Gate" in each for each in found)


def test_the_server_accepts_the_settings(objects: list[Document], tmp_path: Path) -> None:
    settings = accepted(tmp_path, objects)

    ports = {port["name"]: port["containerPort"] for port in server(objects)["ports"]}
    assert settings.listen.endswith(f":{ports['grpc']}")
    assert str(settings.metrics.listen).endswith(f":{ports['metrics']}")
    assert str(settings.health.listen).endswith(f":{ports['health']}")


def test_operators_are_served_where_that_is_asked_by_those_who_are_named(tmp_path: Path) -> None:
    by_callers_tls = {"operators": {"enabled": True}, "tls": {"existingSecret": "gate-tls"}}
    plain, shared, own = (rendered(tmp_path, CPU, *more) for more in ((), (by_callers_tls,), (ALL_ON,)))

    settings = [accepted(tmp_path, objects) for objects in (plain, shared, own)]
    ports = [{port["name"]: port["containerPort"] for port in server(objects)["ports"]} for objects in (plain, shared)]

    assert [each.operators.listen for each in settings] == [None, "0.0.0.0:50053", "[::]:50053"]
    assert (settings[1].operators.tls, settings[1].operators_tls) == (None, settings[1].tls)
    assert settings[2].operators.tls
    assert settings[2].operators.tls.client_ca
    assert ("operators" in ports[0], ports[1]["operators"]) == (False, 50053)
    ingress = one(own, "NetworkPolicy")["spec"]["ingress"]
    (rule,) = [each for each in ingress if each["ports"][0]["port"] == "operators"]
    assert rule["from"] == ALL_ON["networkPolicy"]["operators"]


def test_pods_have_no_privileges(objects: list[Document]) -> None:
    for spec in (pod(objects), one(objects, "Pod")["spec"]):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        own = [each for each in (*spec.get("initContainers", ()), *spec["containers"]) if each["name"] != "fetch"]
        for container in own:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
    assert all(each["automountServiceAccountToken"] is False for each in objects if each["kind"] == "ServiceAccount")


def test_ids_as_large_as_some_clusters_give_them_stay_whole_numbers(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, {"runAs": {"user": 1_000_650_000, "group": 1_000_650_001}})

    context = pod(objects)["securityContext"]

    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000650000, 1000650001, 1000650001)
    assert objections(tmp_path, objects) == []


def test_the_log_stays_closed_to_the_group_from_the_second_start_on(objects: list[Document]) -> None:
    assert pod(objects)["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_probes_ask_the_port_that_needs_no_tls(objects: list[Document], tmp_path: Path) -> None:
    settings = accepted(tmp_path, objects)
    probes = {name: server(objects)[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}

    assert {f"{settings.health.listen}".rpartition(":")[2]} == {str(probe["grpc"]["port"]) for probe in probes.values()}
    assert all("service" not in probes[name]["grpc"] for name in ("startup", "liveness"))
    start = probes["startup"]
    assert start["periodSeconds"] * start["failureThreshold"] >= settings.engine.load_seconds


def test_the_grace_period_is_longer_than_the_server_drains(objects: list[Document], tmp_path: Path) -> None:
    drain = accepted(tmp_path, objects).drain

    assert pod(objects)["terminationGracePeriodSeconds"] >= drain.announce_seconds + drain.grace_seconds + 20


def test_the_grace_period_follows_settings_with_fractions(tmp_path: Path) -> None:
    values = {"settings": {"drain": {"announce_seconds": 0.5, "grace_seconds": 600.25}}, "shutdownSlackSeconds": 20}

    assert pod(rendered(tmp_path, CPU, values))["terminationGracePeriodSeconds"] == 621


def test_every_mount_has_its_volume_and_none_is_mounted_by_parts(objects: list[Document]) -> None:
    claims = {each["metadata"]["name"] for each in one(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]}
    volumes = {each["name"] for each in pod(objects)["volumes"]} | claims
    containers = [*pod(objects).get("initContainers", ()), *pod(objects)["containers"]]
    mounts = [mount for container in containers for mount in container.get("volumeMounts", ())]

    assert {mount["name"] for mount in mounts} == volumes
    assert not any("subPath" in mount for mount in mounts)
    assert {mount["mountPath"] for mount in server(objects)["volumeMounts"] if not mount.get("readOnly")} <= {
        "/tmp",
        "/var/lib/sluicegate",
        "/var/cache/sluicegate",
    }


def test_secrets_are_only_named(objects: list[Document]) -> None:
    assert [each for each in objects if each["kind"] == "Secret"] == []
    named = {volume["secret"]["secretName"] for volume in pod(objects)["volumes"] if "secret" in volume}
    sources = [each.get("valueFrom", {}) for each in server(objects)["env"]]
    named |= {source["secretKeyRef"]["name"] for source in sources if "secretKeyRef" in source}
    assert named <= SECRETS
    assert "gate-audit" in named
    in_main = {mount["name"] for mount in server(objects)["volumeMounts"]}
    assert "audit-secret" not in in_main


@pytest.mark.parametrize("values", [(PRODUCTION,), (CPU, ALL_ON)], ids=["production", "all on"])
def test_the_url_of_redis_is_a_private_file_and_on_no_command_line(
    tmp_path: Path, values: tuple[Document, ...]
) -> None:
    objects = rendered(tmp_path, *values)

    (volume,) = [each for each in pod(objects)["volumes"] if each.get("secret", {}).get("secretName") == "gate-redis"]
    (mount,) = [each for each in server(objects)["volumeMounts"] if each["name"] == volume["name"]]
    assert volume["secret"]["defaultMode"] & 0o007 == 0
    assert accepted(tmp_path, objects).state.url_file == Path(mount["mountPath"]) / volume["secret"]["items"][0]["path"]
    for spec in (pod(objects), one(objects, "Pod")["spec"]):
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            secret = [each["name"] for each in container.get("env", ()) if "secretKeyRef" in each.get("valueFrom", {})]
            words = [*container.get("command", ()), *container.get("args", ())]
            assert not [word for word in words if "STATE_URL" in word or any(f"$({name})" in word for name in secret)]
            assert "gate-redis" not in json.dumps(container)


@pytest.mark.parametrize(("readiness", "service"), [("server", None), ("models", "models")])
def test_a_replica_is_ready_with_its_models_where_that_is_asked(
    tmp_path: Path, readiness: str, service: str | None
) -> None:
    objects = rendered(tmp_path, CPU, {"probes": {"readiness": readiness}})

    assert server(objects)["readinessProbe"]["grpc"].get("service") == service


def test_a_setting_of_nothing_counts_as_that(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, {"settings": {"drain": {"announce_seconds": 0, "grace_seconds": 0}}})

    drain = accepted(tmp_path, objects).drain

    assert (drain.announce_seconds, drain.grace_seconds) == (0, 0)
    assert pod(objects)["terminationGracePeriodSeconds"] == 30


def test_what_is_secret_in_the_settings_is_the_path_of_a_mounted_secret(tmp_path: Path) -> None:
    objects = rendered(tmp_path, CPU, ALL_ON)
    settings = accepted(tmp_path, objects)
    volumes = {each["name"]: each for each in pod(objects)["volumes"]}
    mounts = {Path(mount["mountPath"]): volumes.get(mount["name"], {}) for mount in server(objects)["volumeMounts"]}
    assert settings.tls
    assert settings.metrics.tls
    assert settings.metrics.basic_auth
    assert settings.state.url_file
    assert settings.audit != "off"
    assert settings.operators.tls
    secret = (
        settings.tls.key,
        settings.metrics.tls.key,
        settings.metrics.basic_auth.password_file,
        settings.operators.tls.key,
    )

    for path in (*secret, settings.state.url_file):
        assert "secret" in mounts[path.parent]
    for path in (settings.audit.key, settings.audit.secret):
        assert mounts[path.parent]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize(
    ("changed", "is_rolled"),
    [
        pytest.param({"settings": {"log": {"level": "debug"}}}, True, id="a setting"),
        pytest.param({"settings": {"drain": {"grace_seconds": 31}}}, True, id="drain"),
        pytest.param({"audit": {"replicaSuffix": "-2"}}, True, id="replicas' names"),
        pytest.param({"policy": {"release": "active: s2\n"}}, False, id="the release plan"),
        pytest.param({"policy": {"agreements": {"lab": "id: lab\n"}}}, False, id="a new agreement"),
        pytest.param({"policy": {"evidence": {"bias": "{}"}}}, False, id="evidence"),
        pytest.param({"replicas": 0}, False, id="the number of replicas"),
        pytest.param({"monitoring": {"dashboards": {"enabled": True}}}, False, id="dashboards"),
        pytest.param({"service": {"type": "LoadBalancer"}}, False, id="a Service"),
    ],
)
def test_only_what_the_server_reads_at_its_start_restarts_it(
    tmp_path: Path, changed: Document, is_rolled: bool
) -> None:
    before, after = (one(rendered(tmp_path, *values), "StatefulSet") for values in ((CPU,), (CPU, changed)))

    assert (before["spec"]["template"] != after["spec"]["template"]) is is_rolled
    assert before["spec"]["selector"] == after["spec"]["selector"]
    assert before["spec"]["volumeClaimTemplates"] == after["spec"]["volumeClaimTemplates"]


def test_another_version_of_the_chart_restarts_nothing_and_fits_the_old_claims(objects: list[Document]) -> None:
    stateful_set = one(objects, "StatefulSet")["spec"]

    assert "helm.sh/chart" not in json.dumps([stateful_set["template"], stateful_set["volumeClaimTemplates"]])


def test_services_select_the_replicas_by_ports_that_these_have(objects: list[Document]) -> None:
    stateful_set = one(objects, "StatefulSet")
    services = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Service"}
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]

    assert stateful_set["spec"]["serviceName"] in services
    assert services[stateful_set["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    ports = {port["name"] for port in server(objects)["ports"]}
    for service in services.values():
        assert service["spec"]["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        assert not service["spec"]["selector"].items() <= one(objects, "Pod")["metadata"]["labels"].items()
    with_metrics = [each for each in services.values() if each["spec"]["ports"][0]["name"] == "metrics"]
    assert len(with_metrics) == 1


@pytest.mark.parametrize(("values", "protocol"), [(CPU, "kubernetes.io/h2c"), (PRODUCTION, "https")])
def test_a_gateway_can_tell_what_the_port_speaks(tmp_path: Path, values: Path, protocol: str) -> None:
    services = [each for each in rendered(tmp_path, values) if each["kind"] == "Service"]

    found = [port["appProtocol"] for each in services for port in each["spec"]["ports"] if port["name"] == "grpc"]

    assert found == [protocol, protocol]


def test_names_fit_however_long_the_release_is(tmp_path: Path) -> None:
    made = run(HELM, "template", "r" * 53, CHART, "--values", PRODUCTION, *ALL_APIS)
    assert made.returncode == 0, made.stderr
    objects = [each for each in yaml.safe_load_all(made.stdout) if each]

    assert objections(tmp_path, objects) == []
    names = [each["metadata"]["name"] for each in objects]
    assert max(map(len, names)) <= 63
    assert len(f"{one(objects, 'StatefulSet')['metadata']['name']}-1000") <= 52
