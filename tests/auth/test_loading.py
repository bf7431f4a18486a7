"""Loading: all or nothing, and everything that is wrong at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from policies import Document, agreement, contents, policy, release, write_policy
from signers import TRUST, sign_agreement, signed_plan

from sluicegate.auth import PolicyError, load_policy
from sluicegate.auth.documents import MAX_FILE_BYTES
from sluicegate.auth.loading import parse_draft, parse_policy
from sluicegate.evidence import NO_EVIDENCE


def problems(plan: Document | None = None, *agreements: Document) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        policy(plan, *agreements)
    return [str(problem) for problem in caught.value.problems]


def load_problems(directory: Path) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        load_policy(directory, None)
    return [str(problem) for problem in caught.value.problems]


def test_a_directory_becomes_one_revision(tmp_path: Path) -> None:
    loaded = load_policy(write_policy(tmp_path, None, agreement()), None)

    assert loaded.stage.id == "s2"
    assert list(loaded.agreements) == ["agr-example-lab"]
    assert loaded.directory == tmp_path
    assert not loaded.is_signed


def test_the_revision_is_that_of_the_content_not_of_its_spelling() -> None:
    plan = release()
    spaced = {name: raw.replace(b"\n", b"  # a comment\n") for name, raw in contents(plan).items()}
    turned = {"release.yaml": yaml.safe_dump(dict(reversed(plan.items())), sort_keys=False).encode()}

    revisions = {parse_policy(Path(), each, None).revision for each in (contents(plan), spaced, turned)}

    assert len(revisions) == 1
    assert policy(release(active="s1")).revision not in revisions


def test_agreements_are_optional_and_other_files_are_not_read(tmp_path: Path) -> None:
    write_policy(tmp_path)
    (tmp_path / "agreements" / "README.md").write_text("not: [a policy")
    (tmp_path / "notes.yaml").write_text("not: [a policy")

    assert load_policy(tmp_path, None).agreements == {}

    (tmp_path / "agreements" / "README.md").unlink()
    (tmp_path / "agreements").rmdir()

    assert load_policy(tmp_path, None).agreements == {}


def test_a_directory_without_a_plan_is_no_policy(tmp_path: Path) -> None:
    assert load_problems(tmp_path) == ["release.yaml: cannot be read: No such file or directory"]


def test_agreements_must_be_a_directory_of_files(tmp_path: Path) -> None:
    write_policy(tmp_path)
    (tmp_path / "agreements" / "lab.yaml").mkdir()

    assert load_problems(tmp_path) == ["agreements/lab.yaml: cannot be read: Is a directory"]

    (tmp_path / "agreements" / "lab.yaml").rmdir()
    (tmp_path / "agreements").rmdir()
    (tmp_path / "agreements").write_text("a file")

    assert load_problems(tmp_path) == ["agreements: cannot be read: Not a directory"]


def test_there_is_a_limit_to_the_number_of_agreements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.auth.loading.MAX_AGREEMENTS", 1)
    write_policy(tmp_path, None, agreement(), agreement(id="agr-second"))

    assert load_problems(tmp_path) == ["agreements: holds more than 1 files"]


def test_a_file_is_not_read_beyond_its_limit(tmp_path: Path) -> None:
    write_policy(tmp_path)
    (tmp_path / "release.yaml").write_bytes(b"# " * MAX_FILE_BYTES)

    assert load_problems(tmp_path) == [f"release.yaml: is larger than {MAX_FILE_BYTES} bytes"]


def test_every_problem_of_every_file_is_listed_at_once() -> None:
    plan = release(active=7, flavour="mint")
    plan["models"]["gpt2-124m"]["parameters"] = "many"
    plan["public"]["anonymous"] = "perhaps"
    first = agreement(models=["gpt2-124m", "gpt2-9000b"])
    second = agreement(id="agr-second", valid={"from": "2026-01-20", "until": "2026-02-30T00:00:00Z"})
    third = agreement(id="agr-third", models=["gpt2-124m"])

    assert problems(plan, first, second, third) == [
        "release.yaml: models.gpt2-124m.parameters: must be a whole number, without quotes",
        "release.yaml: active: must be text; put quotes around what looks like a number, true, false or null",
        "release.yaml: public.anonymous: must be 'refuse' or 'serve'",
        "release.yaml: flavour: is not known here; remove it or correct its spelling",
        "agreements/1.yaml: valid.from: write a time in UTC, as 2026-01-20T00:00:00Z",
        "agreements/1.yaml: valid.until: 2026-02-30T00:00:00Z is no time that there is; write one as"
        " 2026-01-20T00:00:00Z",
        *[
            f"agreements/2.yaml: covers {action} on gpt2-124m for client lab-app, as agreements/0.yaml does;"
            " end one of them"
            for action in ("generate", "score")
        ],
        "agreements/0.yaml: models.1: no such model as gpt2-9000b in release.yaml",
    ]


def test_a_file_that_is_no_yaml_hides_no_problem_of_another() -> None:
    files = {**contents(None, agreement(status="on")), "agreements/1.yaml": b"a: ["}

    with pytest.raises(PolicyError) as caught:
        parse_policy(Path(), files, None)

    assert [problem.file for problem in caught.value.problems] == ["agreements/1.yaml", "agreements/0.yaml"]


def stages(**changes: Any) -> list[dict[str, Any]]:
    return [{**stage, **changes} for stage in release()["stages"]]


TRANSITION = {"from": "s1", "to": "s2", "at": "2026-01-03T16:00:00Z"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"apiVersion": "v2"}, "apiVersion: must be 'sluicegate/release/v1'"),
        ({"active": "s9"}, "active: no such stage; the plan has s1, s2, s3"),
        ({"stages": []}, "stages: must have at least one entry"),
        ({"stages": stages(id="s2")}, "stages: two stages have the id s2"),
        ({"models": {}}, "models: must have at least one entry"),
        ({"models": {"GPT2": release()["models"]["gpt2-124m"]}}, "models.GPT2: write a model id"),
        (
            {"stages": [{"id": "s2", "name": "x", "open": {"gpt2-9000b": "public"}}]},
            "stages.0.open.gpt2-9000b: no such model in `models`",
        ),
        (
            {"stages": [{"id": "s2", "name": "x", "open": {"gpt2-124m": "everybody"}}]},
            "stages.0.open.gpt2-124m: write public, partner or internal",
        ),
        (
            {"stages": stages(requires=[{"gate": "bias", "model": "gpt2-9000b"}])},
            "stages.0.requires.0.model: no such model in `models`",
        ),
        (
            {"internal": {"clients": [{"issuer": "https://i", "client": "a"}] * 2}},
            "internal.clients: lists a of https://i twice",
        ),
        ({"transitions": [{**TRANSITION, "to": "s9"}]}, "transitions.0.to: no such stage as s9"),
        ({"transitions": [{**TRANSITION, "from": "s2"}]}, "transitions.0.from: must be s1, where the plan stood then"),
        (
            {"transitions": [TRANSITION, {"from": "s2", "to": "s3", "at": "2026-01-02T16:00:00Z"}]},
            "transitions.1.at: is before the transition above it",
        ),
    ],
)
def test_a_plan_must_agree_with_itself(changes: dict[str, Any], text: str) -> None:
    assert any(problem.startswith(f"release.yaml: {text}") for problem in problems(release(**changes)))


def test_two_agreements_may_not_cover_the_same_call() -> None:
    same = problems(None, agreement(actions=["score"]), agreement(id="agr-second", models=["gpt2-774m"]))

    assert same == [
        "agreements/1.yaml: covers score on gpt2-774m for client lab-app, as agreements/0.yaml does; end one of them"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "terminated"},
        {"status": "draft"},
        {"models": ["gpt2-1558m"]},
        {"actions": ["score"]},
        {"clients": [{"issuer": "https://issuer.example", "client": "other"}]},
        {"clients": [{"issuer": "https://other.example", "client": "lab-app"}]},
    ],
)
def test_two_agreements_may_stand_side_by_side(changes: dict[str, Any]) -> None:
    loaded = policy(None, agreement(actions=["generate"]), agreement(id="agr-second", **changes))

    assert len(loaded.agreements) == 2


def test_an_id_is_given_once() -> None:
    other = agreement(clients=[{"issuer": "https://issuer.example", "client": "other"}])

    assert problems(None, agreement(), other) == [
        "agreements/1.yaml: id: agr-example-lab is also the id of agreements/0.yaml"
    ]


def test_an_agreement_names_a_client_once() -> None:
    twice = agreement(clients=[{"issuer": "https://issuer.example", "client": "lab-app"}] * 2)

    assert problems(None, twice) == ["agreements/0.yaml: clients: lists lab-app of https://issuer.example twice"]


def test_an_internal_client_has_no_agreement() -> None:
    inside = agreement(clients=[{"issuer": "https://issuer.example", "client": "eval-team"}])

    assert problems(None, inside) == [
        "agreements/0.yaml: clients.0: eval-team is an internal client; an internal client has no agreement"
    ]


def test_files_without_a_plan_are_no_policy() -> None:
    files = {name: raw for name, raw in contents(None, agreement()).items() if name != "release.yaml"}

    with pytest.raises(PolicyError) as caught:
        parse_policy(Path(), files, None)

    assert [str(problem) for problem in caught.value.problems] == ["release.yaml: is missing"]


def test_a_small_file_cannot_cover_millions() -> None:
    plan = release()
    plan["models"] |= {f"m-{number}": plan["models"]["gpt2-124m"] for number in range(100)}
    clients = [{"issuer": "i", "client": f"c-{number}"} for number in range(501)]
    whole = {"clients": clients, "models": [f"m-{number}" for number in range(100)], "actions": ["generate", "score"]}

    assert problems(plan, agreement(**whole)) == [
        "agreements: cover more than 100000 combinations of client, model and action; end some of them"
    ]
    assert policy(plan, agreement(**{**whole, "status": "terminated"})).stage.id == "s2"
    assert policy(plan, agreement(**{**whole, "clients": clients[:500]})).stage.id == "s2"


def test_a_draft_is_the_policy_before_anybody_signed_it() -> None:
    plan = {**signed_plan(("s1", "s2")), "transitions": []}

    draft = parse_draft(contents(plan, agreement()))

    assert draft.policy(Path("/policy"), NO_EVIDENCE, is_signed=False) == policy(plan, agreement())
    assert {problem.file for problem in draft.signature_problems(TRUST, NO_EVIDENCE)} == {
        "release.yaml",
        "agreements/0.yaml",
    }


WHOLE = {"release.yaml": signed_plan(("s1", "s2")), "agreements/0.yaml": sign_agreement(agreement())}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**14), 10**14)
    | st.text(max_size=8)
    | st.sampled_from(["s1", "public"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def spoilt(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The document with one member, somewhere, of any other value."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 3)):
        copy = dict(value) if isinstance(value, dict) else list(value)
        place = draw(st.sampled_from(sorted(copy) if isinstance(copy, dict) else range(len(copy))))
        copy[place] = spoilt(copy[place], draw)
        return copy
    return draw(VALUES)


@given(st.data())
def test_any_value_anywhere_is_accepted_or_refused_as_a_problem(data: st.DataObject) -> None:
    files = {name: json.dumps(spoilt(document, data.draw)).encode() for name, document in WHOLE.items()}

    with suppress(PolicyError):
        assert parse_policy(Path(), files, TRUST).is_signed
