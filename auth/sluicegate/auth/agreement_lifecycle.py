"""The steps of an agreement, as changes of its document: draft → active ⇄ suspended → terminated.

Pure. A step that only closes leaves no signature behind: what was signed would open again by a word in the file.
"""

from __future__ import annotations

from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sluicegate.auth.agreements import Agreement
from sluicegate.auth.documents import Document
from sluicegate.auth.errors import EditingError
from sluicegate.auth.fields import parse_timestamp
from sluicegate.auth.signatures import agreement_payload, sign


def signed(
    document: Document, agreement: Agreement, key: Ed25519PrivateKey, signer: str, deployment: str
) -> tuple[Document, bytes]:
    """The agreement in force by this signature, and the payload that was signed. Raises EditingError.

    A suspended one comes back, a terminated one does not.
    """
    if agreement.status == "terminated":
        raise EditingError(f"{agreement.id} is terminated, and does not come back; draft a new agreement")
    active = {**document, "status": "active"}
    payload = agreement_payload(deployment, active)
    return {**active, "signature": {"signer": signer, "value": sign(key, payload)}}, payload


def renewed(document: Document, agreement: Agreement, until: str, paper: dict[str, str] | None) -> Document:
    """The agreement with a later end, unsigned. `paper`: members of `legal` that are new, for a new document.

    Raises EditingError, also for an end that is no later, and ValueError for one that is no time.
    """
    if agreement.status == "terminated":
        raise EditingError(f"{agreement.id} is terminated, and is not renewed; draft a new agreement")
    if parse_timestamp(until) <= agreement.valid.until:
        raise EditingError(f"{agreement.id} ends {agreement.valid.until:%Y-%m-%dT%H:%M:%SZ}; name a later end")
    valid, legal = document["valid"], document["legal"]
    assert isinstance(valid, dict)
    assert isinstance(legal, dict)
    changed = {**document, "valid": {**valid, "until": until}, "legal": {**legal, **(paper or {})}}
    return _unsigned(changed)


def closed(document: Document, agreement: Agreement, status: Literal["suspended", "terminated"]) -> Document:
    """The agreement suspended or terminated, unsigned. Raises EditingError for a step that would not close it."""
    if agreement.status == status:
        return document
    if status == "suspended" and agreement.status != "active":
        raise EditingError(f"{agreement.id} is {agreement.status}: it is not in force, so there is nothing to suspend")
    return _unsigned({**document, "status": status})


def _unsigned(document: Document) -> Document:
    return {name: value for name, value in document.items() if name != "signature"}
