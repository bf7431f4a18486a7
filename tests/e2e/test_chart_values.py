"""The Helm chart's values: which are refused, with what to do; and settings and policy as the server reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from chart import CPU, GPU, Document, one, refused, rendered, settings_text
from chart_values import ALL_ON, HPA

from sluicegate.auth import load_policy
from sluicegate.server.config import Settings
from sluicegate.server.settings_file import load_settings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


SCALED: Document = {"state": {"redis": {"url": "redis://redis:6379/0"}}}


def accepted(directory: Path, text: str) -> Settings:
    """The settings as the server reads them."""
    path = directory / "sluicegate.yaml"
    path.write_text(text)
    return load_settings(path)


def test_everything_that_the_default_values_lack_is_told_at_once(tmp_path: Path) -> None:
    said = refused(tmp_path, {})

    for saying in (
        "image.repository: name an image with Sluicegate in it; none is published yet",
        "policy: give release (--set-file policy.release=policy/release.yaml) or existingConfigMap",
        "settings.tokens.issuers: name at least one issuer",
        "settings.policy.signatures: give the trust root",
        "settings.models: name at least one model",
        "audit.existingSecret: name the Secret",
    ):
        assert saying in said


@pytest.mark.parametrize(
    ("values", "saying"),
    [
        pytest.param({"replicas": 2}, "replicas: more than one needs state.redis", id="replicas with SQLite"),
        pytest.param(
            {"policy": {"existingConfigMap": "gate-policy"}}, "policy: give existingConfigMap, or", id="two policies"
        ),
        pytest.param({"policy": {"release": ""}}, "policy: give release", id="no policy"),
        pytest.param(
            {"policy": {"evidence": {"a": "{}"}, "evidenceVolume": {"emptyDir": {}}}},
            "policy: give evidence or evidenceVolume",
            id="two places of evidence",
        ),
        pytest.param({"weights": {"init": {"image": "a"}}}, "weights: give existingClaim or init.image", id="weights"),
        pytest.param({"autoscaling": {"by": "hpa"}}, "autoscaling.by: needs state.redis", id="scaled with SQLite"),
        pytest.param(
            {**SCALED, "autoscaling": {"by": "hpa", "minReplicas": 11}},
            "autoscaling.minReplicas: is above maxReplicas (10)",
            id="fewest above most",
        ),
        pytest.param(
            {**SCALED, "autoscaling": {"by": "hpa", "runningSequences": 9}},
            "autoscaling.runningSequences: is above the slots of a replica's models together (8)",
            id="slots",
        ),
        pytest.param({**SCALED, "autoscaling": {"by": "keda"}}, "autoscaling.prometheus.url: name", id="no Prometheus"),
        pytest.param({"gateway": {"enabled": True}}, "gateway.parentRefs: name the Gateway", id="a route of nobody"),
        pytest.param(
            {"gateway": {"enabled": True, "parentRefs": [{"name": "a"}]}, "tls": {"existingSecret": "a"}},
            "gateway.tls.serverName: give the name",
            id="a route to a stranger",
        ),
        pytest.param(
            {"operators": {"enabled": True}}, "operators.tls.existingSecret: operators are served", id="operators"
        ),
        pytest.param(
            {
                "operators": {"enabled": True, "tls": {"clientCa": {"existingConfigMap": "a"}}},
                "tls": {"existingSecret": "a"},
            },
            "operators.tls.existingSecret: operators can show",
            id="operators' authority",
        ),
        pytest.param({"ports": {"operators": 50052}}, "ports: give four different ones", id="the operators' port"),
        pytest.param({"ingress": {"enabled": True}}, "ingress.hosts: name the hosts", id="no host"),
        pytest.param({"networkPolicy": {"enabled": True}}, "networkPolicy.callers: name who may call", id="no callers"),
        pytest.param(
            {"networkPolicy": {"enabled": True}}, "networkPolicy.issuers.peers: name where", id="keys out of reach"
        ),
        pytest.param(
            {"networkPolicy": {"enabled": True}, **SCALED},
            "networkPolicy.redis.peers: name where",
            id="state out of reach",
        ),
        pytest.param(
            {"networkPolicy": {"enabled": True}, "weights": {"existingClaim": "", "hub": {"enabled": True}}},
            "networkPolicy.egress: let pods reach the hub",
            id="hub out of reach",
        ),
        pytest.param(
            {"networkPolicy": {"enabled": True}, "settings": {"tracing": {"endpoint": "http://otel:4317"}}},
            "networkPolicy.egress: let pods reach the hub",
            id="collector out of reach",
        ),
        pytest.param(
            {"networkPolicy": {"enabled": True}, "monitoring": {"serviceMonitor": {"enabled": True}}},
            "networkPolicy.scrapers: name Prometheus",
            id="no scrapers",
        ),
        pytest.param({"audit": {"existingSecret": ""}}, "audit.existingSecret: name", id="audit without key"),
        pytest.param({"audit": {"pseudonymSecret": "audit.jwk"}}, "audit: signingKey and pseud", id="one key for both"),
        pytest.param(
            {"state": {"redis": {"existingSecret": "a", "url": "redis://b"}}}, "state.redis: give", id="two URLs"
        ),
        pytest.param(
            {"tls": {"clientCa": {"existingConfigMap": "ca"}}}, "tls.existingSecret: callers", id="CA without TLS"
        ),
        pytest.param(
            {"settings": {"trusted_proxies": [{"name": "proxy.example"}]}}, "tls.clientCa.existingConfigMap", id="proxy"
        ),
        pytest.param(
            {"metrics": {"basicAuth": {"existingSecret": "a", "user": "b"}}},
            "metrics.tls.existingSecret: metrics.basicAuth needs it",
            id="a password in the clear",
        ),
        pytest.param(
            {"metrics": {"tls": {"existingSecret": "a"}, "basicAuth": {"existingSecret": "a"}}},
            "metrics.basicAuth.user: give the user",
            id="a password of nobody",
        ),
        pytest.param(
            {"metrics": {"tls": {"clientCa": {"existingConfigMap": "a"}}}},
            "metrics.tls.existingSecret: scrapers can show",
            id="scrapers without TLS",
        ),
        pytest.param(
            {"metrics": {"tls": {"existingSecret": "a"}}, "monitoring": {"serviceMonitor": {"enabled": True}}},
            "monitoring.serviceMonitor.tls.serverName: give the name",
            id="a scrape of nobody",
        ),
        pytest.param(
            {
                "metrics": {"tls": {"existingSecret": "a", "clientCa": {"existingConfigMap": "a"}}},
                "monitoring": {"serviceMonitor": {"enabled": True, "tls": {"serverName": "a"}}},
            },
            "monitoring.serviceMonitor.tls.existingSecret: name the Secret",
            id="a scraper without a certificate",
        ),
        pytest.param({"ports": {"metrics": 50051}}, "ports: give four different ones", id="ports"),
        pytest.param({"probes": {"startupSeconds": 300}}, "probes.startupSeconds: is below", id="short start"),
        pytest.param(
            {"monitoring": {"prometheusRule": {"enabled": True}}},
            "monitoring.prometheusRule: give runbooksUrl and grafanaUrl",
            id="rules that lead nowhere",
        ),
        pytest.param({"monitoring": {"serviceMonitor": {"job": "gate"}}}, "must contain sluicegate", id="job"),
        pytest.param(
            {"audit": {"enabled": False}, "settings": {"audit": {"file_bytes": 65536}}}, "set audit.enabled", id="off"
        ),
        pytest.param({"settings": {"listen": "0.0.0.0:1"}}, "settings.listen: leave it out", id="listen"),
        *(
            pytest.param(
                {"settings": {section: {name: "/x"}}},
                f"settings.{section}.{name}: leave it out",
                id=f"{section}.{name}",
            )
            for section, name in (
                ("metrics", "listen"),
                ("metrics", "tls"),
                ("metrics", "basic_auth"),
                ("health", "listen"),
                ("operators", "listen"),
                ("operators", "tls"),
                ("policy", "directory"),
                ("state", "url"),
                ("state", "url_file"),
                ("audit", "directory"),
                ("audit", "key"),
                ("audit", "secret"),
                ("audit", "replica"),
            )
        ),
    ],
)
def test_values_that_make_no_deployment_are_refused_with_what_to_do(
    tmp_path: Path, values: Document, saying: str
) -> None:
    assert saying in refused(tmp_path, CPU, values)


@pytest.mark.parametrize(
    ("file", "saying"),
    [
        ("/etc/sluicegate/keys/a.json", "keySets.existingConfigMap: name the ConfigMap with the key set of"),
        ("a.json", "give an absolute path"),
    ],
)
def test_a_key_set_that_nobody_mounts_is_refused(tmp_path: Path, file: str, saying: str) -> None:
    issuer = {"issuer": "https://issuer.example", "audience": "gate", "keys": {"file": file}}

    assert saying in refused(tmp_path, CPU, {"settings": {"tokens": {"issuers": [issuer]}}})


@pytest.mark.parametrize("part", ["serviceMonitor", "prometheusRule"])
def test_the_operators_objects_are_refused_where_the_cluster_does_not_know_them(tmp_path: Path, part: str) -> None:
    more = {"runbooksUrl": "https://a.example", "grafanaUrl": "https://b.example"} if part == "prometheusRule" else {}

    said = refused(tmp_path, CPU, {"monitoring": {part: {"enabled": True, **more}}}, arguments=())

    assert "monitoring: this cluster does not have monitoring.coreos.com/v1" in said


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"replicas": "2"}, "/replicas"),
        ({"image": {"tag": "a b"}}, "/image/tag"),
        ({"image": {"digest": "sha256:1"}}, "/image/digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"settings": {"drain": {"grace": 1}}}, "/settings/drain"),
        ({"settings": {"limits": {"queued_requests": 0}}}, "/settings/limits/queued_requests"),
        ({"settings": {"models": {"gpt2-124m": {"device": "tpu"}}}}, "/settings/models/gpt2-124m/device"),
        ({"settings": {"audit": "off"}}, "/settings/audit"),
        ({"settings": {"policy": {"signatures": True}}}, "/settings/policy/signatures"),
        ({"policy": {"release": {"active": "s1"}}}, "/policy/release"),
        ({"policy": {"agreements": {"A/b": "x"}}}, "/policy/agreements"),
        ({"policy": {"evidence": {"a": {}}}}, "/policy/evidence/a"),
        ({"policy": {"evidenceVolume": {"emptyDir": {}, "secret": {}}}}, "/policy/evidenceVolume"),
        ({"weights": {"init": {"image": "a b"}}}, "/weights/init/image"),
        ({"gateway": {"parentRefs": [{}]}}, "/gateway/parentRefs/0"),
        ({"ingress": {"hosts": ["https://gate.example"]}}, "/ingress/hosts/0"),
        ({"networkPolicy": {"callers": [{}]}}, "/networkPolicy/callers/0"),
        ({"networkPolicy": {"scrapers": [{"cidr": "0.0.0.0/0"}]}}, "/networkPolicy/scrapers/0"),
        ({"networkPolicy": {"redis": {"port": 0}}}, "/networkPolicy/redis/port"),
        ({"autoscaling": {"by": "vpa"}}, "/autoscaling/by"),
        ({"autoscaling": {"minReplicas": 0}}, "/autoscaling/minReplicas"),
        ({"autoscaling": {"queuedRequests": 0}}, "/autoscaling/queuedRequests"),
        ({"autoscaling": {"prometheus": {"url": "prometheus:9090"}}}, "/autoscaling/prometheus/url"),
        ({"podDisruptionBudget": {"maxUnavailable": "1"}}, "/podDisruptionBudget/maxUnavailable"),
        ({"probes": {"readiness": "model"}}, "/probes/readiness"),
        ({"audit": {"secret": "c2VjcmV0"}}, "/audit"),
        ({"state": {"redis": {"url": "redis://:password@redis:6379/0"}}}, "/state/redis/url"),
        ({"tls": {"key": "-----BEGIN PRIVATE KEY-----"}}, "/tls"),
        ({"ports": {"grpc": 443}}, "/ports/grpc"),
        ({"runAs": {"user": 0}}, "/runAs/user"),
        ({"shutdownSlackSeconds": 5}, "/shutdownSlackSeconds"),
        ({"persistence": {"size": "much"}}, "/persistence/size"),
        ({"securityContext": {"privileged": True}}, "additional properties 'securityContext' not allowed"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(tmp_path: Path, values: Document, place: str) -> None:
    said = refused(tmp_path, CPU, values)

    assert "values don't meet the specifications of the schema" in said
    assert place in said


@pytest.mark.parametrize(
    ("values", "group"),
    [
        ({**SCALED, "autoscaling": {"by": "keda", "prometheus": {"url": "http://a"}}}, "keda.sh/v1alpha1"),
        ({"gateway": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "gateway.networking.k8s.io/v1"),
    ],
)
def test_kinds_that_the_cluster_does_not_have_are_told_to_be_installed(
    tmp_path: Path, values: Document, group: str
) -> None:
    said = refused(tmp_path, CPU, values, arguments=())

    assert f"this cluster does not have {group}; install" in said


def test_slots_that_only_the_server_can_count_are_not_judged(tmp_path: Path) -> None:
    values = {"settings": {"models": {"gpt2-124m": {"slots": "auto"}}}, "autoscaling": {"runningSequences": 200}}

    assert rendered(tmp_path, CPU, SCALED, HPA, values)


@pytest.mark.parametrize("example", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_policy_of_an_example_is_good(tmp_path: Path, example: Path) -> None:
    data = one(rendered(tmp_path, example), "ConfigMap", "-policy")["data"]
    (tmp_path / "release.yaml").write_text(data["release"])

    assert load_policy(tmp_path, None).stage.id == "s1"


def test_the_texts_of_the_policy_arrive_octet_by_octet(tmp_path: Path) -> None:
    release, agreement = "active: no  # 22:00\n\n", 'id: "ü <&>"\n\t{{ .Values }}\n---\nlast line without an end'
    texts = {"release": release, "agreements": {"lab": agreement}, "evidence": {"bias": '{"a":1.50,"b":"ü"}'}}

    objects = rendered(tmp_path, CPU, {"policy": texts})

    assert one(objects, "ConfigMap", "-policy")["data"] == {
        "release": release,
        "lab.yaml": agreement,
        "bias.json": '{"a":1.50,"b":"ü"}',
    }


def test_every_setting_can_be_given(tmp_path: Path) -> None:
    """All but those that the chart makes, each as `load_settings` has it in the end."""
    objects = rendered(tmp_path, CPU, ALL_ON)
    whole = accepted(tmp_path, settings_text(objects)).model_dump(mode="json", exclude_none=True)
    for section, name in (("policy", "directory"), ("state", "url"), ("state", "url_file")):
        del whole[section][name]
    made = ("listen", "tls", "metrics", "health", "operators", "audit")
    given = {name: value for name, value in whole.items() if name not in made}
    given["audit"] = {"checkpoint_seconds": 30.5, "file_bytes": 16 << 20}
    given["limits"]["message_bytes"] = 16 << 20
    given["trusted_proxies"] = [{"name": "proxy.example", "networks": ["192.0.2.0/24", "2001:db8::/32"]}]

    again = accepted(tmp_path, settings_text(rendered(tmp_path, CPU, ALL_ON, {"settings": given})))

    found = again.model_dump(mode="json", exclude_none=True)
    assert found["audit"]["checkpoint_seconds"] == 30.5
    assert found["audit"]["file_bytes"] == 16 << 20
    for name, value in given.items():
        assert {**found[name], **value} == found[name] if isinstance(value, dict) else found[name] == value


@pytest.mark.parametrize("off", ["off", False])
def test_off_is_off_however_yaml_reads_it(tmp_path: Path, off: object) -> None:
    values = {"settings": {"policy": {"signatures": off}}, "audit": {"enabled": False, "existingSecret": ""}}

    settings = accepted(tmp_path, settings_text(rendered(tmp_path, CPU, values)))

    assert (settings.policy.signatures, settings.audit) == ("off", "off")
