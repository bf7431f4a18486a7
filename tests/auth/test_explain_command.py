"""`sluicegate policy explain`: why this token would be allowed or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from auth_cli import run
from issuer import AUDIENCE, ISSUER, KEY, KEYS, claims, token
from policies import agreement, release, write_policy
from signers import signed_plan, trust_file

AT = ("--at", "2026-02-02T02:41:00Z")
VERIFY = ("--issuer", ISSUER, "--audience", AUDIENCE)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "policy", None, agreement(token={}, purposes=[], output={}, hours=None))


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [KEY.public_jwk()]}))
    return path


def token_file(directory: Path, text: str) -> Path:
    path = directory.parent / "token"
    path.write_text(text + "\n")
    return path


def claims_file(directory: Path, content: object) -> Path:
    path = directory.parent / "claims.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def outcomes(result: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_an_allowed_call_shows_every_check_and_its_limits(directory: Path) -> None:
    result = run("policy", "explain", directory, "--model", "gpt2-124m", "--token-file", token_file(directory, token()))

    assert result.exit_code == 0
    assert "ALLOWED as public at stage s2, 256 output tokens a call" in result.stdout
    assert result.stdout.count("passed") == 15
    assert "The claims were taken as true" in result.stderr


def test_a_refused_call_shows_the_first_check_that_failed(directory: Path) -> None:
    file = claims_file(directory, claims(scope="generate:gpt2-774m"))

    result = run("policy", "explain", directory, "--model", "gpt2-774m", "--claims", file, "--json")

    told = outcomes(result)
    assert (result.exit_code, told["allowed"], told["token_verified"]) == (1, False, False)
    [failed] = [check for check in told["checks"] if check["passed"] is False]
    assert (failed["row"], failed["reason"], failed["detail"]) == (13, "MODEL_NOT_RELEASED", {"stage": "s2"})
    assert [check["passed"] for check in told["checks"]] == [True] * 4 + [False] + [None] * 10


def test_a_verified_token_passes_rows_3_to_8_before_the_policy_is_asked(directory: Path, jwks: Path) -> None:
    file = token_file(directory, token())

    asked = ["policy", "explain", directory, "--model", "gpt2-124m", "--token-file", file]

    result = run(*asked, "--jwks", jwks, *VERIFY, *AT, "--json")

    told = outcomes(result)
    assert (result.exit_code, told["allowed"], told["token_verified"]) == (0, True, True)
    assert [check["row"] for check in told["checks"]][:8] == [2, 3, 4, 5, 6, 7, 8, 12]
    assert "taken as true" not in result.stderr


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        (token() + "=", 3, "TOKEN_MALFORMED"),
        ("Bearer " + token(), 3, "TOKEN_MALFORMED"),
        (token(KEYS["RS256"]), 5, "TOKEN_KEY_UNKNOWN"),
        (token(aud="elsewhere"), 7, "TOKEN_AUDIENCE_INVALID"),
        (token(iat=1_769_990_000, exp=1_769_990_900), 7, "TOKEN_EXPIRED"),
        (token(cnf={"x5t#S256": "A" * 43}), 8, "TOKEN_BINDING_MISMATCH"),
    ],
)
def test_a_token_that_the_server_would_not_believe_is_refused_by_its_first_row(
    directory: Path, jwks: Path, text: str, row: int, reason: str
) -> None:
    file = token_file(directory, text)
    asked = ["policy", "explain", directory, "--model", "gpt2-124m", "--token-file", file, "--jwks", jwks, *VERIFY, *AT]

    result = run(*asked, "--json")
    shown = run(*asked)

    told = outcomes(result)
    assert (result.exit_code, told["allowed"]) == (1, False)
    [failed] = [check for check in told["checks"] if check["passed"] is False]
    assert (failed["row"], failed["reason"]) == (row, reason)
    assert all(check["passed"] is None for check in told["checks"] if check["row"] > row)
    assert f"REFUSED: {reason}" in shown.stdout
    assert text not in shown.output


def test_only_the_algorithms_of_the_issuer_count(directory: Path, jwks: Path) -> None:
    jwks.write_text(json.dumps({"keys": [KEYS["EdDSA"].public_jwk()]}))
    file = token_file(directory, token(KEYS["EdDSA"]))
    asked = ["policy", "explain", directory, "--model", "gpt2-124m", "--token-file", file, "--jwks", jwks, *VERIFY, *AT]

    assert "REFUSED: TOKEN_ALG_FORBIDDEN" in run(*asked).stdout
    assert run(*asked, "--algorithm", "EdDSA").exit_code == 0


def test_the_longest_lifetime_may_be_the_server_s_own(directory: Path, jwks: Path) -> None:
    file = token_file(directory, token())
    asked = ["policy", "explain", directory, "--model", "gpt2-124m", "--token-file", file, "--jwks", jwks, *VERIFY, *AT]

    shown = run(*asked, "--max-lifetime", "5m")

    assert "REFUSED: TOKEN_LIFETIME_EXCESSIVE max_lifetime_seconds=300" in shown.stdout


def test_a_partner_s_call_depends_on_where_and_when_it_comes_from(directory: Path) -> None:
    file = claims_file(directory, claims(client_id="lab-app", scope="generate:gpt2-774m"))
    asked = ["policy", "explain", directory, "--model", "gpt2-774m", "--claims", file]

    assert "ALLOWED as example-lab" in run(*asked, *AT, "--address", "192.0.2.7").stdout
    assert "REFUSED: NETWORK_NOT_PERMITTED agreement=agr-example-lab" in run(*asked, *AT, "--address", "::1").stdout
    late = run(*asked, "--address", "192.0.2.7", "--at", "2027-01-20T00:00:00Z")
    assert "REFUSED: AGREEMENT_EXPIRED agreement=agr-example-lab" in late.stdout


def test_a_call_without_a_token(directory: Path) -> None:
    asked = ["policy", "explain", directory, "--model", "gpt2-124m", "--anonymous"]
    refused = run(*asked)
    plan = release()
    plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 32}}
    write_policy(directory, plan)

    served = run(*asked)

    assert (refused.exit_code, served.exit_code) == (1, 0)
    assert "REFUSED: TOKEN_MISSING" in refused.stdout
    assert "ALLOWED as public at stage s2, 32 output tokens a call" in served.stdout
    assert served.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give exactly one of --token-file, --claims and --anonymous"),
        (["--anonymous", "--claims", "x"], "give exactly one of --token-file, --claims and --anonymous"),
        (["--token-file", "/nowhere/token"], "/nowhere/token: No such file or directory"),
        (["--claims", "/nowhere/claims"], "/nowhere/claims: No such file or directory"),
        (["--anonymous", "--at", "yesterday"], "write a time in UTC"),
        (["--anonymous", "--at", "0001-01-01T00:00:00+14:00"], "write a time in UTC"),
        (["--anonymous", "--address", "localhost"], "does not appear to be an IPv4 or IPv6 address"),
        (["--anonymous", "--max-lifetime", "1 hour"], "write a duration"),
        (["--anonymous", "--jwks", "/nowhere/jwks"], "give all of them or none"),
        (["--token-file", "/nowhere/token", "--issuer", "https://issuer.example"], "give all of them or none"),
        (["--anonymous", "--trust", "/nowhere/trust"], "/nowhere/trust: No such file or directory"),
    ],
)
def test_wrong_usage_is_told_in_a_line(directory: Path, arguments: list[str], text: str) -> None:
    result = run("policy", "explain", directory, "--model", "gpt2-124m", *arguments)

    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", "").split())


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        ("not json", 2, "Expecting value"),
        ("[]", 2, "must hold one JSON object"),
        ('{"iss": 1, "iss": 2}', 2, "a member appears twice"),
        ("{}", 1, "the server would not take these claims: TOKEN_CLAIMS_INVALID claim=iat"),
    ],
)
def test_claims_that_are_none_are_told(directory: Path, content: str, code: int, text: str) -> None:
    file = claims_file(directory, content)

    result = run("policy", "explain", directory, "--model", "gpt2-124m", "--claims", file)

    assert result.exit_code == code
    assert text in " ".join(result.stderr.replace("│", "").split())


def test_an_unverified_token_that_cannot_be_read_is_told(directory: Path) -> None:
    file = token_file(directory, "no token")

    result = run("policy", "explain", directory, "--model", "gpt2-124m", "--token-file", file)

    assert result.exit_code == 1
    assert result.stderr == "sluicegate: the server would not take this token: TOKEN_MALFORMED\n"


def test_a_key_set_that_the_server_would_refuse_is_told(directory: Path, jwks: Path) -> None:
    jwks.write_text(json.dumps({"keys": [KEY.private_jwk()]}))
    file = token_file(directory, token())
    asked = ["policy", "explain", directory, "--model", "gpt2-124m", "--token-file", file, *VERIFY]

    bad = run(*asked, "--jwks", jwks)
    jwks.write_text(json.dumps({"keys": [KEY.public_jwk()]}))
    unknown = run(*asked, "--jwks", jwks, "--algorithm", "HS256")

    assert bad.exit_code == 1
    assert bad.stderr == (
        f"sluicegate: {jwks}: keys[0]: `d` belongs to a private or symmetric key; publish public keys only\n"
    )
    assert unknown.exit_code == 2
    assert "an issuer needs algorithms out of ES256" in unknown.stderr


def test_a_bad_policy_explains_nothing(directory: Path) -> None:
    write_policy(directory, release(active="s9"))

    result = run("policy", "explain", directory, "--model", "gpt2-124m", "--anonymous")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "release.yaml: active: no such stage; the plan has s1, s2, s3\n"


def test_signatures_are_checked_if_a_trust_root_is_given(directory: Path, tmp_path: Path) -> None:
    write_policy(directory, signed_plan(active="s3"))
    (directory / "agreements" / "0.yaml").unlink()
    asked = ["policy", "explain", directory, "--model", "gpt2-124m", "--anonymous"]

    result = run(*asked, "--trust", trust_file(tmp_path))

    assert result.stderr == "release.yaml: active: no signed transition leads from s1 to s3\n"
