"""`sluicegate keys` and `sluicegate token`: files with safe modes, no secret shown, no traceback."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from auth_cli import run
from issuer import AUDIENCE, ISSUER, KEY, PEER, claims, forge, header, token

from sluicegate.auth import (
    ALGORITHMS,
    TokenVerifier,
    TrustedIssuer,
    create_signing_key,
    parse_key_set,
    read_signing_key,
    write_signing_key,
)
from sluicegate.auth.explaining import FixedKeys


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A private key in a file, its public key in jwks.json beside it."""
    run("keys", "generate", "--private", tmp_path / "private.json", "--public", tmp_path / "jwks.json", "--kid", "k1")
    return tmp_path / "private.json"


def issue(private: Path, *more: object) -> Any:
    facts = ["--issuer", ISSUER, "--audience", AUDIENCE, "--client", "app", "--scope", "generate:gpt2-124m"]
    return run("token", "issue", "--key", private, *facts, *more)


# --- keys generate


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_a_key_is_made_and_published(tmp_path: Path, algorithm: str) -> None:
    private, public = tmp_path / "private.json", tmp_path / "jwks.json"

    result = run("keys", "generate", "--private", private, "--public", public, "--algorithm", algorithm, "--json")

    made = json.loads(result.stdout)
    assert (result.exit_code, made["alg"]) == (0, algorithm)
    assert list(parse_key_set(public.read_bytes())) == [made["kid"]]
    assert read_signing_key(private).key_id == made["kid"]
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert ("public_key" in made) == (algorithm == "EdDSA")


def test_the_private_key_is_not_shown(tmp_path: Path) -> None:
    private = tmp_path / "private.json"

    result = run("keys", "generate", "--private", private, "--public", tmp_path / "jwks.json", "--algorithm", "EdDSA")

    secret = json.loads(private.read_bytes())
    assert secret["d"] not in result.output
    assert f"as the public_key of a policy signer: {secret['x']}" in result.stdout


def test_a_key_file_is_never_replaced(private: Path) -> None:
    before = private.read_bytes()

    result = run("keys", "generate", "--private", private, "--public", private.with_name("jwks.json"))

    assert (result.exit_code, result.stderr) == (1, f"sluicegate: {private}: File exists\n")
    assert private.read_bytes() == before


@pytest.mark.parametrize(
    ("public", "kid", "text"),
    [
        ("nowhere/jwks.json", "k2", "No such file or directory"),
        ("private.json", "k2", "private.json: "),
        ("jwks.json", "k1", "its kid is used twice"),
        ("jwks.json", "k" * 129, "`kid` must be a printable string"),
    ],
)
def test_a_key_that_cannot_be_published_is_not_kept(private: Path, public: str, kid: str, text: str) -> None:
    second = private.with_name("second.json")

    result = run("keys", "generate", "--private", second, "--public", private.parent / public, "--kid", kid)

    assert result.exit_code == 1
    assert text in result.stderr
    assert not second.exists()


def test_another_algorithm_is_refused(tmp_path: Path) -> None:
    result = run("keys", "generate", "--private", tmp_path / "p", "--public", tmp_path / "j", "--algorithm", "HS256")

    assert (result.exit_code, result.stderr) == (1, "sluicegate: 'HS256' is none of ES256, EdDSA, PS256, RS256\n")
    assert list(tmp_path.iterdir()) == []


# --- token issue


def test_an_issued_token_is_printed_alone_and_is_good(private: Path) -> None:
    result = issue(private, "--lifetime", "1h", "--subject", "alice")

    keys = FixedKeys(parse_key_set(private.with_name("jwks.json").read_bytes()))
    text = result.stdout.removesuffix("\n")
    issued_at = json.loads(run("token", "inspect", "-", "--json", stdin=text).stdout)["claims"]["iat"]
    trusted = TrustedIssuer(ISSUER, AUDIENCE, frozenset({"ES256"}), keys)
    principal = TokenVerifier([trusted], clock=lambda: issued_at).verify(text, PEER)
    assert (principal.subject, principal.client_id) == ("alice", "app")
    assert principal.expires_at == issued_at + 3600


def test_a_token_may_claim_an_agreement_and_narrow_it(private: Path) -> None:
    more = ["--agreement", "agr-1", "--model", "gpt2-774m", "--purpose", "study", "--acr", "mfa"]

    result = issue(private, *more, "--thumbprint", "A" * 43)

    said = json.loads(run("token", "inspect", "-", "--json", stdin=result.stdout).stdout)["claims"]
    assert said["authorization_details"] == [
        {"type": "model_partnership", "agreement": "agr-1", "models": ["gpt2-774m"], "purpose": "study"}
    ]
    assert (said["acr"], said["auth_time"], said["cnf"]) == ("mfa", said["iat"], {"x5t#S256": "A" * 43})


@pytest.mark.parametrize("more", [["--acr", "mfa"], []])
def test_a_token_may_tell_of_an_earlier_authentication(private: Path, more: list[str]) -> None:
    result = issue(private, "--authenticated-ago", "8h", *more)

    said = json.loads(run("token", "inspect", "-", "--json", stdin=result.stdout).stdout)["claims"]
    assert (said["iat"] - said["auth_time"], said.get("acr")) == (8 * 3600, "mfa" if more else None)


@pytest.mark.parametrize(("ago", "code"), [("soon", 2), ("-1h", 2), ("9999999d", 1)])
def test_an_authentication_at_no_time_that_there_is_gets_no_token(private: Path, ago: str, code: int) -> None:
    result = issue(private, "--authenticated-ago", ago)

    assert (result.exit_code, result.stdout) == (code, "")


def test_a_token_in_a_file_is_its_owner_s_alone_and_not_shown(private: Path) -> None:
    output = private.with_name("token")

    result = issue(private, "--output", output)

    assert (result.exit_code, result.output) == (0, "")
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert run("token", "inspect", output).exit_code == 0


def test_a_token_replaces_no_file(private: Path) -> None:
    result = issue(private, "--output", private)

    assert (result.exit_code, result.stderr) == (1, f"sluicegate: {private}: File exists\n")


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (["--lifetime", "2h"], 1, "a token lives 1 to 3600 seconds"),
        (["--lifetime", "soon"], 2, "write a duration as a number and s, m, h or d"),
        (["--scope", 'a"b'], 1, "scope is not a list of scope tokens"),
        (["--model", "gpt2-124m"], 2, "--model and --purpose narrow an --agreement; name one"),
        (["--thumbprint", "short"], 1, "no server would take this token: TOKEN_CLAIMS_INVALID claim=cnf"),
        (["--subject", "a\nb"], 1, "no server would take this token: TOKEN_CLAIMS_INVALID claim=sub"),
        (["--output", "/nowhere/token"], 1, "/nowhere/token: No such file or directory"),
    ],
)
def test_a_token_that_no_server_would_take_is_not_printed(private: Path, more: list[str], code: int, text: str) -> None:
    result = issue(private, *more)

    assert (result.exit_code, result.stdout) == (code, "")
    assert text in " ".join(result.stderr.replace("│", "").split())


def test_a_key_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    open_key = tmp_path / "open.json"
    write_signing_key(open_key, create_signing_key())
    open_key.chmod(0o644)

    assert issue(tmp_path / "none.json").stderr == f"sluicegate: {tmp_path}/none.json: No such file or directory\n"
    assert issue(open_key).stderr == f"sluicegate: {open_key} can be read by others; run: chmod 600 {open_key}\n"
    assert issue(open_key).exit_code == 1


# --- token inspect


def test_inspecting_says_that_nothing_was_verified() -> None:
    result = run("token", "inspect", "-", stdin=token() + "\n")

    assert result.exit_code == 0
    assert "NOT VERIFIED" in result.stdout
    assert "2026-02-02 02:40:00 UTC" in result.stdout
    assert json.loads(run("token", "inspect", "-", "--json", stdin=token()).stdout)["verified"] is False


def test_a_claim_that_the_server_would_refuse_is_named() -> None:
    result = run("token", "inspect", "-", stdin=token(exp="soon"))

    assert result.exit_code == 1
    assert "The server would refuse it: TOKEN_CLAIMS_INVALID claim=exp" in result.stdout


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", "é.é.é", "x" * 100_000])
def test_what_is_no_token_is_not_shown(text: str) -> None:
    result = run("token", "inspect", "-", stdin=text)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "sluicegate: not a token that the server would read: TOKEN_MALFORMED\n"


def test_a_token_cannot_speak_to_the_terminal() -> None:
    spoken = forge({**header(), "\x1b]0;owned": "\x1b[2J"}, claims(sub="\x1b[31m\u202e[bold]x[/bold]"), KEY)

    result = run("token", "inspect", "-", stdin=spoken)

    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "[bold]x[/bold]" in result.stdout


@pytest.mark.parametrize("value", [-1, 10**17, 1.5, True, "2026", None])
def test_a_time_that_is_none_is_shown_as_it_is(value: object) -> None:
    result = run("token", "inspect", "-", stdin=forge(header(), {**claims(), "exp": value}))

    assert result.exit_code == 1
    assert "Traceback" not in result.output


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    result = run("token", "inspect", tmp_path / "none")

    assert result.exit_code == 2
    assert "No such file" in result.stderr
