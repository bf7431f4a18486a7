"""Builds what the Dockerfile says in a fresh Debian and runs it, with chroot in the place of a container engine.

What an engine does beside running the steps is not seen: layers, caches, .dockerignore. Needs root, debootstrap (which
`make e2e` installs), and the network as this machine has it: its resolver, its certificates, its settings of pip.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dockerfile import ROOT, Instruction, Stage, filled_in, stages

SHARED = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/xdg/pip", *os.environ.get("PIP_FIND_LINKS", "").split())
"""Of this machine's, where there are such: every command inside can read them, and no image holds them."""
CERTIFICATES = ssl.get_default_verify_paths().cafile
"""Whom this machine trusts. Not in its usual place inside: packages write there."""
INSIDE = "/run/certificates.pem"
SUITE = "bookworm"
_ENTER = """
show() { mount --bind "$1" "$2"; mount -o remount,bind,ro "$2"; }
mount --bind "$0" "$0"
for path in $SHARED; do if [ -e "$path" ]; then show "$path" "$0$path"; fi; done
if [ -n "$CERTIFICATES" ]; then show "$CERTIFICATES" "$0$INSIDE"; fi
mount -t tmpfs tmpfs "$0/dev"
mkdir "$0/dev/shm"
for device in null zero random urandom; do
  touch "$0/dev/$device"
  mount --bind "/dev/$device" "$0/dev/$device"
done
mount -t proc -o ro proc "$0/proc"
if [ -n "$VOLUME" ]; then
  mount --bind "$0$VOLUME" "$0$VOLUME"
  mount -t tmpfs tmpfs "$0/tmp"
  mount -o remount,bind,ro "$0"
fi
exec chroot "$@"
"""
"""`$0` is the file system, and a mount, so that it can be read-only in this process and its children alone.

No file of this machine can be written from inside, whatever packages do when they are installed.
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A file system, and what a process in it starts with."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    directory: str = "/"
    user: str = "0:0"

    def start(self, *command: str, volume: str = "", **options: Any) -> subprocess.Popen[str]:
        """A process in it. With a `volume`, nothing but this directory of it and `/tmp` can be written."""
        own = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        own |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), INSIDE) if CERTIFICATES else {}
        inner = ["env", "-i", *(f"{name}={value}" for name, value in {**own, **self.environment}.items()), *command]
        changed = [f"--userspec={self.user}", str(self.root), "sh", "-c", 'cd "$0" && exec "$@"', self.directory]
        outer = {"PATH": os.environ["PATH"], "SHARED": " ".join(SHARED), "VOLUME": volume}
        outer |= {"CERTIFICATES": CERTIFICATES or "", "INSIDE": INSIDE}
        entered = ["unshare", "--mount", "sh", "-ceu", _ENTER, str(self.root), *changed]
        return subprocess.Popen([*entered, *inner], env=outer, text=True, **options)

    def run(self, *command: str, volume: str = "") -> subprocess.CompletedProcess[str]:
        """A process in it, to its end, with all that it says."""
        process = self.start(*command, volume=volume, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, said)


def built(directory: Path) -> Image:
    """The image of the last stage. Fails the test at a step that fails, with what it said.

    The index of torch is PyPI's, as for CUDA, since not every machine reaches the other.
    """
    base = directory / "debian"
    subprocess.run(["debootstrap", "--variant=minbase", SUITE, base], check=True, capture_output=True)
    done: dict[str | None, Image] = {}
    for stage in stages(ACCELERATOR="cuda"):
        parent = done.get(stage.parent, Image(base))
        done[stage.name] = _run(stage, _copy(parent, directory / (stage.name or "image")), done)
    return done[None]


def _copy(parent: Image, root: Path) -> Image:
    subprocess.run(["cp", "--archive", "--reflink=auto", parent.root, root], check=True)
    return replace(parent, root=root)


def _run(stage: Stage, image: Image, done: Mapping[str | None, Image]) -> Image:
    """The image after the instructions of a stage."""
    for each in stage.instructions:
        match each.keyword:
            case "RUN":
                _step(image, each.text)
            case "COPY":
                _place(each, done[each.options["from"]].root if "from" in each.options else ROOT, image)
            case "ENV":
                pairs = dict(word.split("=", 1) for word in each.words)
                own = {name: filled_in(value, image.environment) for name, value in pairs.items()}
                image = replace(image, environment={**image.environment, **own})
            case "WORKDIR":
                (image.root / each.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
                image = replace(image, directory=each.text)
            case "USER":
                image = replace(image, user=each.text)
            case "EXPOSE" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                pass
            case other:
                raise ValueError(f"{other} is an instruction that nothing here carries out")
    return image


def _step(image: Image, text: str) -> None:
    for path in (*map(Path, SHARED), Path(INSIDE)):
        place = image.root / path.relative_to("/")
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    done = image.run("/bin/sh", "-c", text)
    assert done.returncode == 0, f"{text}\n{done.stdout[-8_000:]}"


def _place(copy: Instruction, source: Path, image: Image) -> None:
    *names, target = copy.words
    for name in names:
        found = source / name.lstrip("/")
        place = image.root / Path(image.directory, target).relative_to("/")
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__") if source == ROOT else None
            shutil.copytree(found, place, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy(found, place / found.name if target.endswith("/") else place)
