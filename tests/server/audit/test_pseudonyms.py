"""Names of people and clients as the log has them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from audit_logs import opening

from sluicegate.auth import anonymous
from sluicegate.server.audit import AuditSetupError, Pseudonyms, create_secret, read_secret
from sluicegate.server.audit.form import check

ALICE = dataclasses.replace(
    anonymous(), issuer="https://issuer.example", subject="alice", client_id="example-lab-eval", token_id="jti-1"
)
SECRET = bytes(range(32))


def test_a_caller_has_one_pseudonym_in_all_entries_and_replicas() -> None:
    again = dataclasses.replace(ALICE, token_id="jti-2", key_id="another")

    first, second = Pseudonyms(SECRET), Pseudonyms(SECRET)

    assert first.subject(ALICE) == second.subject(again)
    assert first.client(ALICE) == second.client(again)
    assert first.token(ALICE) != second.token(again)


def test_names_are_told_apart_by_kind_and_issuer() -> None:
    pseudonyms = Pseudonyms(SECRET)
    same = dataclasses.replace(ALICE, subject="x", client_id="x", token_id="x")
    elsewhere = dataclasses.replace(same, issuer="https://other.example")
    # An issuer and a name that would be the same text if they were joined.
    shifted = dataclasses.replace(same, issuer="https://issuer.examplex", subject="")

    made = [
        made
        for principal in (same, elsewhere, shifted)
        for made in (pseudonyms.client(principal), pseudonyms.subject(principal), pseudonyms.token(principal))
        if made is not None
    ]

    assert len(set(made)) == len(made) == 8


def test_nobody_without_the_secret_can_try_out_names() -> None:
    guessed = Pseudonyms(bytes(32)).subject(ALICE)

    assert Pseudonyms(SECRET).subject(ALICE) != guessed


def test_a_pseudonym_fits_into_an_entry() -> None:
    pseudonyms = Pseudonyms(SECRET)

    check(
        opening(
            "call-1",
            client=pseudonyms.client(ALICE),
            subject=pseudonyms.subject(ALICE),
            jti_hash=pseudonyms.token(ALICE),
        )
    )


def test_a_caller_without_a_token_has_none() -> None:
    pseudonyms = Pseudonyms(SECRET)

    assert (pseudonyms.client(anonymous()), pseudonyms.subject(anonymous())) == (None, None)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(AuditSetupError, match="32"):
        Pseudonyms(bytes(31))


def test_a_secret_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secret"

    create_secret(path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert len(read_secret(path)) == 32
    with pytest.raises(AuditSetupError, match="exists"):
        create_secret(path)
    path.chmod(0o640)
    with pytest.raises(AuditSetupError, match="chmod 600"):
        read_secret(path)


def test_what_is_no_secret_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_bytes(b"\xff not base64")

    with pytest.raises(AuditSetupError, match="no secret"):
        read_secret(path)
    with pytest.raises(AuditSetupError, match="No such file"):
        read_secret(tmp_path / "absent")
