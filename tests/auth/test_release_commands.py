"""`sluicegate release advance` and `release sign`: a step is proposed on evidence, signed by two, and then taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import evidence_files as made
import pytest
import yaml
from auth_cli import run
from policies import Document, agreement, release, write_policy
from signers import SIGNERS, TRUST, sign_agreement, trust_file

from sluicegate.auth import PolicyError, SigningKey, load_policy, write_signing_key
from sluicegate.auth.pending import PENDING_FILE
from sluicegate.evidence import digest

MODEL = "gpt2-774m"
PAST = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


def plan(**changes: Any) -> Document:
    """A deployment at its first stage; s3 asks for a gate and a finding."""
    document = release(**{"internal": {"clients": []}, "active": "s1", "transitions": [], **changes})
    document["models"][MODEL]["weights_sha256"] = made.WEIGHTS
    return document


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    trust_file(tmp_path)
    for name in SIGNERS:
        write_signing_key(tmp_path / f"{name}.key", SigningKey(name, "EdDSA", SIGNERS[name]))
    return write_policy(tmp_path / "policy", plan(), sign_agreement(agreement()))


def advance(directory: Path, *more: object) -> Any:
    return run("release", "advance", directory, "--trust", directory.parent / "trust.yaml", *more)


def sign(directory: Path, signer: str, *more: object, key: str | None = None) -> Any:
    keyed = ("--key", directory.parent / f"{key or signer}.key", "--signer", signer)
    return run("release", "sign", directory, *keyed, "--trust", directory.parent / "trust.yaml", "--yes", *more)


def evaluate(directory: Path, **finding: Any) -> list[str]:
    """Put good evidence for s3 beside the policy; gives its digests."""
    bias = made.write(directory / "evidence", "bias.json", made.bias(MODEL, ended=PAST))
    lab = made.write(directory / "evidence", "lab.json", made.finding(MODEL, **{"ended": PAST, **finding}))
    return [digest(path.read_bytes()) for path in (bias, lab)]


def release_file(directory: Path) -> Document:
    found: Document = yaml.safe_load((directory / "release.yaml").read_text())
    return found


def stage(directory: Path) -> str:
    return load_policy(directory, TRUST).stage.id


def test_a_stage_is_opened_on_evidence_by_two_signers(directory: Path) -> None:
    digests = evaluate(directory)

    proposed = advance(directory, "--to", "s3")
    first = sign(directory, "release-lead")
    alone = advance(directory)
    second = sign(directory, "safety-lead")
    taken = advance(directory)

    assert [each.exit_code for each in (proposed, first, alone, second, taken)] == [0, 0, 1, 0, 0]
    assert "gpt2-774m: partner -> public" in proposed.stderr
    assert "met     bias of gpt2-774m: bias.json of" in proposed.stderr
    assert "signed by release-lead; 2 different signers must" in alone.stderr
    assert taken.stdout == "s3 is active in release.yaml, signed by release-lead, safety-lead\n"
    [step] = release_file(directory)["transitions"]
    assert (step["from"], step["to"], step["by"]) == ("s1", "s3", ["release-lead", "safety-lead"])
    assert step["evidence_sha256"] == digests
    assert stage(directory) == "s3"
    assert not (directory / PENDING_FILE).exists()


def test_the_policy_stays_good_while_signatures_are_collected(directory: Path) -> None:
    evaluate(directory)
    before = (directory / "release.yaml").read_bytes()

    advance(directory, "--to", "s3")
    sign(directory, "release-lead")

    assert (directory / "release.yaml").read_bytes() == before
    assert stage(directory) == "s1"


def test_what_is_missing_is_named_with_how_to_come_by_it(directory: Path) -> None:
    refused = advance(directory, "--to", "s3")

    assert refused.exit_code == 1
    assert "missing bias of gpt2-774m: no evidence of bias in the suite occupations" in refused.stderr
    assert "run `sluicegate bias run --model gpt2-774m --suite occupations --output DIR`" in refused.stderr
    assert "missing finding:example-lab of gpt2-774m: no finding of example-lab" in refused.stderr
    assert "2 of 2 requirements are not met" in refused.stderr
    assert not (directory / PENDING_FILE).exists()


def test_comments_and_the_rest_of_the_file_stay(directory: Path) -> None:
    path = directory / "release.yaml"
    path.write_text("# The plan of our release.\n" + path.read_text())
    agreements = directory / "agreements"
    evaluate(directory)
    before = {each.name: each.read_bytes() for each in agreements.iterdir()}

    advance(directory, "--to", "s3")
    sign(directory, "release-lead")
    sign(directory, "legal-lead")
    advance(directory)

    assert path.read_text().startswith("# The plan of our release.\n")
    assert stage(directory) == "s3"
    assert {each.name: each.read_bytes() for each in agreements.iterdir()} == before


def test_other_papers_are_cited_too(directory: Path, tmp_path: Path) -> None:
    digests = evaluate(directory)
    (tmp_path / "minutes.pdf").write_bytes(b"minutes")

    advance(directory, "--to", "s3", "--cite", tmp_path / "minutes.pdf")

    pending = json.loads((directory / PENDING_FILE).read_text())
    assert pending["evidence_sha256"] == [*digests, digest(b"minutes")]
    assert digest(b"minutes") in sign(directory, "release-lead").stderr


def test_a_narrower_stage_is_taken_at_once(directory: Path) -> None:
    test_a_stage_is_opened_on_evidence_by_two_signers(directory)

    closed = advance(directory, "--to", "s1")

    assert (closed.exit_code, stage(directory)) == (0, "s1")
    assert closed.stdout == "s1 is active in release.yaml; it opens nothing, so nobody signs\n"
    assert release_file(directory)["transitions"][-1].keys() == {"from", "to", "at"}
    again = advance(directory, "--to", "s3")
    assert again.exit_code == 0
    assert (directory / PENDING_FILE).exists()


def test_going_back_by_hand_is_to_be_recorded_first(directory: Path) -> None:
    test_a_stage_is_opened_on_evidence_by_two_signers(directory)
    path = directory / "release.yaml"
    path.write_text(path.read_text().replace("active: s3", "active: s1"))

    refused = advance(directory, "--to", "s2")
    recorded = advance(directory, "--to", "s1")

    assert refused.exit_code == 1
    assert "first record it: release advance --to s1" in refused.stderr
    assert (recorded.exit_code, stage(directory)) == (0, "s1")
    assert release_file(directory)["transitions"][-1]["to"] == "s1"


def test_a_plan_that_nobody_changed_is_not_signed_again(directory: Path) -> None:
    test_a_stage_is_opened_on_evidence_by_two_signers(directory)

    refused = advance(directory, "--to", "s3")

    assert refused.exit_code == 1
    assert "with nothing in it that is yet to be signed" in refused.stderr


def test_a_changed_plan_is_signed_for_its_stage(directory: Path) -> None:
    test_a_stage_is_opened_on_evidence_by_two_signers(directory)
    path = directory / "release.yaml"
    path.write_text(path.read_text().replace("60%", "59%"))
    with pytest.raises(PolicyError, match="signed for another plan"):
        stage(directory)

    for done in (
        advance(directory, "--to", "s3"),
        sign(directory, "legal-lead"),
        sign(directory, "safety-lead"),
        advance(directory),
    ):
        assert done.exit_code == 0, done.stderr
    assert stage(directory) == "s3"
    assert [(each["from"], each["to"]) for each in release_file(directory)["transitions"]] == [
        ("s1", "s3"),
        ("s3", "s3"),
    ]


def test_a_change_that_the_evidence_does_not_meet_is_not_signed(directory: Path) -> None:
    test_a_stage_is_opened_on_evidence_by_two_signers(directory)
    path = directory / "release.yaml"
    path.write_text(path.read_text().replace("60%", "51%"))

    refused = advance(directory, "--to", "s3")

    assert refused.exit_code == 1
    assert "it must lie within 40 % to 51 %" in refused.stderr


Change = Callable[[Path], object]


def other_signature(directory: Path) -> None:
    path = directory / PENDING_FILE
    pending = json.loads(path.read_text())
    pending["signatures"]["release-lead"] = pending["signatures"]["safety-lead"]
    path.write_text(json.dumps(pending))


def other_evidence(directory: Path) -> None:
    path = directory / PENDING_FILE
    pending = json.loads(path.read_text())
    pending["evidence_sha256"].reverse()
    path.write_text(json.dumps(pending))


def other_stage(directory: Path) -> None:
    path = directory / PENDING_FILE
    path.write_text(path.read_text().replace('"to": "s3"', '"to": "s2"'))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (other_signature, "the signature of release-lead does not hold for this step"),
        (other_evidence, "signed by nobody; 2 different signers must"),
        (other_stage, "signed by nobody; 2 different signers must"),
        (lambda directory: (directory / "evidence" / "bias.json").unlink(), "requirement bias of gpt2-774m"),
        (lambda directory: (directory / PENDING_FILE).write_text("{}"), "is no proposal"),
    ],
)
def test_a_proposal_that_was_tampered_with_opens_nothing(change: Change, text: str, directory: Path) -> None:
    evaluate(directory)
    advance(directory, "--to", "s3")
    sign(directory, "release-lead")
    sign(directory, "safety-lead")

    change(directory)
    refused = advance(directory)

    assert refused.exit_code == 1
    assert text in refused.stderr
    assert stage(directory) == "s1"


def test_a_proposal_of_another_plan_is_nobodys_any_more(directory: Path) -> None:
    evaluate(directory)
    advance(directory, "--to", "s3")
    sign(directory, "release-lead")
    path = directory / "release.yaml"
    path.write_text(path.read_text().replace("60%", "70%"))

    for refused in (sign(directory, "safety-lead"), advance(directory)):
        assert refused.exit_code == 1
        assert "is about another plan than release.yaml is now" in refused.stderr
    assert advance(directory, "--abandon").stdout == "the proposal is gone\n"
    assert advance(directory, "--abandon").stdout == "there is no proposal\n"


@pytest.mark.parametrize(
    ("signer", "key", "text"),
    [
        ("release-lead", "release-lead", "release-lead has signed; another one must be somebody else's"),
        ("safety-lead", "release-lead", "is not the key that safety-lead has in"),
        ("stranger", "release-lead", "stranger is no signer of this deployment"),
    ],
)
def test_nobody_signs_for_another_or_twice(signer: str, key: str, text: str, directory: Path) -> None:
    evaluate(directory)
    advance(directory, "--to", "s3")
    sign(directory, "release-lead")
    before = (directory / PENDING_FILE).read_bytes()

    refused = sign(directory, signer, key=key)

    assert refused.exit_code == 1
    assert text in refused.stderr
    assert (directory / PENDING_FILE).read_bytes() == before


def test_nobody_signs_what_evidence_has_overtaken(directory: Path) -> None:
    evaluate(directory)
    advance(directory, "--to", "s3")
    later = PAST + timedelta(hours=1)
    made.write(directory / "evidence", "again.json", made.bias(MODEL, stereotype=104, other=96, ended=later))

    newer = sign(directory, "release-lead")
    made.write(directory / "evidence", "again.json", made.bias(MODEL, stereotype=90, other=10, ended=later))
    worse = sign(directory, "release-lead")

    assert (newer.exit_code, worse.exit_code) == (1, 1)
    assert "there is newer evidence than the proposal cites" in newer.stderr
    assert "90 % of pairs prefer the stereotype" in worse.stderr


def test_who_does_not_say_yes_has_not_signed(directory: Path) -> None:
    evaluate(directory)
    advance(directory, "--to", "s3")
    before = (directory / PENDING_FILE).read_bytes()

    keyed = ("--key", directory.parent / "release-lead.key", "--signer", "release-lead")
    refused = run("release", "sign", directory, *keyed, "--trust", directory.parent / "trust.yaml")

    assert refused.exit_code == 1
    assert (directory / PENDING_FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "name a stage with --to"),
        (("--to", "s9"), 1, "no such stage as s9; the plan has s1, s2, s3"),
        (("--to", "s3", "--cite", "/nowhere"), 2, "No such file"),
    ],
)
def test_a_step_that_there_is_not_to_take_is_refused(
    arguments: tuple[str, ...], code: int, text: str, directory: Path
) -> None:
    evaluate(directory)

    refused = advance(directory, *arguments)

    assert refused.exit_code == code
    assert text in refused.stderr


def test_a_second_proposal_waits_for_the_first(directory: Path) -> None:
    evaluate(directory)
    advance(directory, "--to", "s3")

    refused = advance(directory, "--to", "s2")

    assert refused.exit_code == 1
    assert "a step to s3 is proposed; finish it, or drop it with --abandon" in refused.stderr


def test_a_bad_policy_is_told_of_first(directory: Path) -> None:
    (directory / "release.yaml").write_text("active: s1\n")

    for result in (advance(directory, "--to", "s3"), sign(directory, "release-lead")):
        assert result.exit_code == 1
        assert "release.yaml: models: is missing" in result.stderr
