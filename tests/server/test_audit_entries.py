from __future__ import annotations

import pytest
from audits import SECRET
from issuer import ISSUER, NOW

from sluicegate.auth import anonymous
from sluicegate.server import audit_entries
from sluicegate.server.audit import Pseudonyms
from sluicegate.server.audit.form import check
from sluicegate.server.state import (
    AgreementTarget,
    ClientTarget,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    StageTarget,
    SubjectTarget,
    Target,
    TokenTarget,
    Withdrawal,
)

NAMES = Pseudonyms(SECRET)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (TokenTarget(ISSUER, "jti-1", NOW), NAMES.of("token", ISSUER, "jti-1")),
        (ClientTarget(ISSUER, "lab-app"), NAMES.of("client", ISSUER, "lab-app")),
        (SubjectTarget(ISSUER, "ada"), NAMES.of("subject", ISSUER, "ada")),
        (IssuedBeforeTarget(ISSUER, NOW, NOW + 60), str(NOW)),
        (
            IssuedBeforeTarget(ISSUER, NOW, NOW + 60, client="lab-app", subject="ada"),
            f"{NOW} {NAMES.of('client', ISSUER, 'lab-app')} {NAMES.of('subject', ISSUER, 'ada')}",
        ),
        (KeyTarget(ISSUER, "2026-11-a"), "2026-11-a"),
        (AgreementTarget("agr-example-lab"), "agr-example-lab"),
        (ModelTarget("gpt2-774m"), "gpt2-774m"),
        (StageTarget("s1"), "s1"),
    ],
)
def test_people_clients_and_tokens_are_pseudonyms_in_a_withdrawal(target: Target, told: str) -> None:
    entry = audit_entries.withdrawn(NAMES, anonymous(), Withdrawal("w-1", target, NOW, "Leaked.", "olga"))

    check(entry)
    assert (entry.target, entry.lifted, entry.justification) == (told, False, "Leaked.")


def test_a_lifting_tells_its_own_reason_and_its_signers() -> None:
    withdrawal = Withdrawal("w-1", ModelTarget("gpt2-774m"), NOW, "Leaked.", "olga")

    entry = audit_entries.withdrawn(NAMES, anonymous(), withdrawal, lifted_for="Mended.", signers=["lead", "safety"])

    assert (entry.lifted, entry.justification, entry.signers) == (True, "Mended.", ("lead", "safety"))
