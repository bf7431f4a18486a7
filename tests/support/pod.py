"""A pod of the chart on this machine: its volumes as the kubelet lays them out, below a directory of a test.

ConfigMaps are written as the kubelet's AtomicWriter does: files are links through `..data`, which is swapped for a
change. Files of Secrets are open to the group, as `fsGroup` makes them.
"""

from __future__ import annotations

import itertools
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chart import Document

Files = Mapping[str, str]

_MOUNTED = re.compile(r"(?<![\w.])/(?:etc|run|var/lib|var/cache)/sluicegate(?=/)")
_VARIABLE = re.compile(r"\$\((\w+)\)")


class Pod:
    """The pod of a StatefulSet. `maps` and `secrets` are the ConfigMaps and Secrets of the namespace, by name."""

    def __init__(
        self, root: Path, stateful_set: Document, maps: Mapping[str, Files], secrets: Mapping[str, Files]
    ) -> None:
        self._root = root
        self._spec: Document = stateful_set["spec"]["template"]["spec"]
        self._maps, self._secrets = dict(maps), secrets
        self._revisions = itertools.count()
        self.name = f"{stateful_set['metadata']['name']}-0"
        claims = [{"name": each["metadata"]["name"]} for each in stateful_set["spec"]["volumeClaimTemplates"]]
        self._volumes: list[Document] = [*self._spec["volumes"], *claims]
        for volume in self._volumes:
            self._make(volume)
        for container in (*self._spec.get("initContainers", ()), self._server):
            self._mount(container)

    def run_init_containers(self) -> None:
        """Each to its end. Raises CalledProcessError."""
        for container in self._spec.get("initContainers", ()):
            arguments = [self.own(text) for text in container["args"]]
            subprocess.run([*container["command"], *arguments], check=True, timeout=60)

    def arguments(self) -> list[str]:
        """Of the server, with variables filled in as the kubelet does."""
        values = {each["name"]: self._value(each) for each in self._server["env"]}
        return [self.own(_VARIABLE.sub(lambda match: values[match[1]], text)) for text in self._server["args"]]

    def change_map(self, name: str, files: Files) -> None:
        """Give a ConfigMap other content, in all volumes that it is in."""
        self._maps[name] = files
        for volume in self._volumes:
            if volume.get("configMap", {}).get("name") == name:
                self._make(volume)

    def own(self, text: str) -> str:
        """A text with the paths of mounts where they are here."""
        return _MOUNTED.sub(lambda match: f"{self._root}{match[0]}", text)

    @property
    def _server(self) -> Document:
        (container,) = self._spec["containers"]
        found: Document = container
        return found

    def _value(self, variable: Document) -> str:
        if "value" in variable:
            return str(variable["value"])
        source: Document = variable["valueFrom"]
        if "fieldRef" in source:
            assert source["fieldRef"] == {"fieldPath": "metadata.name"}
            return self.name
        return self._secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]

    def _make(self, volume: Document) -> None:
        directory = self._root / "volumes" / volume["name"]
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o2770)
        if "configMap" in volume:
            self._project(directory, self._maps[volume["configMap"]["name"]], volume["configMap"], mode=0o644)
        elif "secret" in volume:
            self._project(directory, self._secrets[volume["secret"]["secretName"]], volume["secret"], mode=0o440)

    def _project(self, directory: Path, files: Files, source: Mapping[str, Any], *, mode: int) -> None:
        named = {
            item["key"]: item["path"] for item in source.get("items", [{"key": key, "path": key} for key in files])
        }
        revision = directory / f"..2026_01_20_00_00_00.{next(self._revisions)}"
        revision.mkdir()
        for key, path in named.items():
            (revision / path).write_text(self.own(files[key]))
            (revision / path).chmod(mode)
        new = directory / "..data_tmp"
        new.symlink_to(revision.name)
        new.replace(directory / "..data")
        for old in directory.iterdir():
            if old.is_symlink() and not old.name.startswith("..") and not old.exists():
                old.unlink()
        for path in named.values():
            if not (directory / path).is_symlink():
                (directory / path).symlink_to(f"..data/{path}")

    def _mount(self, container: Document) -> None:
        for mount in sorted(container["volumeMounts"], key=lambda each: len(each["mountPath"])):
            assert "subPath" not in mount, "a volume that is mounted by parts is never renewed"
            place = Path(str(self._root) + mount["mountPath"])
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(self._root / "volumes" / mount["name"])
