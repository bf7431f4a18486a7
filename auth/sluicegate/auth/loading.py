"""Loading a policy directory: all or nothing, and everything that is wrong with it at once.

DIRECTORY/release.yaml            the release plan
DIRECTORY/agreements/*.yaml       one agreement each, if there are any
DIRECTORY/evidence/*.json         evidence that transitions cite, if there is any
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import rfc8785
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.documents import MAX_FILE_BYTES, Document, DocumentError, parse_document
from sluicegate.auth.errors import PolicyError, Problem
from sluicegate.auth.fields import Terms
from sluicegate.auth.plan_checks import plan_problems, repeated
from sluicegate.auth.policy import Policy
from sluicegate.auth.release import ReleasePlan
from sluicegate.auth.requirements import evidence_problems
from sluicegate.auth.signatures import (
    TrustRoot,
    agreement_payload,
    internal_client_payload,
    transition_problems,
)
from sluicegate.evidence import NO_EVIDENCE, EvidenceDirectory, EvidenceError, EvidenceSet

RELEASE_FILE = "release.yaml"
AGREEMENTS_DIRECTORY = "agreements"
EVIDENCE_DIRECTORY = "evidence"
MAX_AGREEMENTS = 1000
MAX_COVERED = 100_000
"""Combinations of client, model and action under all agreements: a small file could otherwise name millions."""

_Terms = TypeVar("_Terms", bound=Terms)


def load_policy(directory: Path, trust: TrustRoot | None) -> Policy:
    """The policy of a directory. Raises PolicyError with every problem.

    `trust` None: signatures are not checked, which only the server's settings may say.
    """
    return parse_policy(directory, read_policy_files(directory), trust, read_evidence(directory))


def read_policy_files(directory: Path) -> Mapping[str, bytes]:
    """The content of every policy file by its name under the directory. Raises PolicyError."""
    release = directory / RELEASE_FILE
    agreements = directory / AGREEMENTS_DIRECTORY
    problems: list[Problem] = []
    try:
        files = [path for path in agreements.iterdir() if path.suffix in (".yaml", ".yml")]
    except FileNotFoundError:
        files = []
    except OSError as error:
        raise PolicyError([Problem(AGREEMENTS_DIRECTORY, "", f"cannot be read: {error.strerror}")]) from error
    if len(files) > MAX_AGREEMENTS:
        raise PolicyError([Problem(AGREEMENTS_DIRECTORY, "", f"holds more than {MAX_AGREEMENTS} files")])
    contents: dict[str, bytes] = {}
    for path in [release, *sorted(files)]:
        name = path.relative_to(directory).as_posix()
        try:
            with path.open("rb") as file:
                contents[name] = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            problems.append(Problem(name, "", f"cannot be read: {error.strerror}"))
    if problems:
        raise PolicyError(problems)
    return contents


def read_evidence(directory: Path, known: EvidenceDirectory | None = None) -> EvidenceSet:
    """The evidence files of a policy directory; `known` has what of them was read before. Raises PolicyError."""
    try:
        return (known or EvidenceDirectory(directory / EVIDENCE_DIRECTORY)).read()
    except EvidenceError as error:
        raise PolicyError([Problem(EVIDENCE_DIRECTORY, "", str(error))]) from error


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """Policy files with nothing wrong in them, but for signatures and evidence, which nobody has looked at yet."""

    plan: ReleasePlan
    agreements: Mapping[str, Agreement]
    """By file, as `documents`."""
    documents: Mapping[str, Document]

    def signature_problems(self, trust: TrustRoot, evidence: EvidenceSet) -> tuple[Problem, ...]:
        """What is wrong with its signatures, and with the evidence that they are for."""
        return (
            *_signature_problems(self.plan, self.agreements, self.documents, trust),
            *(_in_release(field, text) for field, text in evidence_problems(self.plan, evidence)),
        )

    def policy(self, directory: Path, evidence: EvidenceSet, *, is_signed: bool) -> Policy:
        """The revision that these files are. `is_signed`: whether its signatures were found to be good."""
        return Policy(
            revision=hashlib.sha256(rfc8785.dumps(self.documents)).hexdigest(),  # type: ignore[arg-type]
            directory=directory,
            plan=self.plan,
            agreements=MappingProxyType({agreement.id: agreement for agreement in self.agreements.values()}),
            is_signed=is_signed,
            evidence=evidence,
        )


def parse_policy(
    directory: Path, contents: Mapping[str, bytes], trust: TrustRoot | None, evidence: EvidenceSet = NO_EVIDENCE
) -> Policy:
    """The policy of these files. Raises PolicyError with every problem."""
    draft = parse_draft(contents)
    if trust is not None and (problems := draft.signature_problems(trust, evidence)):
        raise PolicyError(problems)
    return draft.policy(directory, evidence, is_signed=trust is not None)


def parse_draft(contents: Mapping[str, bytes]) -> PolicyDraft:
    """The same before anybody has signed it. Raises PolicyError with every problem but those of signatures."""
    problems: list[Problem] = []
    documents: dict[str, Document] = {}
    if RELEASE_FILE not in contents:
        problems.append(Problem(RELEASE_FILE, "", "is missing"))
    for name, raw in contents.items():
        try:
            documents[name] = parse_document(raw)
        except DocumentError as error:
            problems.append(Problem(name, "", str(error)))
    release = documents.get(RELEASE_FILE)
    plan = _try(ReleasePlan, RELEASE_FILE, release, problems) if release is not None else None
    agreements: dict[str, Agreement] = {}
    for name, document in documents.items():
        if name != RELEASE_FILE and (agreement := _try(Agreement, name, document, problems)):
            agreements[name] = agreement
    problems.extend(_agreement_problems(agreements))
    if plan is not None:
        problems.extend(Problem(RELEASE_FILE, field, text) for field, text in plan_problems(plan))
        problems.extend(_internal_problems(plan, agreements))
    problems.extend(_model_problems(release, agreements))
    if problems or plan is None:
        raise PolicyError(problems)
    return PolicyDraft(plan, agreements, documents)


def validated(kind: type[_Terms], file: str, document: Document) -> _Terms:
    """The document as these terms. Raises PolicyError with everything that is wrong with it."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise PolicyError([_problem(file, details) for details in error.errors(include_url=False)]) from error


def _try(kind: type[_Terms], file: str, document: Document, problems: list[Problem]) -> _Terms | None:
    try:
        return validated(kind, file, document)
    except PolicyError as error:
        problems.extend(error.problems)
        return None


def _problem(file: str, details: ErrorDetails) -> Problem:
    field = ".".join(str(part) for part in details["loc"] if part != "[key]")
    context = details.get("ctx", {})
    text = _TEXTS.get(details["type"])
    return Problem(file, field, text.format(**context) if text else details["msg"].removeprefix("Value error, "))


_MAPPING = "must be a mapping of keys to values"
_TEXTS = {
    "extra_forbidden": "is not known here; remove it or correct its spelling",
    "missing": "is missing",
    "string_type": "must be text; put quotes around what looks like a number, true, false or null",
    "int_type": "must be a whole number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "tuple_type": "must be a list",
    "model_type": _MAPPING,
    "mapping_type": _MAPPING,
    "dict_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "too_short": "must have at least one entry",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "union_tag_not_found": "needs {discriminator}",
    "union_tag_invalid": "needs {discriminator} to be one of {expected_tags}",
}


def _in_release(field: str, text: str) -> Problem:
    return Problem(RELEASE_FILE, field, text)


def _agreement_problems(agreements: Mapping[str, Agreement]) -> Iterator[Problem]:
    for name in repeated(agreement.id for agreement in agreements.values()):
        files = [file for file, agreement in agreements.items() if agreement.id == name]
        yield Problem(files[-1], "id", f"{name} is also the id of {files[0]}")
    in_force = {file: agreement for file, agreement in agreements.items() if agreement.may_come_into_force}
    if sum(len(each.clients) * len(each.models) * len(each.actions) for each in in_force.values()) > MAX_COVERED:
        text = f"cover more than {MAX_COVERED} combinations of client, model and action; end some of them"
        yield Problem(AGREEMENTS_DIRECTORY, "", text)
        return
    covering: dict[tuple[str, str, str, str], str] = {}
    for file, agreement in in_force.items():
        for name in repeated(f"{client.client} of {client.issuer}" for client in agreement.clients):
            yield Problem(file, "clients", f"lists {name} twice")
        for client, model, action in itertools.product(
            dict.fromkeys((client.issuer, client.client) for client in agreement.clients),
            agreement.models,
            dict.fromkeys(agreement.actions),
        ):
            other = covering.setdefault((*client, model, action), file)
            if other != file:
                text = f"covers {action} on {model} for client {client[1]}, as {other} does; end one of them"
                yield Problem(file, "", text)


def _model_problems(release: Document | None, agreements: Mapping[str, Agreement]) -> Iterator[Problem]:
    """Looks at the plan as it stands in its file: what else is wrong there hides nothing that is wrong here."""
    models = release.get("models") if release is not None else None
    if not isinstance(models, dict):
        return
    for file, agreement in agreements.items():
        for index, model in enumerate(agreement.models):
            if model not in models:
                yield Problem(file, f"models.{index}", f"no such model as {model} in {RELEASE_FILE}")


def _internal_problems(plan: ReleasePlan, agreements: Mapping[str, Agreement]) -> Iterator[Problem]:
    internal = {(client.issuer, client.client) for client in plan.internal.clients}
    for file, agreement in agreements.items():
        for index, client in enumerate(agreement.clients):
            if (client.issuer, client.client) in internal:
                text = f"{client.client} is an internal client; an internal client has no agreement"
                yield Problem(file, f"clients.{index}", text)


def _signature_problems(
    plan: ReleasePlan, agreements: Mapping[str, Agreement], documents: Mapping[str, Document], trust: TrustRoot
) -> Iterator[Problem]:
    for field, text in transition_problems(plan, documents[RELEASE_FILE], trust):
        yield Problem(RELEASE_FILE, field, text)
    for index, client in enumerate(plan.internal.clients):
        payload = internal_client_payload(trust.deployment, client.issuer, client.client)
        if client.signature is None or not trust.holds(client.signature, payload):
            yield Problem(RELEASE_FILE, f"internal.clients.{index}.signature", _SIGN_IT)
    for file, agreement in agreements.items():
        payload = agreement_payload(trust.deployment, documents[file])
        is_signed = agreement.signature is not None and trust.holds(agreement.signature, payload)
        if agreement.status == "active" and not is_signed:
            yield Problem(file, "signature", _SIGN_IT)


_SIGN_IT = "must be a signer's signature over exactly this content; sign it anew after every change"
