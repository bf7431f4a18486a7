"""What a signer is asked to sign is what the loader checks."""

from __future__ import annotations

import pytest
from policies import Document, agreement, contents, policy
from signers import DEPLOYMENT, signed_plan

from sluicegate.auth import agreement_payload, internal_client_payload, plan_digest, transition_payloads
from sluicegate.auth.documents import parse_document
from sluicegate.auth.errors import SigningError
from sluicegate.auth.signing import Signable, signable

CLIENT = {"issuer": "https://issuer.example", "client": "eval-team"}


def asked(plan: Document, signer: str = "release-lead", **what: object) -> Signable:
    documents = {name: parse_document(raw) for name, raw in contents(plan, agreement()).items()}
    return signable(policy(plan, agreement()).plan, documents, DEPLOYMENT, signer, **what)  # type: ignore[arg-type]


def test_the_payload_of_an_agreement() -> None:
    assert asked(signed_plan(), agreement="agr-example-lab") == Signable(
        agreement_payload(DEPLOYMENT, agreement()), "agreements/0.yaml: signature", is_listed=False
    )


def test_the_payload_of_an_internal_client() -> None:
    assert asked(signed_plan(internal={"clients": [CLIENT]}), internal_client="eval-team") == Signable(
        internal_client_payload(DEPLOYMENT, **CLIENT), "release.yaml: internal.clients.0.signature", is_listed=False
    )


@pytest.mark.parametrize(("signer", "entry"), [("release-lead", 1), ("safety-lead", 2)])
def test_the_payload_of_a_transition_is_the_same_for_each_signer(signer: str, entry: int) -> None:
    plan = signed_plan(("s1", "s2"), ("s2", "s3"))
    payloads = transition_payloads(DEPLOYMENT, policy(plan).plan.transitions)

    assert asked(plan, signer, transition=2) == Signable(
        payloads[1], f"release.yaml: transitions.1.signatures, entry {entry}", is_listed=True
    )


def test_nobody_signs_a_plan_that_is_not_there() -> None:
    plan = signed_plan(("s1", "s2"))
    plan["models"]["gpt2-124m"]["source"] = "./other"

    with pytest.raises(SigningError, match=plan_digest(plan)):
        asked(plan, transition=1)


def test_an_agreement_that_is_not_there_is_not_signed() -> None:
    with pytest.raises(SigningError, match="no agreement agr-nowhere"):
        asked(signed_plan(), agreement="agr-nowhere")
