"""`sluicegate policy check` and `policy sign`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evidence_files as made
import pytest
import yaml
from auth_cli import run
from policies import agreement, release, write_policy
from signers import DEPLOYMENT, SIGNERS, TRUST, signed_plan, trust_file

from sluicegate.auth import SigningKey, load_policy, plan_digest, write_signing_key
from sluicegate.evidence import digest


def key_file(directory: Path, signer: str) -> Path:
    path = directory / f"{signer}.json"
    if not path.exists():
        write_signing_key(path, SigningKey(signer, "EdDSA", SIGNERS[signer]))
    return path


def sign(directory: Path, signer: str, *more: object) -> Any:
    """`policy sign` with the key of a signer, which lies beside the policy."""
    key = key_file(directory.parent, signer)
    return run("policy", "sign", directory, "--key", key, "--signer", signer, "--deployment", DEPLOYMENT, *more)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "policy"


# --- check


def test_a_good_policy_is_shown(directory: Path) -> None:
    write_policy(directory, None, agreement())

    result = run("policy", "check", directory)

    assert (result.exit_code, result.stderr) == (0, "")
    for text in ("stage s2 (medium)", "agr-example-lab", "Signatures were not checked"):
        assert text in result.stdout
    assert f"plan_sha256: {plan_digest(release())}" in result.stdout


def test_a_model_that_the_stage_leaves_out_is_open_to_nobody(directory: Path) -> None:
    write_policy(directory, release(active="s1"))

    shown = run("policy", "check", directory).stdout

    [line] = [line for line in shown.splitlines() if "gpt2-1558m" in line]
    assert "nobody" in line


def test_evidence_that_is_none_is_named_and_hinders_nothing(directory: Path) -> None:
    write_policy(directory)
    path = made.write(directory / "evidence", "bias.json", made.bias("gpt2-774m"))
    (directory / "evidence" / "notes.json").write_text("{}\n")

    shown, told = run("policy", "check", directory), run("policy", "check", directory, "--json")

    assert (shown.exit_code, told.exit_code) == (0, 0)
    assert "evidence/notes.json: has a `schema` that is none of" in shown.stderr
    assert json.loads(told.stdout)["evidence"] == {"bias.json": digest(path.read_bytes())}
    assert list(json.loads(told.stdout)["unusable_evidence"]) == ["notes.json"]


def test_a_good_policy_is_told_to_scripts(directory: Path, tmp_path: Path) -> None:
    plan = signed_plan(("s1", "s2"))
    write_policy(directory, plan)

    told = json.loads(run("policy", "check", directory, "--trust", trust_file(tmp_path), "--json").stdout)

    assert told == {
        "valid": True,
        "revision": load_policy(directory, TRUST).revision,
        "plan_sha256": plan_digest(plan),
        "stage": "s2",
        "models": list(plan["models"]),
        "agreements": [],
        "signatures_checked": True,
        "evidence": {},
        "unusable_evidence": {},
    }


def test_every_problem_is_listed(directory: Path) -> None:
    write_policy(directory, release(active="s9", flavour="mint"), agreement(models=["gpt2-9000b"]))

    result = run("policy", "check", directory)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "release.yaml: flavour: is not known here; remove it or correct its spelling",
        "agreements/0.yaml: models.0: no such model as gpt2-9000b in release.yaml",
        "2 problem(s); the server would keep the revision that it has",
    ]


def test_every_problem_is_told_to_scripts(directory: Path) -> None:
    write_policy(directory, release(active="s9"))

    result = run("policy", "check", directory, "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "valid": False,
        "problems": [
            {"file": "release.yaml", "field": "active", "text": "no such stage; the plan has s1, s2, s3"},
        ],
    }


def test_a_policy_cannot_speak_to_the_terminal(directory: Path) -> None:
    write_policy(directory)
    (directory / "release.yaml").write_bytes(b'"\\e[31mred": 1\n')

    result = run("policy", "check", directory)

    assert "\x1b" not in result.output
    assert "red: is not known here" in result.stderr


def test_a_directory_that_is_not_there_is_no_policy(tmp_path: Path) -> None:
    result = run("policy", "check", tmp_path / "none")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("release.yaml: cannot be read: No such file or directory\n")


def test_what_is_not_signed_is_refused(directory: Path, tmp_path: Path) -> None:
    write_policy(directory, signed_plan(active="s2"), agreement())

    result = run("policy", "check", directory, "--trust", trust_file(tmp_path))

    assert result.exit_code == 1
    assert "active: no signed transition leads from s1 to s2" in result.stderr
    assert "agreements/0.yaml: signature: must be a signer's signature" in result.stderr


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("- a", "must be a mapping of keys to values"),
        ("{}", "deployment: is missing"),
        ('{"deployment": "d", "signers": {"a": "b"}}', "signers: must be a list"),
        ('{"deployment": "d", "signers": []}', "fewer signers than a transition needs"),
        ('{"deployment": "d", "signers": [{"id": "a", "public_key": "b"}]}', "signer a is no base64url Ed25519 key"),
        ('{"deployment": "d", "threshold": 1, "signers": []}', "needs at least 2 signers"),
        ('{"deployment": "d", "signers": [{"id": "a", "public_key": "b"}, {"id": "a", "public_key": "c"}]}', "twice"),
    ],
)
def test_a_trust_root_that_is_none_is_wrong_usage(directory: Path, tmp_path: Path, content: str, text: str) -> None:
    write_policy(directory)
    (tmp_path / "trust.yaml").write_text(content)

    result = run("policy", "check", directory, "--trust", tmp_path / "trust.yaml")

    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", "").split())


# --- sign


def test_an_agreement_is_signed(directory: Path, tmp_path: Path) -> None:
    write_policy(directory, signed_plan(), agreement())

    result = sign(directory, "legal-lead", "--agreement", "agr-example-lab")

    assert result.exit_code == 0
    assert "put this into agreements/0.yaml: signature" in result.stderr
    with (directory / "agreements" / "0.yaml").open("a") as file:
        file.write(result.stdout)
    assert run("policy", "check", directory, "--trust", trust_file(tmp_path)).exit_code == 0


def test_an_internal_client_is_signed(directory: Path, tmp_path: Path) -> None:
    plan = signed_plan(internal={"clients": [{"issuer": "https://issuer.example", "client": "eval-team"}]})
    write_policy(directory, plan)

    result = sign(directory, "release-lead", "--internal-client", "eval-team")

    assert "put this into release.yaml: internal.clients.0.signature" in result.stderr
    plan["internal"]["clients"][0] |= yaml.safe_load(result.stdout)
    write_policy(directory, plan)
    assert run("policy", "check", directory, "--trust", trust_file(tmp_path)).exit_code == 0


def test_a_transition_is_signed_by_two_people(directory: Path, tmp_path: Path) -> None:
    plan = signed_plan(("s1", "s2"))
    step = plan["transitions"][0]
    step["signatures"] = []
    write_policy(directory, plan)

    results = [sign(directory, signer, "--transition", "1") for signer in ("release-lead", "safety-lead")]

    assert "put this into release.yaml: transitions.0.signatures, entry 2" in results[1].stderr
    step["signatures"] = [result.stdout.strip() for result in results]
    write_policy(directory, plan)
    assert run("policy", "check", directory, "--trust", trust_file(tmp_path)).exit_code == 0


def test_what_is_signed_is_shown_and_the_private_key_is_not(directory: Path) -> None:
    write_policy(directory, signed_plan(("s1", "s2")))

    result = sign(directory, "release-lead", "--transition", "1", "--json")

    told = json.loads(result.stdout)
    signed = json.loads(told["signed"])
    assert (signed["deployment"], signed["from"], signed["to"], signed["sequence"]) == (DEPLOYMENT, "s1", "s2", 1)
    assert (told["signer"], told["place"]) == ("release-lead", "release.yaml: transitions.0.signatures, entry 1")
    secret = json.loads(key_file(directory.parent, "release-lead").read_bytes())
    assert told["public_key"] == secret["x"]
    assert secret["d"] not in result.output


def test_a_transition_about_another_plan_is_not_signed(directory: Path) -> None:
    plan = signed_plan(("s1", "s2"))
    plan["public"]["quotas"]["output_tokens_per_call"] = 100_000
    write_policy(directory, plan)

    result = sign(directory, "release-lead", "--transition", "1")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"sluicegate: transition 1 is not about this plan; give it plan_sha256: {plan_digest(plan)}\n"
    )


@pytest.mark.parametrize(
    ("signer", "more", "text"),
    [
        ("release-lead", ["--transition", "2"], "release.yaml has 1 transitions; write number 2 first"),
        ("legal-lead", ["--transition", "1"], "`by` of transition 1 does not name legal-lead; add the signer first"),
        ("legal-lead", ["--agreement", "agr-nowhere"], "no agreement agr-nowhere in this policy"),
        ("legal-lead", ["--internal-client", "mallory"], "`internal.clients` of release.yaml does not list mallory"),
        ("legal-lead", ["--internal-client", "twin"], "lists a twin of more than one issuer"),
    ],
)
def test_there_must_be_something_to_sign(directory: Path, signer: str, more: list[str], text: str) -> None:
    twins = [{"issuer": f"https://{name}.example", "client": "twin"} for name in "ab"]
    write_policy(directory, signed_plan(("s1", "s2"), internal={"clients": twins}))

    result = sign(directory, signer, *more)

    assert (result.exit_code, result.stdout) == (1, "")
    assert text in result.stderr


def test_a_bad_policy_is_not_signed(directory: Path) -> None:
    write_policy(directory, release(active="s9"))

    result = sign(directory, "legal-lead", "--agreement", "agr-example-lab")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "release.yaml: active: no such stage; the plan has s1, s2, s3\n"


@pytest.mark.parametrize("more", [[], ["--agreement", "a", "--transition", "1"], ["--transition", "0"]])
def test_one_thing_is_signed_at_a_time(directory: Path, more: list[str]) -> None:
    write_policy(directory)

    assert sign(directory, "legal-lead", *more).exit_code == 2


def test_a_key_of_the_issuer_is_no_signer_s(directory: Path, tmp_path: Path) -> None:
    write_policy(directory)
    key = tmp_path / "issuer.json"
    run("keys", "generate", "--private", key, "--public", tmp_path / "jwks.json")
    asked = ["--signer", "a", "--deployment", "d", "--transition", "1"]

    wrong = run("policy", "sign", directory, "--key", key, *asked)
    none = run("policy", "sign", directory, "--key", tmp_path / "none.json", *asked)

    assert wrong.stderr == (
        f"sluicegate: {key} is an ES256 key; a signer's is made by `keys generate --algorithm EdDSA`\n"
    )
    assert none.stderr == f"sluicegate: {tmp_path}/none.json: No such file or directory\n"
    assert (wrong.exit_code, none.exit_code) == (1, 1)
