"""The evidence files of a directory: `*.json`, of every kind, the newest found by what it is about."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

from pydantic_core import from_json

from sluicegate.evidence.bias import BiasEvidence
from sluicegate.evidence.errors import EvidenceError
from sluicegate.evidence.finding import FindingEvidence
from sluicegate.evidence.form import MAX_FILE_BYTES, Evidence, digest, parse
from sluicegate.evidence.memorisation import MemorisationEvidence
from sluicegate.evidence.watermark import WatermarkEvidence

MAX_FILES = 256
"""Of a directory; more are not read."""

_KINDS: Mapping[object, type[Evidence]] = {
    kind.model_fields["schema_"].default: kind
    for kind in (BiasEvidence, FindingEvidence, MemorisationEvidence, WatermarkEvidence)
}
_Evidence_co = TypeVar("_Evidence_co", bound=Evidence, covariant=True)
_Kind = TypeVar("_Kind", bound=Evidence)


@dataclass(frozen=True, slots=True)
class Filed(Generic[_Evidence_co]):
    """Evidence with the file that it stands in."""

    evidence: _Evidence_co = field(compare=False)
    sha256: str
    file: str
    """Its name in the directory."""


@dataclass(frozen=True, slots=True)
class EvidenceSet:
    """What a directory held at one time. Equal sets hold the same files, to the byte."""

    files: tuple[Filed[Evidence], ...] = ()
    """The oldest first, by when they ended."""
    unusable: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What is wrong with each file that is no evidence, by its name."""

    def of(self, kind: type[_Kind], model: str, weights_sha256: str) -> tuple[Filed[_Kind], ...]:
        """All of a kind about a model with these weights, the newest first."""
        return tuple(
            Filed(each.evidence, each.sha256, each.file)
            for each in reversed(self.files)
            if isinstance(each.evidence, kind)
            and (each.evidence.subject.model, each.evidence.subject.weights_sha256) == (model, weights_sha256)
        )

    def latest(self, kind: type[_Kind], model: str, weights_sha256: str) -> tuple[Filed[_Kind], ...]:
        """The same, but of each topic the newest alone; sorted by topic."""
        found: dict[tuple[str, ...], Filed[_Kind]] = {}
        for each in self.of(kind, model, weights_sha256):
            found.setdefault(topic(each.evidence), each)
        return tuple(found[topic] for topic in sorted(found))

    def among(self, digests: Iterable[str]) -> EvidenceSet:
        """Those of its files that have these digests, and no other."""
        wanted = frozenset(digests)
        return EvidenceSet(tuple(each for each in self.files if each.sha256 in wanted))


NO_EVIDENCE = EvidenceSet()


class EvidenceDirectory:
    """Reads a directory again and again; what did not change is not parsed anew. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, tuple[tuple[int, int, int], Filed[Evidence] | str]] = {}

    def read(self) -> EvidenceSet:
        """What it holds now; nothing, where it does not exist. Raises EvidenceError for one that cannot be read."""
        try:
            with os.scandir(self._path) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(".json"))
        except FileNotFoundError:
            names = []
        except OSError as fault:
            raise EvidenceError(f"{self._path.name} cannot be read: {fault.strerror}") from fault
        if len(names) > MAX_FILES:
            raise EvidenceError(f"{self._path.name} holds more than {MAX_FILES} files; move old ones away")
        self._seen = {name: self._look(name) for name in names}
        found = [each for _, each in self._seen.values() if isinstance(each, Filed)]
        return EvidenceSet(
            tuple(sorted(found, key=lambda each: (each.evidence.ended, each.sha256))),
            MappingProxyType({name: each for name, (_, each) in self._seen.items() if isinstance(each, str)}),
        )

    def _look(self, name: str) -> tuple[tuple[int, int, int], Filed[Evidence] | str]:
        path = self._path / name
        try:
            state = path.stat()
            stamp = (state.st_ino, state.st_size, state.st_mtime_ns)
            if name in self._seen and self._seen[name][0] == stamp:
                return self._seen[name]
            if not stat.S_ISREG(state.st_mode):
                return stamp, "is no regular file"
            with path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
            return stamp, Filed(parse_any(raw), digest(raw), name)
        except OSError as fault:
            return (0, 0, 0), f"cannot be read: {fault.strerror}"
        except EvidenceError as refused:
            return stamp, str(refused)


def read_directory(path: Path) -> EvidenceSet:
    """What a directory holds now. Raises EvidenceError."""
    return EvidenceDirectory(path).read()


def topic(evidence: Evidence) -> tuple[str, ...]:
    """What it is about, within its kind and its subject: of two on one topic, the newer counts."""
    match evidence:
        case BiasEvidence():
            return (evidence.suite.name,)
        case MemorisationEvidence():
            return evidence.corpus.sha256, evidence.sampling.prompts
        case FindingEvidence():
            return (evidence.finding,)
        case _:
            return ()


def parse_any(raw: bytes) -> Evidence:
    """Evidence of whatever kind these bytes say they are. Raises EvidenceError."""
    if len(raw) > MAX_FILE_BYTES:
        raise EvidenceError(f"is longer than {MAX_FILE_BYTES} bytes")
    try:
        content = from_json(raw)
    except ValueError:
        raise EvidenceError("is not JSON") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    kind = _KINDS.get(schema) if isinstance(schema, str) else None
    if kind is None:
        raise EvidenceError(f"has a `schema` that is none of {', '.join(map(str, _KINDS))}")
    return parse(raw, kind)
