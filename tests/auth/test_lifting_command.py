"""`sluicegate policy sign-lifting`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from auth_cli import run
from signers import DEPLOYMENT, SIGNERS, TRUST

from sluicegate.auth import SigningKey, lifting_payload, signers_of, write_signing_key

ID = "2f1c4a50-6f0e-4a53-9f0e-3b1f0c5f7a11"


def sign_lifting(key: Path, signer: str, *more: str, withdrawal: str = ID) -> Any:
    asked = ("--key", key, "--signer", signer, "--deployment", DEPLOYMENT, *more)
    return run("policy", "sign-lifting", withdrawal, *asked)


@pytest.fixture
def lead(tmp_path: Path) -> Path:
    path = tmp_path / "release-lead.json"
    write_signing_key(path, SigningKey("release-lead", "EdDSA", SIGNERS["release-lead"]))
    return path


def test_what_is_printed_holds_for_this_lifting_and_for_no_other(lead: Path) -> None:
    result = sign_lifting(lead, "release-lead")

    signer, _, value = result.stdout.strip().partition("=")
    signatures = [(signer, value)]
    assert (result.exit_code, signer) == (0, "release-lead")
    assert signers_of(TRUST, signatures, lifting_payload(DEPLOYMENT, ID)) == {"release-lead"}
    assert signers_of(TRUST, signatures, lifting_payload(DEPLOYMENT, ID[::-1])) == frozenset()
    assert signers_of(TRUST, signatures, lifting_payload("another", ID)) == frozenset()


def test_only_the_signature_is_on_standard_output_and_the_private_key_nowhere(lead: Path) -> None:
    result = sign_lifting(lead, "release-lead")

    secret = json.loads(lead.read_bytes())
    assert result.stdout.count("\n") == 1
    assert f'signed {{"deployment":"{DEPLOYMENT}","domain":"sluicegate/withdrawal-lifting/v1",' in result.stderr
    assert f"with the key {secret['x']}" in result.stderr
    assert f"`sluicegate withdraw lift {ID} --signature`" in result.stderr
    assert secret["d"] not in result.output


def test_scripts_get_the_parts(lead: Path) -> None:
    plain, told = sign_lifting(lead, "release-lead"), sign_lifting(lead, "release-lead", "--json")

    parts = json.loads(told.stdout)
    assert json.loads(parts["signed"]) == {
        "deployment": DEPLOYMENT,
        "domain": "sluicegate/withdrawal-lifting/v1",
        "withdrawal": ID,
    }
    assert f"{parts['signer']}={parts['value']}\n" == plain.stdout
    assert told.stderr == ""


@pytest.mark.parametrize("withdrawal", ["", f"{ID} ", f"{ID}\n", "\udcff", "x" * 65])
def test_what_can_be_no_id_is_not_signed(lead: Path, withdrawal: str) -> None:
    result = sign_lifting(lead, "release-lead", withdrawal=withdrawal)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "an id has 1 to 64 characters and no spaces" in result.stderr


def test_a_key_of_the_issuer_signs_no_lifting(tmp_path: Path) -> None:
    key = tmp_path / "issuer.json"
    run("keys", "generate", "--private", key, "--public", tmp_path / "jwks.json")

    wrong, none = sign_lifting(key, "a"), sign_lifting(tmp_path / "none.json", "a")

    assert wrong.stderr == (
        f"sluicegate: {key} is an ES256 key; a signer's is made by `keys generate --algorithm EdDSA`\n"
    )
    assert none.stderr == f"sluicegate: {tmp_path}/none.json: No such file or directory\n"
    assert (wrong.exit_code, none.exit_code, wrong.stdout, none.stdout) == (1, 1, "", "")
