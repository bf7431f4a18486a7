"""Signed widenings of the policy: opening wider needs signatures, closing never does.

What is signed is the canonical JSON (RFC 8785) of the document as it stands in the file, so a signature stays
good when this code learns new optional members. The trust root comes from the server's settings: a policy
cannot name its own judges.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sluicegate.auth.documents import Document
from sluicegate.auth.encoding import decode_base64url, encode_base64url
from sluicegate.auth.errors import ConfigurationError
from sluicegate.auth.release import ReleasePlan, Signature, Stage, Transition

TRANSITION_DOMAIN = "sluicegate/stage-transition/v1"
AGREEMENT_DOMAIN = "sluicegate/agreement/v1"
LIFTING_DOMAIN = "sluicegate/withdrawal-lifting/v1"
INTERNAL_CLIENT_DOMAIN = "sluicegate/internal-client/v1"
MIN_TRANSITION_SIGNERS = 2

_NOT_IN_PLAN_DIGEST = frozenset({"active", "transitions", "internal"})


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """Who may sign for this deployment, and how many must sign a stage transition."""

    deployment: str
    signers: Mapping[str, Ed25519PublicKey]
    threshold: int = MIN_TRANSITION_SIGNERS

    def __post_init__(self) -> None:
        keys = {key.public_bytes_raw() for key in self.signers.values()}
        if not self.deployment:
            raise ConfigurationError("a trust root needs the id of its deployment")
        if self.threshold < MIN_TRANSITION_SIGNERS:
            raise ConfigurationError(f"a transition needs at least {MIN_TRANSITION_SIGNERS} signers")
        if len(keys) != len(self.signers):
            raise ConfigurationError("two signers have the same key: one person would count twice")
        if len(keys) < self.threshold:
            raise ConfigurationError("the trust root has fewer signers than a transition needs")

    def holds(self, signature: Signature, payload: bytes) -> bool:
        """Whether a known signer made this signature over this payload."""
        key = self.signers.get(signature.signer)
        if key is None:
            return False
        try:
            key.verify(decode_base64url(signature.value), payload)
        except (ValueError, InvalidSignature):
            return False
        return True


def trust_root(deployment: str, signers: Mapping[str, str], threshold: int = 2) -> TrustRoot:
    """A trust root from base64url public keys of 32 octets. Raises ConfigurationError."""
    keys: dict[str, Ed25519PublicKey] = {}
    for name, text in signers.items():
        try:
            keys[name] = Ed25519PublicKey.from_public_bytes(decode_base64url(text))
        except ValueError as error:
            raise ConfigurationError(f"the key of signer {name} is no base64url Ed25519 key") from error
    return TrustRoot(deployment, keys, threshold)


def sign(key: Ed25519PrivateKey, payload: bytes) -> str:
    """The signature as it is written into a policy file."""
    return encode_base64url(key.sign(payload))


def plan_digest(release: Document) -> str:
    """SHA-256 of what a transition's signers agree to: the plan, but for what changes or is signed apart."""
    plan = {name: value for name, value in release.items() if name not in _NOT_IN_PLAN_DIGEST}
    return hashlib.sha256(rfc8785.dumps(plan)).hexdigest()  # type: ignore[arg-type]


def agreement_payload(deployment: str, agreement: Document) -> bytes:
    """What the signer of an agreement signs: the whole file but its `signature`."""
    content = {name: value for name, value in agreement.items() if name != "signature"}
    document = {"domain": AGREEMENT_DOMAIN, "deployment": deployment, "agreement": content}
    return rfc8785.dumps(document)  # type: ignore[arg-type]


def internal_client_payload(deployment: str, issuer: str, client: str) -> bytes:
    """What the signer of an internal client signs."""
    return rfc8785.dumps(
        {"domain": INTERNAL_CLIENT_DOMAIN, "deployment": deployment, "issuer": issuer, "client": client}
    )


def lifting_payload(deployment: str, withdrawal_id: str) -> bytes:
    """What the signers of a lifted withdrawal sign. An id is used once, so a signature opens one door once."""
    document = {"domain": LIFTING_DOMAIN, "deployment": deployment, "withdrawal": withdrawal_id}
    return rfc8785.dumps(document)


def signers_of(trust: TrustRoot, signatures: Iterable[tuple[str, str]], payload: bytes) -> frozenset[str]:
    """The signers whose signatures, as (signer, value), hold for this payload; each counts once."""
    return frozenset(
        signer
        for signer, value in signatures
        if trust.holds(Signature.model_construct(signer=signer, value=value), payload)
    )


def transition_payloads(deployment: str, transitions: Sequence[Transition]) -> list[bytes]:
    """What the signers of each transition sign; each payload holds the digest of the one before."""
    payloads: list[bytes] = []
    for sequence, transition in enumerate(transitions, start=1):
        payloads.append(
            rfc8785.dumps(
                {
                    "domain": TRANSITION_DOMAIN,
                    "deployment": deployment,
                    "plan_sha256": transition.plan_sha256,
                    "from": transition.from_,
                    "to": transition.to,
                    "sequence": sequence,
                    "previous_sha256": hashlib.sha256(payloads[-1]).hexdigest() if payloads else None,
                    "evidence_sha256": list(transition.evidence_sha256),
                }
            )
        )
    return payloads


def transition_problems(plan: ReleasePlan, release: Document, trust: TrustRoot) -> Iterator[tuple[str, str]]:
    """What is wrong with the chain of transitions, as (field, text). All stages it names must exist.

    A transition from a stage to itself says that the plan changed under it; it is signed as well.
    """
    stages = plan.stages_by_id
    payloads = transition_payloads(trust.deployment, plan.transitions)
    reached = plan.stages[0]
    last_signed: int | None = None
    for index, (transition, payload) in enumerate(zip(plan.transitions, payloads, strict=True)):
        field = f"transitions.{index}"
        if must_be_signed(transition, stages):
            last_signed = index
            yield from ((field, text) for text in _signature_problems(transition, payload, trust))
        reached = stages[transition.to]
    if last_signed is not None and plan.transitions[last_signed].plan_sha256 != plan_digest(release):
        text = (
            "was signed for another plan than this one; sign a transition from the active stage to itself"
            f" with plan_sha256: {plan_digest(release)}"
        )
        yield f"transitions.{last_signed}.plan_sha256", text
    if plan.active != reached.id and stages[plan.active].opens_wider_than(reached):
        text = f"no signed transition leads from {reached.id} to {plan.active}"
        yield "active", text


def must_be_signed(transition: Transition, stages: Mapping[str, Stage]) -> bool:
    """Whether the step opens wider, or says that the plan changed under it."""
    return transition.to == transition.from_ or stages[transition.to].opens_wider_than(stages[transition.from_])


def opens_without_a_new_signature(before: Stage, recorded: Sequence[bytes], plan: ReleasePlan, deployment: str) -> bool:
    """Whether taking over `plan` opens wider than `before` on signatures that were already used, or on none.

    Files alone cannot tell an old signed state from the present one, nor a new deployment from one whose
    transitions were deleted; who has seen `recorded`, the payloads of the longest chain so far, can. `plan` must
    have passed `transition_problems`.
    """
    stages = plan.stages_by_id
    if not stages[plan.active].opens_wider_than(before):
        return False
    payloads = transition_payloads(deployment, plan.transitions)
    added = plan.transitions[len(recorded) :]
    continues = payloads[: len(recorded)] == list(recorded)
    return not (continues and any(must_be_signed(transition, stages) for transition in added))


def _signature_problems(transition: Transition, payload: bytes, trust: TrustRoot) -> Iterator[str]:
    if len(transition.by) != len(transition.signatures):
        yield "needs one entry in `signatures` for each in `by`, in the same order"
        return
    if len(transition.by) < trust.threshold:
        yield f"opens wider, so it needs the signatures of {trust.threshold} signers"
    for signer, value in zip(transition.by, transition.signatures, strict=True):
        if signer not in trust.signers:
            yield f"{signer} is no signer of this deployment"
        elif not trust.holds(Signature.model_construct(signer=signer, value=value), payload):
            yield f"the signature of {signer} does not hold for this transition"
