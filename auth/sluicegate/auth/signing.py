"""What a signer is asked to sign: the payload of one widening in a policy directory, and where its signature goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluicegate.auth.documents import Document
from sluicegate.auth.errors import SigningError
from sluicegate.auth.loading import RELEASE_FILE
from sluicegate.auth.release import ReleasePlan
from sluicegate.auth.signatures import agreement_payload, internal_client_payload, plan_digest, transition_payloads


@dataclass(frozen=True, slots=True)
class Signable:
    """One payload, and the place in the policy files that its signature belongs to."""

    payload: bytes
    place: str
    is_listed: bool
    """Whether the place is a list of bare signatures, in the order of another list of signers."""


def signable(
    plan: ReleasePlan,
    documents: Mapping[str, Document],
    deployment: str,
    signer: str,
    *,
    agreement: str | None = None,
    internal_client: str | None = None,
    transition: int | None = None,
) -> Signable:
    """The one change that is named. `transition` counts from 1, as the signed sequence number does.

    Raises SigningError; also for a transition that names another plan than the one in the directory, since its
    signers would agree to something they have not before them.
    """
    if agreement is not None:
        return _agreement(documents, deployment, agreement)
    if internal_client is not None:
        return _internal_client(plan, deployment, internal_client)
    assert transition is not None
    return _transition(plan, documents[RELEASE_FILE], deployment, signer, transition)


def _agreement(documents: Mapping[str, Document], deployment: str, agreement: str) -> Signable:
    for file, document in documents.items():
        if file != RELEASE_FILE and document.get("id") == agreement:
            return Signable(agreement_payload(deployment, document), f"{file}: signature", is_listed=False)
    raise SigningError(f"no agreement {agreement} in this policy")


def _internal_client(plan: ReleasePlan, deployment: str, client: str) -> Signable:
    found = [(index, each) for index, each in enumerate(plan.internal.clients) if each.client == client]
    if not found:
        raise SigningError(f"`internal.clients` of {RELEASE_FILE} does not list {client}")
    if len(found) > 1:
        raise SigningError(f"`internal.clients` of {RELEASE_FILE} lists a {client} of more than one issuer")
    [(index, entry)] = found
    payload = internal_client_payload(deployment, entry.issuer, entry.client)
    return Signable(payload, f"{RELEASE_FILE}: internal.clients.{index}.signature", is_listed=False)


def _transition(plan: ReleasePlan, release: Document, deployment: str, signer: str, sequence: int) -> Signable:
    if sequence > len(plan.transitions):
        raise SigningError(f"{RELEASE_FILE} has {len(plan.transitions)} transitions; write number {sequence} first")
    transition = plan.transitions[sequence - 1]
    if transition.plan_sha256 != (digest := plan_digest(release)):
        raise SigningError(f"transition {sequence} is not about this plan; give it plan_sha256: {digest}")
    if signer not in transition.by:
        raise SigningError(f"`by` of transition {sequence} does not name {signer}; add the signer first")
    payload = transition_payloads(deployment, plan.transitions)[sequence - 1]
    position = transition.by.index(signer)
    place = f"{RELEASE_FILE}: transitions.{sequence - 1}.signatures, entry {position + 1}"
    return Signable(payload, place, is_listed=True)
