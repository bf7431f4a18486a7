"""`sluicegate agreement new`, `sign`, `renew`, `suspend` and `terminate`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from auth_cli import run
from policies import agreement, release, write_policy
from signers import DEPLOYMENT, SIGNERS, TRUST, sign_agreement, signed_plan, trust_file

from sluicegate.auth import SigningKey, load_policy, replacing, write_signing_key
from sluicegate.auth.agreements import Agreement

PAPER = b"%PDF-1.7 as agreed"
ID = "agr-example-lab"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "policy", signed_plan(("s1", "s2")))


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    path = tmp_path / "agreement.pdf"
    path.write_bytes(PAPER)
    return path


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    return trust_file(tmp_path)


def draft(directory: Path, paper: Path, *more: object, id_: str = ID) -> Any:
    clients = ("--issuer", "https://issuer.example", "--client", "lab-app", "--client", "lab-eval")
    covered = (
        "--model",
        "gpt2-774m",
        "--action",
        "generate",
        "--from",
        "2026-01-20",
        "--until",
        "2027-01-20T12:00:00Z",
    )
    about = ("--id", id_, "--partner", "example-lab", "--document", paper, "--signed-on", "2026-01-12")
    return run("agreement", "new", directory, *about, *clients, *covered, *more)


def key_of(signer: str, directory: Path) -> Path:
    path = directory.parent / f"{signer}.json"
    if not path.exists():
        write_signing_key(path, SigningKey(signer, "EdDSA", SIGNERS[signer]))
    return path


def signing(directory: Path, signer: str = "legal-lead") -> tuple[object, ...]:
    return "--key", key_of(signer, directory), "--signer", signer, "--deployment", DEPLOYMENT


def sign(directory: Path, *more: object, signer: str = "legal-lead", id_: str = ID) -> Any:
    return run("agreement", "sign", directory, id_, *signing(directory, signer), *more)


def terms(directory: Path, id_: str = ID) -> Agreement:
    return load_policy(directory, None).agreements[id_]


def content(directory: Path) -> bytes:
    return (directory / "agreements" / f"{ID}.yaml").read_bytes()


# --- the whole way


def test_an_agreement_is_drafted_signed_renewed_suspended_and_ended(directory: Path, paper: Path, trust: Path) -> None:
    assert draft(directory, paper).exit_code == 0
    assert load_policy(directory, TRUST).agreements[ID].status == "draft"

    assert sign(directory, "--document", paper, "--trust", trust).exit_code == 0
    assert load_policy(directory, TRUST).agreements[ID].status == "active"

    renewal = ("--until", "2028-01-20", *signing(directory), "--trust", trust)
    assert run("agreement", "renew", directory, ID, *renewal).exit_code == 0
    assert f"{load_policy(directory, TRUST).agreements[ID].valid.until:%Y-%m-%d}" == "2028-01-20"

    assert run("agreement", "suspend", directory, ID).exit_code == 0
    assert load_policy(directory, TRUST).agreements[ID].status == "suspended"

    assert sign(directory, "--trust", trust).exit_code == 0
    assert load_policy(directory, TRUST).agreements[ID].status == "active"

    assert run("agreement", "terminate", directory, ID).exit_code == 0
    assert load_policy(directory, TRUST).agreements[ID].status == "terminated"
    assert b"# clause 20, Suspension and termination" in content(directory)


# --- new


def test_a_draft_has_the_terms_that_were_given(directory: Path, paper: Path) -> None:
    more = (
        "--purpose",
        "human-susceptibility",
        "--non-commercial",
        "--timezone",
        "Europe/Paris",
        "--title",
        "An Agreement",
    )
    result = draft(directory, paper, *more, "--quota", "requests_per_minute=60", "--quota", "concurrent_streams=4")

    made = terms(directory)
    assert result.stdout.splitlines() == [
        f"records  agreement {ID}: + draft, with example-lab",
        f"wrote {directory}/agreements/{ID}.yaml",
    ]
    assert (made.legal.sha256, made.legal.document) == (hashlib.sha256(PAPER).hexdigest(), "An Agreement")
    assert (made.legal.non_commercial, made.purposes) == (True, ("human-susceptibility",))
    assert [each.client for each in made.clients] == ["lab-app", "lab-eval"]
    assert (made.quotas.requests_per_minute, made.quotas.concurrent_streams) == (60, 4)
    assert str(made.timezone) == "Europe/Paris"
    assert f"{made.valid.from_:%Y-%m-%d %H} {made.valid.until:%Y-%m-%d %H}" == "2026-01-20 00 2027-01-20 12"


def test_a_draft_is_never_written_over(directory: Path, paper: Path) -> None:
    draft(directory, paper)
    before = content(directory)

    result = draft(directory, paper, "--purpose", "another")

    assert result.exit_code == 1
    assert result.stderr == f"sluicegate: agreements/{ID}.yaml is there already; it is not written over\n"
    assert content(directory) == before


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--partner", "public"], "the draft: partner: a partner cannot be called public"),
        (["--model", "gpt2-9000b"], "no such model as gpt2-9000b in release.yaml"),
        (["--action", "train"], "the draft: actions.1: must be 'generate' or 'score'"),
        (["--until", "2025-01-20"], "the draft: valid: `until` must come after `from`"),
        (["--signed-on", "yesterday"], "the draft: legal.signed_on: write a day as 2026-01-20"),
        (["--timezone", "Mars/Olympus"], "the draft: timezone:"),
        (["--id", "../../release"], "the draft: id: write at most 63 lower-case letters"),
        (["--document", "none.pdf"], "none.pdf: No such file or directory"),
    ],
)
def test_a_draft_that_would_be_refused_is_not_written(directory: Path, paper: Path, more: list[str], text: str) -> None:
    result = draft(directory, paper, *more)

    assert (result.exit_code, result.stdout) == (1, "")
    assert text in result.stderr
    assert list(directory.parent.rglob("*.yaml")) == [directory / "release.yaml"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--from", "20 January"], "write a time in UTC"),
        (["--quota", "requests_per_minute"], "write a quota once, as NAME=NUMBER"),
        (["--quota", "requests=5"], "names are concurrent_streams"),
        (["--quota", "requests_per_minute=5", "--quota", "requests_per_minute=6"], "write a quota once"),
        (["--quota", "requests_per_minute=-5"], "write a quota once"),
    ],
)
def test_what_is_no_time_or_quota_is_wrong_usage(directory: Path, paper: Path, more: list[str], text: str) -> None:
    result = draft(directory, paper, *more)

    assert result.exit_code == 2
    assert text in " ".join(result.stderr.replace("│", "").split())


def test_a_dry_run_writes_nothing(directory: Path, paper: Path) -> None:
    result = draft(directory, paper, "--dry-run")

    assert (result.exit_code, list((directory / "agreements").iterdir())) == (0, [])
    assert f"records  agreement {ID}: + draft, with example-lab" in result.stdout
    draft(directory, paper)
    assert sign(directory, "--dry-run").stdout.startswith(f"opens    agreement {ID}: status: draft -> active")
    assert terms(directory).status == "draft"


# --- sign


def test_what_is_signed_is_shown_and_the_private_key_is_not(directory: Path, paper: Path) -> None:
    draft(directory, paper)

    result = sign(directory)

    told = json.loads(result.stderr.splitlines()[0].removeprefix("signed "))
    secret = json.loads(key_of("legal-lead", directory).read_bytes())
    assert (told["deployment"], told["agreement"]["status"]) == (DEPLOYMENT, "active")
    assert result.stderr.splitlines()[1:] == [
        f"with the key {secret['x']}",
        "The signature was not checked against the server's signers (no --trust).",
    ]
    assert secret["d"] not in result.output


def test_a_change_is_told_to_scripts(directory: Path, paper: Path) -> None:
    draft(directory, paper)

    told = json.loads(sign(directory, "--json").stdout)

    assert (told["file"], told["written"]) == (f"{directory}/agreements/{ID}.yaml", True)
    assert [(each["field"], each["effect"]) for each in told["differences"]] == [("status", "opens")]


def test_signing_twice_changes_nothing(directory: Path, paper: Path, trust: Path) -> None:
    draft(directory, paper)
    sign(directory, "--trust", trust)
    before = content(directory)

    result = sign(directory, "--trust", trust)

    assert (result.exit_code, result.stdout) == (0, f"{directory}/agreements/{ID}.yaml stays as it is\n")
    assert content(directory) == before


def test_another_signer_takes_the_place_of_the_first(directory: Path, paper: Path, trust: Path) -> None:
    draft(directory, paper)
    sign(directory, "--trust", trust)

    assert sign(directory, "--trust", trust, signer="safety-lead").exit_code == 0

    signature = load_policy(directory, TRUST).agreements[ID].signature
    assert signature is not None
    assert signature.signer == "safety-lead"


def test_a_changed_term_is_signed_anew(directory: Path, trust: Path) -> None:
    (directory / "agreements" / f"{ID}.yaml").write_text(
        json.dumps(sign_agreement(agreement())).replace('"max_lifetime": "900s"', '"max_lifetime": "30m"')
    )
    assert run("policy", "check", directory, "--trust", trust).exit_code == 1

    assert sign(directory, "--trust", trust).exit_code == 0

    assert load_policy(directory, TRUST).agreements[ID].token.max_lifetime == 1800


@pytest.mark.parametrize(
    "more",
    [
        ("--signer", "safety-lead"),
        ("--signer", "nobody"),
        ("--deployment", "example-staging"),
    ],
)
def test_a_signature_that_would_not_hold_is_not_written(
    directory: Path, paper: Path, trust: Path, more: tuple[str, str]
) -> None:
    draft(directory, paper)
    before = content(directory)

    result = sign(directory, "--trust", trust, *more)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"agreements/{ID}.yaml: signature: must be a signer's signature" in result.stderr
    assert content(directory) == before


def test_a_document_that_was_tampered_with_is_not_signed(directory: Path, paper: Path) -> None:
    draft(directory, paper)
    before = content(directory)
    paper.write_bytes(PAPER + b" and a little more")

    result = sign(directory, "--document", paper)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"is not the document of {ID}" in result.stderr
    assert content(directory) == before


def test_an_issuers_key_is_no_signers(directory: Path, paper: Path) -> None:
    draft(directory, paper)
    run("keys", "generate", "--private", paper.with_name("issuer.json"), "--public", paper.with_name("jwks.json"))

    result = sign(directory, "--key", paper.with_name("issuer.json"))

    assert result.exit_code == 1
    assert "a signer's is made by `keys generate --algorithm EdDSA`" in result.stderr


def test_an_agreement_that_is_not_there_is_not_signed(directory: Path, paper: Path) -> None:
    draft(directory, paper)

    assert sign(directory, id_="agr-x").stderr == (f"sluicegate: no agreement agr-x in this policy; it has {ID}\n")


def test_two_agreements_of_one_id_are_not_signed(directory: Path) -> None:
    write_policy(directory, None, agreement(status="draft"), agreement(status="draft"))

    result = sign(directory)

    assert result.exit_code == 1
    assert result.stderr == (
        f"agreements/1.yaml: id: {ID} is also the id of agreements/0.yaml\n1 problem(s); nothing was written\n"
    )


def test_a_draft_that_would_be_refused_in_force_is_not_signed(directory: Path, paper: Path) -> None:
    draft(directory, paper, "--client", "lab-app")

    result = sign(directory)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "clients: lists lab-app of https://issuer.example twice" in result.stderr
    assert terms(directory).status == "draft"


def test_a_second_agreement_for_the_same_calls_is_not_brought_into_force(directory: Path, paper: Path) -> None:
    draft(directory, paper)
    sign(directory)
    assert draft(directory, paper, id_="agr-again").exit_code == 0

    result = sign(directory, id_="agr-again")

    assert result.exit_code == 1
    assert "covers generate on gpt2-774m for client lab-app" in result.stderr
    assert terms(directory, "agr-again").status == "draft"


def test_a_symbolic_link_is_not_replaced_by_a_file(directory: Path, paper: Path, tmp_path: Path) -> None:
    draft(directory, paper)
    path = directory / "agreements" / f"{ID}.yaml"
    target = path.rename(tmp_path / "elsewhere")
    path.symlink_to(target)

    result = sign(directory)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "is a symbolic link" in result.stderr
    assert path.is_symlink()
    assert b"status: draft" in target.read_bytes()


def test_what_was_changed_while_it_was_looked_at_is_not_written_over(
    directory: Path, paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft(directory, paper)
    path = directory / "agreements" / f"{ID}.yaml"
    meanwhile = path.read_bytes() + b"# somebody else's\n"
    fsync = os.fsync

    def write_meanwhile(descriptor: int) -> None:
        path.write_bytes(meanwhile)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", write_meanwhile)

    result = sign(directory)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "was changed by somebody else meanwhile" in result.stderr
    assert path.read_bytes() == meanwhile


def test_a_directory_that_may_not_be_written_is_told_of(
    directory: Path, paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft(directory, paper)

    def refuse(**_: object) -> None:
        """As a directory of another user's does; root, whom tests may run as, writes anywhere."""
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(replacing, "NamedTemporaryFile", refuse)

    result = sign(directory)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "Permission denied" in result.stderr


def test_an_interrupt_leaves_the_draft_and_nothing_else(
    directory: Path, paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft(directory, paper)
    before = content(directory)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)

    result = sign(directory)

    assert result.exit_code != 0
    assert content(directory) == before
    assert [each.name for each in (directory / "agreements").iterdir()] == [f"{ID}.yaml"]


def test_a_document_cannot_speak_to_the_terminal(directory: Path, paper: Path) -> None:
    draft(directory, paper, "--title", "\N{BELL SYMBOL}\x9b31mred")

    assert "\x9b" not in sign(directory).output


# --- renew


def test_a_renewed_agreement_has_to_be_signed_again(directory: Path, paper: Path, trust: Path) -> None:
    draft(directory, paper)
    sign(directory)
    renewal = ("agreement", "renew", directory, ID, "--until", "2028-01-20")
    assert run(*renewal, "--dry-run").stderr == ""

    result = run(*renewal)

    assert result.stdout.splitlines()[0] == (
        f"opens    agreement {ID}: valid.until: 2027-01-20T12:00:00Z -> 2028-01-20T00:00:00Z"
    )
    assert "Not signed any more" in result.stderr
    assert b"signature" not in content(directory)
    assert run("policy", "check", directory, "--trust", trust).exit_code == 1
    assert sign(directory, "--trust", trust).exit_code == 0


def test_a_renewal_is_signed_at_once(directory: Path, paper: Path, trust: Path) -> None:
    draft(directory, paper)
    sign(directory)

    result = run("agreement", "renew", directory, ID, "--until", "2028-01-20", *signing(directory))

    assert "Not signed any more" not in result.stderr
    assert result.stderr.endswith("was not checked against the server's signers (no --trust).\n")
    assert run("policy", "check", directory, "--trust", trust).exit_code == 0


def test_a_renewal_may_bring_a_new_document(directory: Path, paper: Path) -> None:
    draft(directory, paper, "--non-commercial")
    paper.write_bytes(b"as agreed again")
    new = ("--document", paper, "--signed-on", "2027-01-02", "--title", "Another Agreement")

    assert run("agreement", "renew", directory, ID, "--until", "2028-01-20", *new).exit_code == 0

    legal = terms(directory).legal
    assert (legal.document, f"{legal.signed_on}") == ("Another Agreement", "2027-01-02")
    assert legal.sha256 == hashlib.sha256(b"as agreed again").hexdigest()
    assert legal.non_commercial


def test_a_renewal_without_a_signature_is_refused_where_signatures_are_checked(
    directory: Path, paper: Path, trust: Path
) -> None:
    draft(directory, paper)
    sign(directory)
    before = content(directory)

    result = run("agreement", "renew", directory, ID, "--until", "2028-01-20", "--trust", trust)

    assert result.exit_code == 1
    assert "signature: must be a signer's signature" in result.stderr
    assert content(directory) == before


@pytest.mark.parametrize("status", ["draft", "suspended"])
def test_a_renewal_brings_nothing_into_force(directory: Path, status: str) -> None:
    write_policy(directory, None, agreement(status=status))
    renewal = ("agreement", "renew", directory, ID, "--until", "2028-01-20")

    result = run(*renewal, *signing(directory))

    assert result.stderr == f"sluicegate: {ID} is {status}: renew it without --key, and `sign` it then\n"
    assert run(*renewal).exit_code == 0
    assert terms(directory).status == status


@pytest.mark.parametrize(
    "more", ["--document a", "--signed-on 2027-01-02", "--title A", "--key a", "--key a --signer b", "--deployment a"]
)
def test_half_of_what_belongs_together_is_wrong_usage(directory: Path, more: str) -> None:
    result = run("agreement", "renew", directory, ID, "--until", "2028-01-20", *more.split())

    assert result.exit_code == 2


# --- suspend and terminate


@pytest.mark.parametrize(("command", "status"), [("suspend", "suspended"), ("terminate", "terminated")])
def test_closing_needs_no_signature_and_leaves_none(
    directory: Path, paper: Path, command: str, status: str, trust: Path
) -> None:
    draft(directory, paper)
    sign(directory)

    result = run("agreement", command, directory, ID)

    assert result.stdout.splitlines()[0] == f"closes   agreement {ID}: status: active -> {status}"
    assert b"signature" not in content(directory)
    assert run("policy", "check", directory, "--trust", trust).exit_code == 0
    assert run("agreement", command, directory, ID).stdout == f"{directory}/agreements/{ID}.yaml stays as it is\n"


def test_a_policy_that_is_bad_elsewhere_is_told_of(directory: Path, paper: Path) -> None:
    draft(directory, paper)
    write_policy(directory, release(active="s9"))

    result = run("agreement", "terminate", directory, ID)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("release.yaml: active: no such stage")
