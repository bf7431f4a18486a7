"""Opening wider is signed, closing never is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from policies import Document, agreement, policy
from signers import DEPLOYMENT, SIGNERS, TRUST, sign_agreement, sign_internal_client, sign_transitions, signed_plan

from sluicegate.auth import ConfigurationError, PolicyError, TrustRoot, plan_digest, trust_root
from sluicegate.auth.encoding import encode_base64url

PUBLIC_KEYS = {name: encode_base64url(key.public_key().public_bytes_raw()) for name, key in SIGNERS.items()}
SIGN_IT = "must be a signer's signature over exactly this content; sign it anew after every change"


def problems(plan: Document, *agreements: Document, trust: TrustRoot = TRUST) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        policy(plan, *agreements, trust=trust)
    return [str(problem) for problem in caught.value.problems]


# --- stage transitions


def test_two_signers_open_a_stage() -> None:
    opened = policy(signed_plan(("s1", "s2"), ("s2", "s3")), trust=TRUST)

    assert opened.stage.id == "s3"
    assert opened.is_signed


def test_the_first_stage_of_a_new_deployment_needs_no_signature() -> None:
    assert policy(signed_plan(), trust=TRUST).stage.id == "s1"


def test_a_stage_is_not_opened_by_naming_it() -> None:
    assert problems(signed_plan(("s1", "s2"), active="s3")) == [
        "release.yaml: active: no signed transition leads from s2 to s3"
    ]


def test_closing_needs_no_signature() -> None:
    back_by_name = signed_plan(("s1", "s2"), ("s2", "s3"), active="s1")
    recorded = signed_plan(("s1", "s2"), ("s2", "s3"))
    recorded["transitions"].append({"from": "s3", "to": "s1", "at": "2026-02-01T00:00:00Z"})
    recorded["active"] = "s1"

    assert policy(back_by_name, trust=TRUST).stage.id == "s1"
    assert policy(recorded, trust=TRUST).stage.id == "s1"


def test_what_was_closed_is_opened_again_by_two_new_signatures() -> None:
    plan = signed_plan(("s1", "s2"), ("s2", "s1"), ("s1", "s2"))
    plan["transitions"][1] |= {"by": [], "signatures": []}

    assert policy(plan, trust=TRUST).stage.id == "s2"

    plan["transitions"][2]["signatures"] = plan["transitions"][0]["signatures"]

    assert problems(plan) == [
        "release.yaml: transitions.2: the signature of release-lead does not hold for this transition",
        "release.yaml: transitions.2: the signature of safety-lead does not hold for this transition",
    ]


def test_one_signer_does_not_open_a_stage() -> None:
    assert problems(signed_plan(("s1", "s2"), by=("release-lead",))) == [
        "release.yaml: transitions.0: opens wider, so it needs the signatures of 2 signers"
    ]


def test_one_signer_does_not_count_twice() -> None:
    plan = signed_plan(("s1", "s2"), by=("release-lead", "release-lead"))

    assert "release.yaml: transitions.0.by: an entry stands here twice" in problems(plan)


def test_a_stranger_does_not_sign() -> None:
    plan = signed_plan(("s1", "s2"))
    plan["transitions"][0]["by"][1] = "mallory"

    assert problems(plan) == ["release.yaml: transitions.0: mallory is no signer of this deployment"]


def test_signers_do_not_sign_for_each_other() -> None:
    plan = signed_plan(("s1", "s2"))
    plan["transitions"][0]["by"].reverse()

    assert len(problems(plan)) == 2


@pytest.mark.parametrize("signatures", [[], ["AAAA"], ["AAAA", "BBBB", "CCCC"]])
def test_each_signer_has_one_signature(signatures: list[str]) -> None:
    plan = signed_plan(("s1", "s2"))
    plan["transitions"][0]["signatures"] = signatures

    assert problems(plan) == [
        "release.yaml: transitions.0: needs one entry in `signatures` for each in `by`, in the same order"
    ]


@pytest.mark.parametrize("value", ["AAAA", "not base64url!", "=" * 86])
def test_what_is_no_signature_does_not_hold(value: str) -> None:
    plan = signed_plan(("s1", "s2"))
    plan["transitions"][0]["signatures"][0] = value

    assert problems(plan) == [
        "release.yaml: transitions.0: the signature of release-lead does not hold for this transition"
    ]


@pytest.mark.parametrize("threshold", [2, 3])
def test_the_trust_root_says_how_many_must_sign(threshold: int) -> None:
    trust = TrustRoot(DEPLOYMENT, TRUST.signers, threshold)
    plan = signed_plan(("s1", "s2"), by=("release-lead", "safety-lead", "legal-lead")[:threshold])

    assert policy(plan, trust=trust).stage.id == "s2"
    if threshold == 3:
        assert problems(signed_plan(("s1", "s2")), trust=trust) == [
            "release.yaml: transitions.0: opens wider, so it needs the signatures of 3 signers"
        ]


def test_signatures_of_one_deployment_do_not_hold_in_another() -> None:
    elsewhere = TrustRoot("example-staging", TRUST.signers)

    assert len(problems(signed_plan(("s1", "s2")), trust=elsewhere)) == 2


TAMPERINGS: dict[str, Any] = {
    "a model opened wider": lambda plan: plan["stages"][1]["open"].update({"gpt2-1558m": "public"}),
    "a stage with another model": lambda plan: plan["stages"][1]["open"].update({"gpt2-next": "partner"}),
    "other weights": lambda plan: plan["models"]["gpt2-124m"].update({"source": "/tmp/weights"}),
    "a higher quota": lambda plan: plan["public"]["quotas"].update({"output_tokens_per_call": 10_000}),
    "anonymous callers": lambda plan: plan["public"].update({"anonymous": "serve", "anonymous_quotas": {}}),
    "a more lenient gate": lambda plan: plan["gates"]["bias"].update({"share_between": ["30%", "70%"]}),
    "another answer to lost state": lambda plan: plan["on_state_lost"].update({"partner": "serve"}),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_plan_that_was_changed_after_it_was_signed_is_refused_with_the_digest_to_sign(name: str) -> None:
    plan = signed_plan(("s1", "s2"))

    TAMPERINGS[name](plan)

    [problem] = problems(plan)
    assert problem.startswith("release.yaml: transitions.0.plan_sha256: was signed for another plan than this one")
    assert plan_digest(plan) in problem


def test_a_changed_plan_is_signed_by_a_transition_from_the_stage_to_itself() -> None:
    plan = signed_plan(("s1", "s2"))
    plan["public"]["quotas"]["output_tokens_per_call"] = 300
    step = {"from": "s2", "to": "s2", "at": "2026-03-01T00:00:00Z", "plan_sha256": plan_digest(plan)}
    plan["transitions"].append(step)

    assert "needs the signatures of 2 signers" in problems(plan)[0]

    sign_transitions(plan)

    assert policy(plan, trust=TRUST).plan.public.quotas.output_tokens_per_call == 300


@pytest.mark.parametrize("member", ["from", "to", "plan_sha256", "evidence_sha256"])
def test_a_signature_is_over_all_that_its_transition_says(member: str) -> None:
    plan = signed_plan(("s1", "s2"), ("s2", "s3"))
    signed = copy.deepcopy(plan["transitions"][0]["signatures"])
    plan["transitions"][0] |= {"evidence_sha256": ["f" * 64], "plan_sha256": plan_digest(plan)}
    sign_transitions(plan)
    assert policy(plan, trust=TRUST).stage.id == "s3"
    assert plan["transitions"][0]["signatures"] != signed

    changed: dict[str, Any] = {"from": "s2", "to": "s3", "plan_sha256": "0" * 64, "evidence_sha256": []}
    plan["transitions"][0][member] = changed[member]

    assert problems(plan)


def test_a_transition_is_bound_to_the_one_before_it() -> None:
    plan = signed_plan(("s1", "s2"), ("s2", "s3"))
    plan["transitions"][0]["evidence_sha256"] = ["f" * 64]

    assert [text.split(":")[1].strip() for text in problems(plan)] == ["transitions.0"] * 2 + ["transitions.1"] * 2


def test_active_transitions_and_internal_clients_are_not_part_of_the_digest() -> None:
    plan = signed_plan(("s1", "s2"))

    assert plan_digest(plan) == plan_digest({**plan, "active": "s1", "transitions": [], "internal": {}})


# --- agreements and internal clients


def test_an_agreement_comes_into_force_with_one_signature() -> None:
    signed = sign_agreement(agreement())

    assert list(policy(signed_plan(), signed, trust=TRUST).agreements) == ["agr-example-lab"]


def test_an_active_agreement_without_a_signature_is_refused() -> None:
    assert problems(signed_plan(), agreement()) == [f"agreements/0.yaml: signature: {SIGN_IT}"]


@pytest.mark.parametrize("status", ["draft", "suspended", "terminated"])
def test_an_agreement_that_gives_nothing_needs_no_signature(status: str) -> None:
    assert policy(signed_plan(), agreement(status=status), trust=TRUST).is_signed


def test_suspending_a_signed_agreement_needs_no_new_signature() -> None:
    suspended = {**sign_agreement(agreement()), "status": "suspended"}

    assert policy(signed_plan(), suspended, trust=TRUST).is_signed


@pytest.mark.parametrize(
    "changes",
    [
        {"models": ["gpt2-124m", "gpt2-774m", "gpt2-1558m"]},
        {"valid": {"from": "2026-01-20T00:00:00Z", "until": "2037-01-20T00:00:00Z"}},
        {"networks": ["0.0.0.0/0"]},
        {"quotas": {}},
        {"clients": [{"issuer": "https://issuer.example", "client": "mallory"}]},
        {"purposes": []},
    ],
)
def test_an_agreement_that_was_changed_after_it_was_signed_is_refused(changes: dict[str, Any]) -> None:
    changed = {**sign_agreement(agreement()), **changes}

    assert problems(signed_plan(), changed) == [f"agreements/0.yaml: signature: {SIGN_IT}"]


def test_the_signature_of_a_draft_does_not_put_it_into_force() -> None:
    raised = {**sign_agreement(agreement(status="draft")), "status": "active"}

    assert problems(signed_plan(), raised) == [f"agreements/0.yaml: signature: {SIGN_IT}"]


def test_an_agreement_signed_for_another_deployment_is_refused() -> None:
    elsewhere = sign_agreement(agreement(), deployment="example-staging")

    assert problems(signed_plan(), elsewhere) == [f"agreements/0.yaml: signature: {SIGN_IT}"]


def test_an_agreement_signed_by_a_stranger_is_refused() -> None:
    signed = sign_agreement(agreement())
    signed["signature"]["signer"] = "mallory"

    assert problems(signed_plan(), signed) == [f"agreements/0.yaml: signature: {SIGN_IT}"]


def test_an_internal_client_is_admitted_by_one_signature() -> None:
    client = sign_internal_client("https://issuer.example", "eval-team")

    admitted = policy(signed_plan(internal={"clients": [client]}), trust=TRUST)

    assert ("https://issuer.example", "eval-team") in admitted.internal_clients


@pytest.mark.parametrize("change", [{"client": "mallory"}, {"issuer": "https://other.example"}, {"signature": None}])
def test_an_internal_client_that_was_not_signed_is_refused(change: dict[str, Any]) -> None:
    client = {**sign_internal_client("https://issuer.example", "eval-team"), **change}

    assert problems(signed_plan(internal={"clients": [client]})) == [
        f"release.yaml: internal.clients.0.signature: {SIGN_IT}"
    ]


def test_internal_clients_come_and_go_without_a_transition() -> None:
    plan = signed_plan(("s1", "s2"))

    plan["internal"] = {"clients": [sign_internal_client("https://issuer.example", "eval-team")]}

    assert policy(plan, trust=TRUST).stage.id == "s2"


# --- the trust root


def test_a_trust_root_is_read_from_base64url_keys() -> None:
    trust = trust_root(DEPLOYMENT, PUBLIC_KEYS)

    assert policy(signed_plan(("s1", "s2")), trust=trust).stage.id == "s2"


@pytest.mark.parametrize(
    ("deployment", "signers", "threshold", "text"),
    [
        ("", PUBLIC_KEYS, 2, "needs the id of its deployment"),
        (DEPLOYMENT, PUBLIC_KEYS, 1, "needs at least 2 signers"),
        (DEPLOYMENT, PUBLIC_KEYS, 4, "has fewer signers than a transition needs"),
        (DEPLOYMENT, {}, 2, "has fewer signers than a transition needs"),
        (DEPLOYMENT, {"a": PUBLIC_KEYS["legal-lead"], "b": PUBLIC_KEYS["legal-lead"]}, 2, "two signers have the same"),
        (DEPLOYMENT, {"a": "AAAA", "b": PUBLIC_KEYS["legal-lead"]}, 2, "signer a is no base64url Ed25519 key"),
        (DEPLOYMENT, {"a": "A" * 42 + "=", "b": PUBLIC_KEYS["legal-lead"]}, 2, "signer a is no base64url"),
    ],
)
def test_a_trust_root_that_would_check_less_cannot_be_built(
    deployment: str, signers: dict[str, str], threshold: int, text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        trust_root(deployment, signers, threshold)


def test_without_a_trust_root_nothing_is_checked_and_the_policy_says_so() -> None:
    unsigned = policy(signed_plan(active="s3"), agreement())

    assert unsigned.stage.id == "s3"
    assert not unsigned.is_signed
