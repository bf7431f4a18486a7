"""Changing an agreement in a policy directory: found, seen to be good, and written whole."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from policies import agreement, write_policy
from signers import TRUST, sign_agreement, signed_plan

from sluicegate.auth.agreement_files import AgreementFiles, check_document, document_digest, read_files
from sluicegate.auth.drafting import drafted
from sluicegate.auth.errors import EditingError, PolicyError

Document = dict[str, Any]
OTHER = {
    "id": "agr-other",
    "partner": "other-lab",
    "clients": [{"issuer": "https://issuer.example", "client": "other"}],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "policy"


def files(directory: Path, *agreements: Document) -> AgreementFiles:
    return read_files(write_policy(directory, signed_plan(), *agreements))


def refusal(found: AgreementFiles, document: Document, **more: Any) -> str:
    with pytest.raises((PolicyError, EditingError)) as caught:
        found.changed("agreements/0.yaml", document, more.get("trust"))
    return str(caught.value)


def test_an_agreement_is_found_by_its_id(directory: Path) -> None:
    found = files(directory, agreement(**OTHER), agreement())

    name, document, terms = found.find("agr-example-lab")

    assert (name, terms.partner) == ("agreements/1.yaml", "example-lab")
    assert document == agreement()
    with pytest.raises(EditingError, match="no agreement agr-x in this policy; it has agr-other, agr-example-lab"):
        found.find("agr-x")


def test_a_change_says_what_it_means_and_is_written_when_asked(directory: Path) -> None:
    change = files(directory, agreement()).changed("agreements/0.yaml", agreement(status="suspended"), None)

    [difference] = change.comparison.differences
    assert (difference.field, difference.after) == ("status", "suspended")
    assert b"status: active" in change.path.read_bytes()
    change.write()
    assert read_files(directory).policy.agreements["agr-example-lab"].status == "suspended"


def test_what_a_server_would_refuse_is_no_change(directory: Path) -> None:
    found = files(directory, agreement(), agreement(**OTHER))

    assert refusal(found, agreement(models=["gpt2-9000b"])) == (
        "agreements/0.yaml: models.0: no such model as gpt2-9000b in release.yaml"
    )
    assert "also the id of agreements/0.yaml" in refusal(found, agreement(id="agr-other"))


def test_a_change_is_signed_by_a_signer_of_the_server(directory: Path) -> None:
    found = files(directory, agreement(status="draft"))

    assert "agreements/0.yaml: signature: must be a signer's signature" in refusal(found, agreement(), trust=TRUST)
    assert found.changed("agreements/0.yaml", sign_agreement(agreement()), TRUST).changes_anything


def test_what_others_have_yet_to_sign_keeps_nobody_from_signing(directory: Path) -> None:
    found = files(directory, agreement(), agreement(**OTHER))

    assert found.changed("agreements/0.yaml", sign_agreement(agreement()), TRUST).changes_anything


def test_a_policy_that_is_bad_already_is_not_changed(directory: Path) -> None:
    with pytest.raises(PolicyError, match="is also the id of"):
        files(directory, agreement(), agreement())


def test_a_new_agreement_has_a_file_of_its_own(directory: Path) -> None:
    found = read_files(write_policy(directory, signed_plan()))
    (directory / "agreements").rmdir()

    change = found.added(drafted(agreement(status="draft")))

    change.write()
    assert change.path == directory / "agreements" / "agr-example-lab.yaml"
    assert list(read_files(directory).policy.agreements) == ["agr-example-lab"]


@pytest.mark.parametrize("id_", ["../release", "a/b", "", ".", "agr-x.yaml", "A", "agr-x\n", "/etc/passwd", "a" * 64])
def test_an_id_that_is_none_becomes_no_path(directory: Path, id_: str) -> None:
    found = files(directory)

    with pytest.raises(PolicyError) as caught:
        found.added(drafted(agreement(id=id_, status="draft")))

    assert str(caught.value) == ("the draft: id: write at most 63 lower-case letters, digits and `-`, a letter first")


def test_a_new_agreement_takes_nobodys_place(directory: Path) -> None:
    write_policy(directory, signed_plan())
    (directory / "agreements" / "agr-other.yaml").write_bytes(drafted(agreement(status="draft")))
    found = read_files(directory)

    with pytest.raises(EditingError, match=r"agreements/agr-other.yaml is there already; it is not written over"):
        found.added(drafted(agreement(**OTHER, status="draft")))
    with pytest.raises(PolicyError, match="agr-example-lab is also the id of"):
        found.added(drafted(agreement(status="draft")))


def test_a_directory_that_cannot_be_made_is_told_of(directory: Path) -> None:
    found = read_files(write_policy(directory, signed_plan()))
    change = found.added(drafted(agreement(status="draft")))
    (directory / "agreements").rmdir()
    (directory / "agreements").write_bytes(b"")

    with pytest.raises(EditingError, match="File exists"):
        change.write()


def test_a_document_of_any_size_is_hashed_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "huge.pdf"
    with path.open("wb") as file:
        file.truncate(32 << 20)
    expected = hashlib.sha256()
    for _ in range(32):
        expected.update(bytes(1 << 20))

    tracemalloc.start()
    digest = document_digest(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert digest == expected.hexdigest()
    assert peak_bytes < 1 << 20


def test_a_document_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path, text in (
        (tmp_path / "pipe", "is no regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such"),
    ):
        with pytest.raises(EditingError, match=text):
            document_digest(path)


def test_a_document_is_the_one_that_was_agreed_on(tmp_path: Path, directory: Path) -> None:
    paper = tmp_path / "agreement.pdf"
    paper.write_bytes(b"as agreed")
    legal = {**agreement()["legal"], "sha256": hashlib.sha256(b"as agreed").hexdigest()}
    _, _, terms = files(directory, agreement(legal=legal)).find("agr-example-lab")

    check_document(paper, terms)

    paper.write_bytes(b"as agreed, almost")
    with pytest.raises(EditingError, match="is not the document of agr-example-lab: its SHA-256 is"):
        check_document(paper, terms)
