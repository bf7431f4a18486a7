"""An agreement's steps: what may follow what, and what becomes of its signature."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from policies import agreement
from signers import DEPLOYMENT, SIGNERS, TRUST, sign_agreement

from sluicegate.auth import agreement_payload
from sluicegate.auth.agreement_lifecycle import closed, renewed, signed
from sluicegate.auth.agreements import Agreement
from sluicegate.auth.errors import EditingError

Document = dict[str, Any]


def terms(document: Document) -> Agreement:
    return Agreement.model_validate(document)


def sign(document: Document) -> Document:
    return signed(document, terms(document), SIGNERS["legal-lead"], "legal-lead", DEPLOYMENT)[0]


@pytest.mark.parametrize("status", ["draft", "active", "suspended"])
def test_a_signature_brings_an_agreement_into_force(status: str) -> None:
    document, payload = signed(
        agreement(status=status), terms(agreement(status=status)), SIGNERS["legal-lead"], "legal-lead", DEPLOYMENT
    )

    assert {**document, "signature": None} == {**agreement(status="active"), "signature": None}
    assert payload == agreement_payload(DEPLOYMENT, agreement(status="active"))
    signature = terms(document).signature
    assert signature is not None
    assert TRUST.holds(signature, payload)


def test_signing_twice_changes_nothing() -> None:
    once = sign(agreement(status="draft"))

    assert sign(once) == once


def test_what_is_terminated_does_not_come_back() -> None:
    document = agreement(status="terminated")

    with pytest.raises(EditingError, match="agr-example-lab is terminated, and does not come back"):
        sign(document)
    with pytest.raises(EditingError, match="agr-example-lab is terminated, and is not renewed"):
        renewed(document, terms(document), "2028-01-20T00:00:00Z", {})
    with pytest.raises(EditingError, match="agr-example-lab is terminated: it is not in force"):
        closed(document, terms(document), "suspended")


def test_a_renewed_agreement_is_not_signed() -> None:
    document = sign_agreement(agreement())

    after = renewed(document, terms(document), "2028-01-20T00:00:00Z", {"sha256": "f" * 64})

    assert after == agreement(
        valid={"from": "2026-01-20T00:00:00Z", "until": "2028-01-20T00:00:00Z"},
        legal={**agreement()["legal"], "sha256": "f" * 64},
    )


@pytest.mark.parametrize("until", ["2027-01-20T00:00:00Z", "2026-06-01T00:00:00Z"])
def test_a_renewal_ends_later(until: str) -> None:
    with pytest.raises(EditingError, match="agr-example-lab ends 2027-01-20T00:00:00Z; name a later end"):
        renewed(agreement(), terms(agreement()), until, {})


@pytest.mark.parametrize(
    ("before", "after"), [("active", "suspended"), ("active", "terminated"), ("suspended", "terminated")]
)
def test_what_is_closed_has_no_signature_to_open_it_again(
    before: str, after: Literal["suspended", "terminated"]
) -> None:
    document = sign_agreement(agreement(status=before))

    assert closed(document, terms(document), after) == agreement(status=after)


def test_a_draft_is_ended_and_not_suspended() -> None:
    draft = agreement(status="draft")

    assert closed(draft, terms(draft), "terminated") == agreement(status="terminated")
    with pytest.raises(EditingError, match="agr-example-lab is draft: it is not in force, so there is nothing to susp"):
        closed(draft, terms(draft), "suspended")


def test_what_is_closed_already_stays_as_it_is() -> None:
    document = sign_agreement(agreement(status="suspended"))

    assert closed(document, terms(document), "suspended") == document
