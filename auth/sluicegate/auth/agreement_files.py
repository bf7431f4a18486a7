"""Changing one agreement in a policy directory: whole, and only to what a server would take over."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.comparing import Comparison, compare
from sluicegate.auth.documents import Document, parse_document
from sluicegate.auth.editing import rewritten
from sluicegate.auth.errors import EditingError, PolicyError
from sluicegate.auth.loading import (
    AGREEMENTS_DIRECTORY,
    RELEASE_FILE,
    parse_policy,
    read_evidence,
    read_policy_files,
    validated,
)
from sluicegate.auth.policy import Policy
from sluicegate.auth.replacing import create_file, replace_file
from sluicegate.auth.signatures import TrustRoot


@dataclass(frozen=True, slots=True)
class Change:
    """A policy file as it would be, found to be good; not written yet."""

    path: Path
    before: bytes | None
    """None: there is no such file."""
    after: bytes
    comparison: Comparison
    """What it means, for the whole policy."""

    @property
    def changes_anything(self) -> bool:
        return self.before != self.after

    def write(self) -> None:
        """Put it onto the disk. Raises EditingError, also if somebody else changed the file since it was read."""
        if self.before is not None:
            replace_file(self.path, self.before, self.after)
            return
        try:
            self.path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise EditingError(f"{self.path.parent}: {error.strerror}") from error
        create_file(self.path, self.after, like=self.path.parent.parent / RELEASE_FILE)


@dataclass(frozen=True, slots=True)
class AgreementFiles:
    """The agreements of a policy directory as they were read, with nothing wrong in any of its files."""

    directory: Path
    contents: Mapping[str, bytes]
    policy: Policy

    def find(self, id_: str) -> tuple[str, Document, Agreement]:
        """An agreement: its file's name, its document and its terms. Raises EditingError."""
        agreement = self.policy.agreements.get(id_)
        if agreement is None:
            there = ", ".join(self.policy.agreements) or "none"
            raise EditingError(f"no agreement {id_} in this policy; it has {there}")
        documents = {name: parse_document(raw) for name, raw in self.contents.items() if name != RELEASE_FILE}
        [(name, document)] = [each for each in documents.items() if each[1]["id"] == id_]
        return name, document, agreement

    def changed(self, name: str, document: Document, trust: TrustRoot | None) -> Change:
        """The change that gives a file this content. Raises PolicyError and EditingError."""
        try:
            after = rewritten(self.contents[name], document)
        except EditingError as error:
            raise EditingError(f"{name}: {error}") from error
        return self._change(name, after, trust)

    def added(self, content: bytes) -> Change:
        """The change that adds this agreement, in a file named by its id. Raises PolicyError and EditingError."""
        id_ = validated(Agreement, "the draft", parse_document(content)).id
        name = f"{AGREEMENTS_DIRECTORY}/{id_}.yaml"
        if name in self.contents:
            raise EditingError(f"{name} is there already; it is not written over")
        return self._change(name, content, None)

    def _change(self, name: str, content: bytes, trust: TrustRoot | None) -> Change:
        contents = {**self.contents, name: content}
        policy = parse_policy(self.directory, contents, None)
        if trust is not None:
            try:
                parse_policy(self.directory, contents, trust, self.policy.evidence)
            except PolicyError as error:
                # What others have yet to sign must not keep this from being signed.
                if own := [problem for problem in error.problems if problem.file == name]:
                    raise PolicyError(own) from None
        return Change(self.directory / name, self.contents.get(name), content, compare(self.policy, policy))


def read_files(directory: Path, trust: TrustRoot | None = None) -> AgreementFiles:
    """The files of a policy directory; `trust` None: signatures are not checked. Raises PolicyError."""
    contents = read_policy_files(directory)
    return AgreementFiles(directory, contents, parse_policy(directory, contents, trust, read_evidence(directory)))


def document_digest(path: Path) -> str:
    """SHA-256 of a file of any size, as `legal.sha256` has it. Raises EditingError."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise EditingError(f"{path}: is no regular file")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EditingError(f"{path}: {error.strerror}") from error


def check_document(path: Path, agreement: Agreement) -> None:
    """That the file is the paper behind the agreement. Raises EditingError."""
    if (digest := document_digest(path)) != agreement.legal.sha256:
        raise EditingError(
            f"{path} is not the document of {agreement.id}: its SHA-256 is {digest}, legal.sha256 is"
            f" {agreement.legal.sha256}"
        )
