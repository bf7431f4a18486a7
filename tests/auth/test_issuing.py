"""The issuer of our own: key files with safe modes, key sets never half-written, tokens that the verifier takes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from issuer import AUDIENCE, ISSUER, KEYS, NOW, PEER, verifier

from sluicegate.auth import (
    ALGORITHMS,
    IssuingError,
    SigningKey,
    add_to_key_set,
    create_signing_key,
    issue_token,
    parse_key_set,
    read_signing_key,
    write_signing_key,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def issued(key: SigningKey = KEYS["ES256"], **changes: Any) -> str:
    facts: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "subject": "alice",
        "client_id": "app",
        "scopes": ["generate:gpt2-124m"],
        "now": NOW,
    }
    return issue_token(key, **{**facts, **changes})


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_key_comes_back_from_its_file(tmp_path: Path, algorithm: str) -> None:
    key = KEYS[algorithm]
    path = tmp_path / "key.json"

    write_signing_key(path, key)
    again = read_signing_key(path)

    assert (again.key_id, again.algorithm, again.private_jwk()) == (key.key_id, algorithm, key.private_jwk())


def test_a_private_key_is_readable_by_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_signing_key(tmp_path / "key.json", KEYS["EdDSA"])
    finally:
        os.umask(before)

    assert mode(tmp_path / "key.json") == 0o600


def test_a_private_key_replaces_no_file(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("something else")

    with pytest.raises(IssuingError, match="File exists"):
        write_signing_key(path, KEYS["EdDSA"])
    assert path.read_text() == "something else"


@pytest.mark.parametrize("others", [0o040, 0o004, 0o020, 0o001])
def test_a_private_key_that_others_can_reach_is_not_used(tmp_path: Path, others: int) -> None:
    path = tmp_path / "key.json"
    write_signing_key(path, KEYS["EdDSA"])
    path.chmod(0o600 | others)

    with pytest.raises(IssuingError, match="chmod 600"):
        read_signing_key(path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "is no JSON Web Key"),
        ("[]", "is no JSON Web Key"),
        ("{}", "is no private key of ours"),
        ('{"kty":"oct","k":"AAAA","kid":"k","alg":"HS256"}', "is no private key of ours"),
        (json.dumps(KEYS["EdDSA"].public_jwk()), "holds a public key"),
        (json.dumps({**KEYS["EdDSA"].private_jwk(), "d": "AAAA"}), "is no private key of ours"),
    ],
)
def test_a_file_that_holds_no_private_key_is_refused_without_its_content(
    tmp_path: Path, content: str, text: str
) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(IssuingError, match=text) as caught:
        read_signing_key(path)
    assert "AAAA" not in str(caught.value)


def test_a_public_key_has_no_private_member() -> None:
    for key in KEYS.values():
        assert key.public_jwk().keys().isdisjoint({"d", "p", "q", "dp", "dq", "qi", "k"})


def test_a_second_key_joins_the_set_in_front(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"

    add_to_key_set(path, KEYS["ES256"])
    add_to_key_set(path, KEYS["EdDSA"])

    assert list(parse_key_set(path.read_bytes())) == ["key-EdDSA", "key-ES256"]
    assert mode(path) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["jwks.json"]


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"keys": [KEYS["EdDSA"].private_jwk()]})])
def test_a_bad_set_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(content)

    with pytest.raises(IssuingError, match=r"jwks\.json"):
        add_to_key_set(path, KEYS["ES256"])
    assert path.read_text() == content


def test_a_key_does_not_join_a_set_that_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    add_to_key_set(path, KEYS["ES256"])

    with pytest.raises(IssuingError, match="its kid is used twice"):
        add_to_key_set(path, create_signing_key(key_id="key-ES256"))
    assert list(parse_key_set(path.read_bytes())) == ["key-ES256"]


def test_a_set_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(IssuingError, match="No space left on device"):
        add_to_key_set(tmp_path / "jwks.json", KEYS["ES256"])
    assert list(tmp_path.iterdir()) == []


def test_keys_have_random_names_unless_given_one() -> None:
    assert create_signing_key("EdDSA").key_id != create_signing_key("EdDSA").key_id
    assert create_signing_key("EdDSA", key_id="mine").key_id == "mine"


def test_there_are_no_keys_of_other_algorithms() -> None:
    with pytest.raises(IssuingError, match="'HS256' is none of ES256"):
        create_signing_key("HS256")


def test_a_token_of_ours_is_taken_by_the_verifier_with_all_that_it_says() -> None:
    detail = {"type": "model_partnership", "agreement": "agr-1", "models": ["gpt2-774m"]}

    text = issued(authorization_details=[detail], acr="mfa", authenticated_at=NOW - 1, lifetime_seconds=60)

    principal = verifier().verify(text, PEER)
    assert (principal.client_id, principal.acr, principal.authenticated_at) == ("app", "mfa", NOW - 1)
    assert principal.authorization_details[0].models == frozenset({"gpt2-774m"})
    assert principal.expires_at == NOW + 60


def test_every_token_has_a_name_of_its_own() -> None:
    names = {verifier().verify(issued(), PEER).token_id for _ in range(3)}

    assert len(names) == 3


@pytest.mark.parametrize("seconds", [0, -1, 3601])
def test_a_lifetime_that_would_be_refused_is_not_signed(seconds: int) -> None:
    with pytest.raises(IssuingError, match="1 to 3600 seconds"):
        issued(lifetime_seconds=seconds)


@pytest.mark.parametrize("scopes", [[], ['a"b'], ["a" * 513]])
def test_scopes_that_would_be_refused_are_not_signed(scopes: list[str]) -> None:
    with pytest.raises(IssuingError, match="scope"):
        issued(scopes=scopes)
