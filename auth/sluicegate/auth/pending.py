"""A transition on its way: proposed, then signed by one person after another, in a file of its own until complete.

The file stands beside release.yaml and no server reads it, so the policy in force stays good while signatures are
collected. It holds no payload: what signers sign follows from it and from the plan as it stands, so that a proposal
from before another transition, or for another plan, is nobody's signature any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from sluicegate.auth.documents import Document, DocumentError, parse_document
from sluicegate.auth.errors import PolicyError, SigningError
from sluicegate.auth.fields import Listing, Sha256, Slug, Terms
from sluicegate.auth.loading import RELEASE_FILE, validated
from sluicegate.auth.release import ReleasePlan, Transition
from sluicegate.auth.replacing import create_file, replace_file
from sluicegate.auth.signatures import TrustRoot, signers_of, transition_payloads

PENDING_FILE = "pending-transition.json"

_Value = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{86}$")]


class PendingTransition(Terms):
    """A proposed step, and the signatures that it has so far."""

    from_: Slug = Field(alias="from")
    to: Slug
    plan_sha256: Sha256
    evidence_sha256: Listing[Sha256]
    signatures: Mapping[Slug, _Value]
    """Ed25519, base64url, by signer."""

    def as_of(self, at: datetime, signers: Mapping[str, str]) -> Document:
        """The entry of `transitions` that it becomes. `signers`: their signatures, by signer."""
        return {
            "from": self.from_,
            "to": self.to,
            "at": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "by": list(signers),
            "evidence_sha256": list(self.evidence_sha256),
            "plan_sha256": self.plan_sha256,
            "signatures": list(signers.values()),
        }

    def payload(self, trust: TrustRoot, plan: ReleasePlan) -> bytes:
        """What is signed, behind the transitions that the plan has."""
        added = Transition.model_validate(self.as_of(datetime.fromtimestamp(0, UTC), {}))
        return transition_payloads(trust.deployment, (*plan.transitions, added))[-1]

    def signed_by(self, trust: TrustRoot, plan: ReleasePlan) -> Mapping[str, str]:
        """The signatures that hold for this plan, by signer."""
        good = signers_of(trust, self.signatures.items(), self.payload(trust, plan))
        return {signer: value for signer, value in self.signatures.items() if signer in good}


def read_pending(directory: Path) -> tuple[PendingTransition, bytes] | None:
    """The proposal of a policy directory and the bytes it stands in; None: there is none. Raises SigningError."""
    path = directory / PENDING_FILE
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SigningError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return validated(PendingTransition, PENDING_FILE, parse_document(raw)), raw
    except (DocumentError, PolicyError) as error:
        raise SigningError(f"{path} is no proposal: {error}; remove it, and propose anew") from error


def write_pending(directory: Path, pending: PendingTransition, before: bytes | None) -> None:
    """Write a proposal in the place of the one that was read as `before`; None: a new one. Raises EditingError."""
    content = json.dumps(pending.model_dump(mode="json", by_alias=True), indent=2).encode() + b"\n"
    if before is None:
        create_file(directory / PENDING_FILE, content, like=directory / RELEASE_FILE)
    else:
        replace_file(directory / PENDING_FILE, before, content)
