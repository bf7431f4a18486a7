"""The chart's Envoy: its objects, and the configuration in them under a real Envoy before a real server."""

from __future__ import annotations

import base64
import copy
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import Authority
from chart import CHART, ENVOY, HELM, Document, objections, one, refused, rendered
from chart_values import ALL_OF_ENVOY
from cryptography.x509 import load_pem_x509_certificate
from deployment import DEMO_MODELS, LAB_APP, Deployment, Hosted
from envoy_proxy import ENVOY as PROGRAM
from envoy_proxy import MOUNTED, Envoy, connections, envoy, on_loopback, set_replicas
from foreign import bearer, json_values, run
from real_server import RealServer, real_server, until, wait_for

from sluicegate.auth import certificate_thumbprint
from sluicegate.client import AuthenticationFailed, Client, GenerationConfig, Tls

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BARE: Document = {"envoy": {"rest": {"enabled": False}, "web": {"enabled": False, "allowedOrigins": []}}}
CASES: dict[str, tuple[Path | Document, ...]] = {
    "example": (ENVOY,),
    "bare": (ENVOY, BARE),
    "all": (ENVOY, ALL_OF_ENVOY),
    "jwt without rest": (ENVOY, ALL_OF_ENVOY, BARE),
}
HOST, OURS = "gate.example", "envoy.gate.example"
"""The names in the certificates of replicas and of Envoy, as the example has them."""


@pytest.fixture(params=CASES)
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> list[Document]:
    return rendered(tmp_path, *CASES[request.param])


def config_map(objects: list[Document]) -> Document:
    return one(objects, "ConfigMap", "-envoy")


def pod_spec(objects: list[Document]) -> Document:
    spec: Document = one(objects, "Deployment", "-envoy")["spec"]["template"]["spec"]
    return spec


def filters(document: Document) -> list[str]:
    return [each["name"].removeprefix("envoy.filters.http.") for each in connections(document)["http_filters"]]


@dataclass(frozen=True, slots=True)
class Placed:
    """What the pod mounts, below a directory of this machine, and the configuration with its paths there."""

    directory: Path
    document: Document
    authority: Authority


def mount(folder: Path, files: Mapping[str, Path]) -> None:
    """Show files in a folder as a kubelet does, the first time or anew: all of them by one rename of a link."""
    held = folder / f"..{len(list(folder.iterdir()))}"
    held.mkdir()
    for name, file in files.items():
        shutil.copy(file, held / name)
    (folder / "..data_tmp").symlink_to(held.name)
    (folder / "..data_tmp").rename(folder / "..data")
    for name in files:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")


def pair(certificate: Path) -> dict[str, Path]:
    """A certificate and its key, by their names in a Secret."""
    return {"tls.crt": certificate, "tls.key": certificate.with_suffix(".key")}


def placed(directory: Path, objects: list[Document]) -> Placed:
    """The files of the pod, with certificates of one authority."""
    authority = Authority(directory)
    own = {name: authority.issue(name) for name in (HOST, OURS)}
    secrets = {"tls": own[HOST], "client-tls": own[OURS]}
    for volume in pod_spec(objects)["volumes"]:
        folder = directory / volume["name"]
        folder.mkdir()
        if "secret" in volume:
            mount(folder, pair(secrets[volume["name"]]))
        elif volume["name"] != "config":
            mount(folder, {volume["configMap"]["items"][0]["path"]: authority.certificate})
    held = config_map(objects)
    for name, text in held["data"].items():
        (directory / "config" / name).write_text(text.replace(MOUNTED, str(directory)))
    for name, octets in held.get("binaryData", {}).items():
        (directory / "config" / name).write_bytes(base64.b64decode(octets))
    return Placed(directory, yaml.safe_load((directory / "config/envoy.yaml").read_text()), authority)


def test_lint_has_nothing_against_the_example() -> None:
    linted = run(HELM, "lint", "--strict", CHART, "--values", ENVOY)

    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_every_object_fits_its_schema(objects: list[Document], tmp_path: Path) -> None:
    assert objections(tmp_path, objects) == []


def test_prometheus_finds_envoy_as_a_job_that_no_rule_takes_for_a_server(tmp_path: Path) -> None:
    objects = rendered(tmp_path, ENVOY, ALL_OF_ENVOY)
    monitor = one(objects, "PodMonitor")
    pod = one(objects, "Deployment")["spec"]["template"]
    spoilt = copy.deepcopy(monitor)
    spoilt["spec"]["podMetricsEndpoints"][0]["ports"] = 1

    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert endpoint["path"] == "/stats/prometheus"
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "envoy"}]
    assert any("/spec/podMetricsEndpoints/0/ports: no such field" in each for each in objections(tmp_path, [spoilt]))


def test_envoy_accepts_the_configuration(objects: list[Document], tmp_path: Path) -> None:
    place = placed(tmp_path, objects)

    checked = run(PROGRAM, "--mode", "validate", "--config-path", place.directory / "config/envoy.yaml")

    assert checked.returncode == 0, checked.stderr
    assert "Deprecated" not in checked.stderr


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("example", ["cors", "grpc_web", "buffer", "grpc_json_transcoder", "router"]),
        ("bare", ["router"]),
        ("all", ["cors", "grpc_web", "jwt_authn", "buffer", "grpc_json_transcoder", "router"]),
        ("jwt without rest", ["jwt_authn", "router"]),
    ],
)
def test_only_what_is_switched_on_is_there(tmp_path: Path, case: str, expected: list[str]) -> None:
    held = config_map(rendered(tmp_path, *CASES[case]))
    document = yaml.safe_load(held["data"]["envoy.yaml"])
    (host,) = connections(document)["route_config"]["virtual_hosts"]

    routes = [route["name"] for route in host["routes"]]

    has_rest, has_pages = "grpc_json_transcoder" in expected, "cors" in expected
    assert filters(document) == expected
    assert routes == ["grpc", "reflection", *["page", "preflight"] * has_pages, *["rest"] * has_rest]
    assert ("descriptors.binpb" in held.get("binaryData", {})) is has_rest
    assert ("typed_per_filter_config" in host) is has_pages


def test_what_values_say_is_in_the_configuration(tmp_path: Path) -> None:
    objects = rendered(tmp_path, ENVOY, ALL_OF_ENVOY, namespace="gates")
    text = config_map(objects)["data"]["envoy.yaml"]
    callers, observe = yaml.safe_load(text)["static_resources"]["listeners"]
    replicas, _, issuer = yaml.safe_load(text)["static_resources"]["clusters"]

    (threshold,) = replicas["circuit_breakers"]["thresholds"]

    assert callers["address"]["socket_address"] == {"address": "::", "port_value": 9443}
    assert observe["address"]["socket_address"] == {"address": "::", "port_value": 9903}
    assert "gate-replicas.gates.svc" in json.dumps(replicas)
    assert one(objects, "Service", "gate-replicas")["spec"]["ports"][0]["port"] == 50051
    assert threshold["max_requests"] == 2 * 2 * ((8 + 100) + (1024 + 100))
    assert "keys.example" in json.dumps(issuer)
    assert "issuer.example/jwks" not in text
    assert "https://stranger" not in text
    assert replicas["transport_socket"]["typed_config"]["sni"] == HOST


def test_pods_have_no_privileges_and_live_as_long_as_they_drain(objects: list[Document]) -> None:
    spec = pod_spec(objects)
    (container,) = spec["containers"]
    volumes = {each["name"] for each in spec["volumes"]}

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    drain = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert container["args"][-1] == str(drain)
    assert spec["terminationGracePeriodSeconds"] > drain


def test_services_find_their_own_pods_and_no_others(objects: list[Document]) -> None:
    of_envoy = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    of_replicas = one(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]

    for service in (each for each in objects if each["kind"] == "Service"):
        is_envoys = service["metadata"]["name"].endswith("-envoy")
        selector = service["spec"]["selector"].items()
        assert (selector <= of_envoy.items(), selector <= of_replicas.items()) == (is_envoys, not is_envoys)
        assert not is_envoys or service["spec"]["externalTrafficPolicy"] == "Local"
    assert one(objects, "PodDisruptionBudget", "-envoy")["spec"]["selector"]["matchLabels"].items() <= of_envoy.items()


def test_only_envoy_reaches_the_replicas_and_it_reaches_only_them(tmp_path: Path) -> None:
    objects = rendered(tmp_path, ENVOY, ALL_OF_ENVOY)
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    (of_envoy,) = [each["spec"] for each in policies if each["metadata"]["name"].endswith("-envoy")]
    (of_replicas,) = [each["spec"] for each in policies if not each["metadata"]["name"].endswith("-envoy")]
    given = ALL_OF_ENVOY["networkPolicy"]

    (peer,) = of_replicas["ingress"][0]["from"]

    assert peer["podSelector"] == of_envoy["podSelector"]
    assert [rule["from"] for rule in of_envoy["ingress"]] == [given["callers"], given["scrapers"]]
    assert [rule["ports"][0]["port"] for rule in of_envoy["ingress"]] == ["callers", "observe"]
    assert of_envoy["egress"][0]["to"] == [{"podSelector": of_replicas["podSelector"]}]
    assert [rule["ports"][0]["port"] for rule in of_envoy["egress"]] == ["grpc", 53, 8443]


def test_a_change_of_the_configuration_restarts_envoy_and_no_replica(tmp_path: Path) -> None:
    changed = {"envoy": {"web": {"allowedOrigins": ["https://other.example"]}}}

    before, after = rendered(tmp_path, ENVOY), rendered(tmp_path, ENVOY, changed)

    assert one(before, "Deployment")["spec"]["template"] != one(after, "Deployment")["spec"]["template"]
    assert one(before, "StatefulSet") == one(after, "StatefulSet")


@pytest.mark.parametrize(
    ("values", "saying"),
    [
        ({"envoy": {"tls": {"existingSecret": ""}}}, "envoy.tls.existingSecret: name the Secret"),
        ({"envoy": {"replicaTls": {"serverName": ""}}}, "envoy.replicaTls: give existingSecret, serverName and"),
        ({"settings": {"trusted_proxies": []}}, "envoy: give tls.existingSecret, tls.clientCa and settings.trusted"),
        ({"gateway": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "envoy: switch gateway and ingress off"),
        ({"settings": {"drain": {"announce_seconds": 3}}}, "settings.drain.announce_seconds: give at least 4"),
        ({"envoy": {"ports": {"observe": 8443}}}, "envoy.ports: give two different ones"),
        ({"envoy": {"ports": {"observe": 9901}}}, "envoy.ports: 9901 is Envoy's own"),
        ({"envoy": {"web": {"allowedOrigins": []}}}, "envoy.web.allowedOrigins: name the origins"),
        ({"envoy": {"jwtAuthn": {"enabled": True}}}, "envoy.jwtAuthn.keysUrl: give"),
        ({"envoy": {"enabled": False}}, "envoy.enabled: rest, web and jwtAuthn need Envoy"),
    ],
)
def test_values_that_make_no_deployment_are_refused_with_what_to_do(
    tmp_path: Path, values: Document, saying: str
) -> None:
    assert saying in refused(tmp_path, ENVOY, values)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"web": {"allowedOrigins": ["*"]}}, "/envoy/web/allowedOrigins/0"),
        ({"web": {"allowedOrigins": ["https://*.example"]}}, "/envoy/web/allowedOrigins/0"),
        ({"web": {"allowedOrigins": ["https://app.example/"]}}, "/envoy/web/allowedOrigins/0"),
        ({"jwtAuthn": {"keysUrl": "http://issuer.example/jwks"}}, "/envoy/jwtAuthn/keysUrl"),
        ({"threads": 0}, "/envoy/threads"),
        ({"drainSeconds": 0}, "/envoy/drainSeconds"),
        ({"ports": {"callers": 443}}, "/envoy/ports/callers"),
        ({"service": {"type": "ExternalName"}}, "/envoy/service/type"),
        ({"config": "admin: {}"}, "/envoy"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(tmp_path: Path, values: Document, place: str) -> None:
    assert place in refused(tmp_path, ENVOY, {"envoy": values})


@dataclass(frozen=True, slots=True)
class Edge:
    """Envoy as the chart has it, over TLS both ways, before a server whose partner must hold its certificate."""

    proxy: Envoy
    server: RealServer
    place: Placed
    own: Path

    @property
    def authority(self) -> Authority:
        return self.place.authority

    def bound_token(self) -> str:
        return self.server.token(LAB_APP, certificate_thumbprint=certificate_thumbprint(self.own.read_bytes()))

    async def generate(self, certificate: Path | None) -> int:
        """Output tokens that a caller with this certificate and the partner's token gets."""
        key = certificate.with_suffix(".key") if certificate else None
        tls = Tls(ca=self.authority.certificate, certificate=certificate, key=key)
        async with Client(self.proxy.address, token=self.bound_token(), tls=tls) as client:
            generation = await client.generate("demo-xs", "It was", GenerationConfig(max_output_tokens=4))
            return generation.usage.output_tokens


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("edge")
    callers_ca = {"envoy": {"tls": {"clientCa": {"existingConfigMap": "gate-ca"}}}}
    place = placed(directory, rendered(directory, ENVOY, callers_ca))
    certificate = directory / f"{HOST}.pem"
    files = {
        "certificate": certificate,
        "key": certificate.with_suffix(".key"),
        "client_ca": place.authority.certificate,
    }
    deployment = Deployment(
        directory / "files",
        {"demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs", open_to="partner")},
        tls={name: str(path) for name, path in files.items()},
        trusted_proxies=[{"name": OURS}],
    )
    deployment.write_agreement(token={"binding": "mtls"})
    with real_server(deployment) as server:
        document = place.document
        on_loopback(document)
        set_replicas(document, [server.address])
        (directory / "run").mkdir()
        with envoy(directory / "run", document) as proxy:
            proxy.wait_for_healthy([server.address])
            yield Edge(proxy, server, place, place.authority.issue("lab"))


async def test_a_caller_s_certificate_reaches_the_server_through_envoy(edge: Edge) -> None:
    assert await edge.generate(edge.own) == 4


@pytest.mark.parametrize("has_one", [True, False])
async def test_with_another_certificate_or_none_a_bound_token_is_refused(edge: Edge, has_one: bool) -> None:
    with pytest.raises(AuthenticationFailed) as refused_call:
        await edge.generate(edge.authority.issue("other") if has_one else None)

    assert refused_call.value.reason == "TOKEN_BINDING_MISMATCH"


def test_json_over_http_needs_the_certificate_too_and_cannot_claim_it(edge: Edge) -> None:
    claimed = f"x-forwarded-client-cert: Hash={'a' * 64}"
    url = f"https://{edge.proxy.address}/v1/models/demo-xs:streamGenerate"
    headers = ("--header", bearer(edge.bound_token()), "--header", claimed)
    arguments = ("--silent", "--cacert", edge.authority.certificate, *headers)
    own = ("--cert", edge.own, "--key", edge.own.with_suffix(".key"))
    body = json.dumps({"text": "It was", "config": {"maxOutputTokens": 4}})

    served = run("curl", *arguments, *own, "--data", body, url)
    turned_away = run("curl", *arguments, "--data", body, url)

    assert "finished" in json_values(served.stdout)[-1]
    assert "TOKEN_BINDING_MISMATCH" in turned_away.stdout


def test_probes_and_prometheus_reach_what_they_need_and_nothing_else(edge: Edge) -> None:
    base = f"http://{edge.proxy.addresses()['observe']}"

    def status(path: str, *flags: str) -> str:
        asked = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code}", *flags)
        return run("curl", *asked, base + path).stdout

    assert (status("/ready"), status("/stats/prometheus")) == ("200", "200")
    assert (status("/config_dump"), status("/quitquitquit", "--request", "POST")) == ("404", "404")
    assert status("/ready", "--request", "POST") == "404"


async def test_renewed_certificates_and_authorities_are_taken_over_without_a_restart(
    edge: Edge, tmp_path: Path
) -> None:
    renewed = {folder: edge.authority.issue(name) for folder, name in (("tls", HOST), ("client-tls", OURS))}
    added, both = Authority(tmp_path, "the next authority"), tmp_path / "both.pem"
    both.write_bytes(added.certificate.read_bytes() + edge.authority.certificate.read_bytes())
    expected = {serial(path) for path in (*renewed.values(), added.certificate)}

    for folder, certificate in renewed.items():
        mount(edge.place.directory / folder, pair(certificate))
    for folder in ("replicas-ca", "callers-ca"):
        mount(edge.place.directory / folder, {"ca.crt": both})

    await until("Envoy goes by all of them", lambda: expected <= gone_by(edge.proxy))
    host, _, port = edge.proxy.address.rpartition(":")
    presented = ssl.get_server_certificate((host, int(port)), ca_certs=str(edge.authority.certificate))
    assert load_pem_x509_certificate(presented.encode()).serial_number == serial(renewed["tls"])
    assert await edge.generate(edge.own) == 4


def serial(certificate: Path) -> int:
    """Its number."""
    return load_pem_x509_certificate(certificate.read_bytes()).serial_number


def gone_by(proxy: Envoy) -> set[int]:
    """The numbers of the certificates and authorities that Envoy has."""
    found = proxy.admin("/certs").json()["certificates"]
    return {int(each["serial_number"], 16) for held in found for chain in held.values() for each in chain}


def test_an_envoy_that_is_about_to_stop_tells_callers_to_go(edge: Edge, tmp_path: Path) -> None:
    """What the pod runs before its SIGTERM, but for the port."""
    (container,) = pod_spec(rendered(tmp_path, ENVOY))["containers"]
    *command, _ = container["lifecycle"]["preStop"]["exec"]["command"]
    port = str(edge.proxy.document["admin"]["address"]["socket_address"]["port_value"])
    before = edge.proxy.statistic("listener_manager.total_listeners_draining")

    done = subprocess.run(
        [*(word.replace("9901", port) for word in command), "0"], check=True, capture_output=True, text=True, timeout=30
    )

    assert before == 0
    assert "HTTP/1.1 200 OK" in done.stdout
    wait_for("new connections told to go", lambda: _is_told_to_go(edge))


def _is_told_to_go(edge: Edge) -> Any:
    answer = run(
        *("curl", "--silent", "--include", "--http1.1", "--cacert", edge.authority.certificate),
        f"https://{edge.proxy.address}/v1/models",
    )
    return "connection: close" in answer.stdout
