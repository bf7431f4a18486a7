"""Two people who sign policies, and signed policies made by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from policies import Document, release

from sluicegate.auth import (
    TrustRoot,
    agreement_payload,
    internal_client_payload,
    plan_digest,
    sign,
    transition_payloads,
)
from sluicegate.auth.encoding import encode_base64url
from sluicegate.auth.release import Transition

DEPLOYMENT = "example-production"
SIGNERS = {name: Ed25519PrivateKey.generate() for name in ("release-lead", "safety-lead", "legal-lead")}
TRUST = TrustRoot(DEPLOYMENT, {name: key.public_key() for name, key in SIGNERS.items()})


def signed_plan(
    *steps: tuple[str, str], by: tuple[str, ...] = ("release-lead", "safety-lead"), **changes: Any
) -> Document:
    """A plan whose transitions are these steps, each signed over the whole plan as it is now.

    No stage requires anything, unless `stages` says so.
    """
    plan = release(**{"internal": {"clients": []}, **changes})
    if "stages" not in changes:
        for stage in plan["stages"]:
            stage.pop("requires", None)
    plan["transitions"] = [
        {
            "from": before,
            "to": after,
            "at": f"2026-01-{day:02}T00:00:00Z",
            "plan_sha256": plan_digest(plan),
        }
        for day, (before, after) in enumerate(steps, start=1)
    ]
    sign_transitions(plan, by=by)
    plan["active"] = changes.get("active", steps[-1][1] if steps else plan["stages"][0]["id"])
    return plan


def sign_transitions(
    plan: Document, *, by: tuple[str, ...] = ("release-lead", "safety-lead"), deployment: str = DEPLOYMENT
) -> None:
    """Sign every transition anew."""
    steps = plan["transitions"]
    for step in steps:
        step |= {"by": [], "signatures": []}
    payloads = transition_payloads(deployment, [Transition.model_validate(step) for step in steps])
    for step, payload in zip(steps, payloads, strict=True):
        step["by"] = list(by)
        step["signatures"] = [sign(SIGNERS[name], payload) for name in by]


def sign_agreement(agreement: Document, signer: str = "legal-lead", deployment: str = DEPLOYMENT) -> Document:
    value = sign(SIGNERS[signer], agreement_payload(deployment, agreement))
    return {**agreement, "signature": {"signer": signer, "value": value}}


def sign_internal_client(issuer: str, client: str, signer: str = "release-lead") -> Document:
    value = sign(SIGNERS[signer], internal_client_payload(DEPLOYMENT, issuer, client))
    return {"issuer": issuer, "client": client, "signature": {"signer": signer, "value": value}}


def trust_file(directory: Path) -> Path:
    """The trust root in a file, as the commands take it."""
    keys = {name: encode_base64url(key.public_key().public_bytes_raw()) for name, key in SIGNERS.items()}
    signers = [{"id": name, "public_key": key} for name, key in keys.items()]
    path = directory / "trust.yaml"
    path.write_text(yaml.safe_dump({"deployment": DEPLOYMENT, "signers": signers}))
    return path
