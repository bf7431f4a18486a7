"""A pod of the chart, as far as one machine can have it: a server on the chart's settings, arguments and volumes."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import Authority
from chart import Document, one, rendered, settings_text
from deployment import AUDIENCE, DEMO_MODELS, ISSUER, LAB_APP, Deployment, Hosted
from evidence_files import bias
from foreign import run
from pod import Pod
from real_server import COMMAND, RealServer, real_server, until

from sluicegate.auth import IssuingError, read_signing_key
from sluicegate.client import AccessDenied, Client, GenerationConfig
from sluicegate.evidence import digest, encode, read_directory

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

BRIEF = GenerationConfig(max_output_tokens=3)
EVIDENCE = encode(bias("demo-s"))
KEY_SETS = "/etc/sluicegate/keys/jwks.json"


@dataclass(frozen=True, slots=True)
class Placed:
    """The chart's objects, and their pod on this machine."""

    objects: list[Document]
    pod: Pod
    files: Deployment
    root: Path

    @property
    def policy(self) -> dict[str, str]:
        """The ConfigMap of the policy, of the files as they are now."""
        return policy_map(self.files)

    def deliver_policy(self) -> None:
        """Let the kubelet renew the ConfigMap."""
        self.pod.change_map("gate-policy", self.policy)


def policy_map(files: Deployment) -> dict[str, str]:
    """As `kubectl create configmap` makes it of a policy's files."""
    agreements = {path.name: path.read_text() for path in files.agreement_file.parent.glob("*.yaml")}
    return {"release": files.release_file.read_text(), "bias.json": EVIDENCE.decode(), **agreements}


def placed(directory: Path, **values: Any) -> Placed:
    """A pod of two demo models, with the policy, key set and audit keys of a deployment."""
    models = {
        "demo-xs": Hosted(directory=DEMO_MODELS / "demo-xs"),
        "demo-s": Hosted(directory=DEMO_MODELS / "demo-s", open_to="partner"),
    }
    files = Deployment(directory / "files", models)
    made: Document = {
        "image": {"repository": "registry.example/sluicegate"},
        "settings": {
            "tokens": {"issuers": [{"issuer": ISSUER, "audience": AUDIENCE, "keys": {"file": KEY_SETS}}]},
            "policy": {"signatures": "off", "reload_seconds": 0.2},
            "models": {name: {"device": "cpu", "slots": 2} for name in models},
            "engine": {"threads": 1},
            "drain": {"announce_seconds": 0.2},
        },
        "policy": {"existingConfigMap": "gate-policy"},
        "keySets": {"existingConfigMap": "gate-keys"},
        "audit": {"existingSecret": "gate-audit", "replicaSuffix": "-2"},
        **values,
    }
    objects = rendered(directory, made)
    authority = Authority(directory)
    certificate = authority.issue("gate.example")
    pod = Pod(
        directory / "node",
        one(objects, "StatefulSet"),
        maps={
            "gate-sluicegate-settings": {"sluicegate.yaml": _on_loopback(settings_text(objects))},
            "gate-policy": policy_map(files),
            "gate-keys": {"jwks.json": files.key_set_file.read_text()},
            "gate-callers": {"ca.crt": authority.certificate.read_text()},
        },
        secrets={
            "gate-audit": {name: (files.directory / name).read_text() for name in ("audit.jwk", "audit.secret")},
            "gate-tls": {"tls.crt": certificate.read_text(), "tls.key": certificate.with_suffix(".key").read_text()},
            "gate-redis": {"url": "sqlite:////var/lib/sluicegate/named-in-a-secret.db\n"},
            "gate-scraper": {"username": "prometheus", "password": "for-tests-of-the-chart"},
        },
    )
    pod.run_init_containers()
    return Placed(objects, pod, files, directory / "node")


def _on_loopback(text: str) -> str:
    """The settings with addresses that tests may have."""
    settings: Document = yaml.safe_load(text)
    for section in (settings, settings["metrics"], settings["health"]):
        section["listen"] = "127.0.0.1:0"
    return yaml.safe_dump(settings)


def started(place: Placed) -> Any:
    """The server, with the arguments of the container."""
    serve, config, *arguments = place.pod.arguments()
    assert serve == "serve"
    place.files.config = Path(config.removeprefix("--config="))
    return real_server(place.files, *arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Placed:
    return placed(tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="module")
def server(place: Placed) -> Iterator[RealServer]:
    with started(place) as running:
        yield running


def test_the_audit_key_is_readable_by_the_server_alone(place: Placed) -> None:
    secret, own = (place.root / f"run/sluicegate/{folder}/key" for folder in ("audit-secret", "audit"))

    assert stat.S_IMODE(own.stat().st_mode) == 0o400
    assert read_signing_key(own)
    with pytest.raises(IssuingError):  # which is why there is an init container
        read_signing_key(secret)


async def test_a_server_serves_on_what_the_chart_mounts(place: Placed, server: RealServer) -> None:
    async with Client(server.address, token=server.token()) as client:
        generation = await client.generate("demo-xs", "It was", BRIEF)

    assert generation.text
    log = place.root / "var/lib/sluicegate/audit"
    assert stat.S_IMODE(log.stat().st_mode) & 0o777 == 0o700
    header = json.loads(next(log.glob("*.jsonl")).read_text().splitlines()[0])["entry"]
    assert header["replica"] == "gate-sluicegate-0-2"
    assert (place.root / "var/lib/sluicegate/state.db").exists()


async def test_a_renewed_policy_is_taken_over_without_a_restart(place: Placed, server: RealServer) -> None:
    def loaded() -> float:
        return server.metric("sluicegate_policy_reloads_total", result="loaded")

    async with Client(server.address, token=server.token()) as client:
        with pytest.raises(AccessDenied):
            await client.generate("demo-s", "It was", BRIEF)
        before = loaded()

        place.files.write_release(active="last")
        place.deliver_policy()

        await until("the stage has changed", lambda: loaded() == before + 1)
        await client.generate("demo-s", "It was", BRIEF)

        place.files.write_release(active="first")
        place.files.add_agreement("agr-new", "new-app", partner="new-lab")
        place.deliver_policy()

        await until("the agreement is there", lambda: loaded() >= before + 2)
        async with Client(server.address, token=server.token("new-app")) as partner:
            assert (await partner.generate("demo-s", "It was", BRIEF)).started.agreement == "agr-new"
    assert not server.events("policy_refused")


def test_evidence_stands_beside_the_policy_byte_for_byte(place: Placed) -> None:
    found = read_directory(place.root / "etc/sluicegate/policy/evidence")

    assert [(each.file, each.sha256) for each in found.files] == [("bias.json", digest(EVIDENCE))]
    assert not found.unusable


async def test_an_agreement_that_goes_is_gone(place: Placed, server: RealServer) -> None:
    place.files.agreement_file.unlink()
    place.deliver_policy()

    async with Client(server.address, token=server.token(LAB_APP)) as client:

        async def is_refused() -> bool:
            try:
                await client.generate("demo-s", "It was", BRIEF)
            except AccessDenied:
                return True
            return False

        await until("the partner is refused", is_refused)


def test_helm_test_asks_the_port_of_probes(place: Placed, server: RealServer) -> None:
    (container,) = one(place.objects, "Pod")["spec"]["containers"]
    assert container["args"] == ["gate-sluicegate-0.gate-sluicegate-replicas:50052"]

    asked = run(COMMAND, *container["command"][1:], server.events("serving")[0]["health"])

    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.endswith(": SERVING\n")


def test_a_second_start_finds_its_log_and_state(tmp_path: Path) -> None:
    place = placed(tmp_path)
    with started(place):
        pass

    with started(place) as again:
        assert len(list((place.root / "var/lib/sluicegate/audit").glob("*.jsonl"))) == 2
        assert again.health("") == 1


def test_the_url_of_the_state_is_read_from_the_secret(tmp_path: Path) -> None:
    place = placed(tmp_path, state={"redis": {"existingSecret": "gate-redis"}})

    with started(place) as server:
        assert server.health("") == 1

    assert (place.root / "var/lib/sluicegate/named-in-a-secret.db").exists()


def test_probes_are_answered_where_everybody_else_must_show_certificates(tmp_path: Path) -> None:
    tls = {"existingSecret": "gate-tls", "clientCa": {"existingConfigMap": "gate-callers"}}
    login = {"existingSecret": "gate-scraper", "user": "prometheus"}
    place = placed(tmp_path, tls=tls, metrics={"tls": tls, "basicAuth": login})
    (container,) = one(place.objects, "Pod")["spec"]["containers"]

    with started(place) as server:
        asked = run(COMMAND, *container["command"][1:], server.events("serving")[0]["health"])

    assert asked.returncode == 0, asked.stderr
