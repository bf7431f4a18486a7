"""Envoy as users run it: the chart's configuration, changed where a machine differs, in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from foreign import ROOT
from real_server import WAIT_SECONDS, resident_bytes, wait_for
from redis_server import free_port

ENVOY = ROOT / ".tools/venv/bin/envoy"
FILES = ROOT / "helm/sluicegate/files/envoy"
MOUNTED = "/etc/envoy"
"""Where the configuration looks for files."""
SHOWN_CHARACTERS = 8_000

Document = dict[str, Any]


def configuration(replicas: Sequence[str]) -> Document:
    """The chart's configuration in plaintext, on loopback, before replicas at these addresses."""
    document: Document = yaml.safe_load((FILES / "envoy.yaml").read_text())
    (chain,) = listener(document, "callers")["filter_chains"]
    del chain["transport_socket"]
    before = cluster(document, "replicas")
    del before["transport_socket"]
    set_replicas(document, replicas)
    on_loopback(document)
    transcoder = http_filter(document, "grpc_json_transcoder")["typed_config"]
    transcoder["proto_descriptor"] = str(FILES / "descriptors.binpb")
    return document


def on_loopback(document: Document) -> None:
    """Let the listeners of a configuration take free ports of the loopback interface."""
    admin_port = free_port()
    _address(document["admin"])["port_value"] = admin_port
    (admin,) = cluster(document, "admin")["load_assignment"]["endpoints"][0]["lb_endpoints"]
    _address(admin["endpoint"])["port_value"] = admin_port
    for each in document["static_resources"]["listeners"]:
        _address(each).update(address="127.0.0.1", port_value=0)


def set_replicas(document: Document, replicas: Sequence[str]) -> None:
    """Put addresses, each `HOST:PORT`, in the place of the name of all replicas."""
    (endpoints,) = cluster(document, "replicas")["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, _, port in (replica.rpartition(":") for replica in replicas)
    ]


def listener(document: Document, name: str) -> Document:
    """The listener of this name."""
    (found,) = [each for each in document["static_resources"]["listeners"] if each["name"] == name]
    return dict_of(found)


def cluster(document: Document, name: str) -> Document:
    """The cluster of this name."""
    (found,) = [each for each in document["static_resources"]["clusters"] if each["name"] == name]
    return dict_of(found)


def connections(document: Document) -> Document:
    """How callers' connections are served: the HTTP connection manager."""
    (chain,) = listener(document, "callers")["filter_chains"]
    (found,) = chain["filters"]
    return dict_of(found["typed_config"])


def http_filter(document: Document, name: str) -> Document:
    """The filter of calls of this name, less what all names begin with."""
    (found,) = [each for each in connections(document)["http_filters"] if each["name"] == f"envoy.filters.http.{name}"]
    return dict_of(found)


def dict_of(value: Any) -> Document:
    """The value, which is a mapping."""
    assert isinstance(value, dict)
    return value


class Envoy:
    """A process that has read a configuration; what it says goes to a file."""

    def __init__(self, directory: Path, document: Document) -> None:
        self.document = document
        self.log_file = directory / "envoy.log"
        config = directory / "envoy.yaml"
        config.write_text(yaml.safe_dump(document, sort_keys=False))
        self._admin = f"http://127.0.0.1:{_address(document['admin'])['port_value']}"
        flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", "--drain-time-s", "5")
        with self.log_file.open("wb") as output:
            self._process = subprocess.Popen(
                [ENVOY, "--config-path", config, *flags], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def address(self) -> str:
        """Where callers connect."""
        return self.addresses()["callers"]

    def addresses(self) -> dict[str, str]:
        """Of each listener, by its name."""
        listeners = self.admin("/listeners?format=json").json()["listener_statuses"]
        found = {each["name"]: each["local_address"]["socket_address"] for each in listeners}
        return {name: f"{socket['address']}:{socket['port_value']}" for name, socket in found.items()}

    def admin(self, path: str, method: str = "GET") -> httpx.Response:
        """What the admin port answers."""
        return httpx.request(method, self._admin + path, trust_env=False, timeout=WAIT_SECONDS).raise_for_status()

    def statistic(self, name: str) -> int:
        """A counter or gauge by its whole name; 0 where Envoy has not made it yet."""
        found = self.admin(f"/stats?format=json&filter=^{name}$").json()["stats"]
        return int(found[0]["value"]) if found else 0

    def healthy(self) -> set[str]:
        """The replicas that calls go to, each `HOST:PORT`."""
        clusters = self.admin("/clusters?format=json").json()["cluster_statuses"]
        (hosts,) = [each.get("host_statuses", []) for each in clusters if each["name"] == "replicas"]
        found = set()
        for host in hosts:
            socket = host["address"]["socket_address"]
            is_away = {"failed_active_health_check", "failed_outlier_check", "pending_active_hc"} & {
                key for key, value in host["health_status"].items() if value is True
            }
            if not is_away:
                found.add(f"{socket['address']}:{socket['port_value']}")
        return found

    def wait_for_healthy(self, replicas: Sequence[str]) -> None:
        """Wait until calls go to these replicas and no other."""
        wait_for(f"healthy: {replicas}", lambda: self._is_running() and self.healthy() == set(replicas))

    def access(self) -> list[Document]:
        """The access log so far. An entry comes a moment after its call has ended."""
        lines = self.log_file.read_text(errors="replace").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]

    def resident_bytes(self) -> int:
        """Memory that it holds."""
        return resident_bytes(self._process.pid)

    def wait_until_started(self) -> None:
        """Wait until callers can connect."""
        wait_for("Envoy started", lambda: self._is_running() and self._is_live())

    def end(self) -> None:
        """Make sure that it has ended."""
        self._process.kill()
        self._process.wait()

    def _is_live(self) -> bool:
        try:
            return bool(self.admin("/ready").text == "LIVE\n")
        except httpx.HTTPError:
            return False

    def _is_running(self) -> bool:
        assert self._process.poll() is None, "Envoy ended"
        return True


@contextmanager
def envoy(directory: Path, document: Document) -> Iterator[Envoy]:
    """Envoy with this configuration, ended with the context. If the context fails, its log is shown."""
    process = Envoy(directory, document)
    try:
        process.wait_until_started()
        yield process
    except BaseException:
        print(f"--- {process.log_file}\n{process.log_file.read_text(errors='replace')[-SHOWN_CHARACTERS:]}")
        raise
    finally:
        process.end()


def _address(holder: Document) -> Document:
    return dict_of(holder["address"]["socket_address"])
