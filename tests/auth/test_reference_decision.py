"""The decision and the reference, written apart from each other, agree on random policies, callers, calls and times."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from issuer import ISSUER
from policies import agreement, release
from reference_decision import CIRCLES, Question, Refused, Served, reference_decision

from sluicegate.auth import (
    AccessRequest,
    Agreement,
    AuthorizationDetail,
    Denied,
    Grant,
    IssuedBefore,
    Peer,
    Policy,
    Principal,
    Reason,
    ReleasePlan,
    Withdrawals,
    anonymous,
)

Document = dict[str, Any]

A_PLAN, AN_AGREEMENT = release(), agreement()
MODELS = ("gpt2-124m", "gpt2-774m", "gpt2-next")
CLIENTS = ("app", "lab-app", "eval-team")
AGREEMENTS = ("agr-a", "agr-b", "agr-c")
ACTIONS = ("generate", "score")
PURPOSES = ("study", "fun")
NETWORKS = ("192.0.2.0/24", "2001:db8::/32")
THUMBPRINTS = ("A" * 43, "B" * 43)
ACRS = ("mfa", "key")
STAGES = ("s0", "s1", "s2")
MONDAY = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp())
HOUR = 3600
AGES = (60, 61, 8 * HOUR, 8 * HOUR + 1)
OTHER_ISSUER = "https://other.example"
SCOPES = sorted(f"{action}:{model}" for action in (*ACTIONS, "logprobs") for model in MODELS)


def some(values: Sequence[str], *, at_least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=at_least, max_size=len(values), unique=True)


@st.composite
def mostly(draw: st.DrawFn, value: Any, others: st.SearchStrategy[Any]) -> Any:
    """The value in nine cases of ten, so that many calls come past this row to the next."""
    return draw(others) if draw(st.integers(0, 9)) == 9 else value


def members(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries({}, optional=optional)


BOUND_TO = st.sampled_from((THUMBPRINTS[0], THUMBPRINTS[0], THUMBPRINTS[1], None))
OPEN_TO = mostly("partner", st.sampled_from(("internal", None))) | mostly("public", st.sampled_from(("internal", None)))
TIMES = st.sampled_from(("2026-03-02T11:00:00Z", "2026-03-02T12:00:00Z", "2026-03-02T13:00:00Z"))
WINDOWS = st.sampled_from(("07:00-22:00", "00:00-24:00", "12:00-12:01", "06:30-07:30"))
TOKEN_TERMS = members(
    max_lifetime=st.sampled_from(("10m", "900s", "1h")),
    binding=st.just("mtls"),
    acr=some(ACRS),
    max_auth_age=st.sampled_from(("60s", "8h")),
)
WATERMARK_TERMS = st.sampled_from(("required", "where_possible", "none"))
OUTPUT_TERMS = members(
    watermark=WATERMARK_TERMS,
    redaction=st.sampled_from(("pii", "none")),
    flagged=st.sampled_from(("count", "stop")),
)


@st.composite
def agreements(draw: st.DrawFn, id_: str) -> Document:
    """One agreement, with the terms that any of the rows looks at."""
    optional = draw(
        members(
            purposes=some(PURPOSES),
            networks=some(NETWORKS),
            token=TOKEN_TERMS,
            output=OUTPUT_TERMS,
            hours=members(weekdays=WINDOWS, weekends=WINDOWS, mode=st.sampled_from(("enforce", "signal"))),
        )
    )
    lenient: Document = {"purposes": None, "networks": None, "token": None, "output": None, "hours": None}
    changes = (
        lenient
        | {
            "id": id_,
            "partner": f"lab-{id_[-1]}",
            "status": draw(mostly("active", st.sampled_from(("draft", "suspended", "terminated")))),
            "valid": {"from": draw(mostly("2026-01-01T00:00:00Z", TIMES)), "until": "2026-03-02T13:00:01Z"},
            "clients": [{"issuer": ISSUER, "client": name} for name in draw(mostly(["lab-app"], some(CLIENTS[:2])))],
            "models": draw(mostly(list(MODELS), some(MODELS)) if id_ == "agr-a" else some(MODELS)),
            "actions": draw(mostly(list(ACTIONS), some(ACTIONS)) if id_ == "agr-a" else some(ACTIONS)),
            "timezone": draw(st.sampled_from(("UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"))),
            "quotas": draw(members(output_tokens_per_call=st.integers(1, 9))),
        }
        | optional
    )
    return {name: value for name, value in {**AN_AGREEMENT, **changes}.items() if value is not None}


def without_overlaps(terms: Sequence[Document]) -> list[Document]:
    """Those of the agreements that a policy can have together."""
    kept: list[Document] = []
    covered: set[tuple[str, str, str]] = set()
    for each in terms:
        clients = [client["client"] for client in each["clients"]]
        covers = set(itertools.product(clients, each["models"], each["actions"]))
        if each["status"] in ("active", "suspended"):
            if covers & covered:
                continue
            covered |= covers
        kept.append(each)
    return kept


@st.composite
def plans(draw: st.DrawFn) -> Document:
    stages = [
        {"id": id_, "name": id_, "open": {model: circle for model in MODELS if (circle := draw(OPEN_TO))}}
        for id_ in STAGES
    ]
    public: Document = {"quotas": draw(members(output_tokens_per_call=st.integers(1, 9)))}
    if draw(st.booleans()):
        quotas = draw(members(output_tokens_per_call=st.integers(1, 9)))
        public |= {"anonymous": "serve", "anonymous_quotas": quotas}
    stage = draw(st.sampled_from(STAGES))
    mark = {"watermark": draw(WATERMARK_TERMS)}
    models = {**A_PLAN["models"], MODELS[0]: A_PLAN["models"][MODELS[0]] | mark}
    return A_PLAN | {"models": models, "stages": stages, "active": stage, "public": public, "transitions": []}


DETAILS = st.builds(
    AuthorizationDetail,
    agreement=mostly("agr-a", st.sampled_from((*AGREEMENTS, "agr-nowhere"))),
    actions=mostly(None, some(ACTIONS).map(frozenset)),
    models=mostly(None, some(MODELS).map(frozenset)),
    purpose=st.none() | mostly("study", st.sampled_from(PURPOSES)),
    limits=members(output_tokens_per_call=st.integers(1, 9)),
)


@st.composite
def principals(draw: st.DrawFn, now: float) -> Principal:
    if draw(st.integers(0, 9)) == 9:
        return anonymous()
    issued_at = int(now) - draw(st.sampled_from((0, 1, 600)))
    return Principal(
        issuer=draw(mostly(ISSUER, st.just(OTHER_ISSUER))),
        subject=draw(st.sampled_from(("alice", "bob"))),
        client_id=draw(st.sampled_from(("lab-app", *CLIENTS))),
        token_id=draw(st.sampled_from(("t1", "t2"))),
        key_id=draw(st.sampled_from(("k1", "k2"))),
        scopes=draw(mostly(frozenset(SCOPES), some(SCOPES).map(frozenset))),
        authorization_details=tuple(draw(st.lists(DETAILS, max_size=2))),
        issued_at=issued_at,
        expires_at=issued_at + draw(st.sampled_from((600, 601, 900, 901, HOUR))),
        authenticated_at=draw(mostly(int(now), st.sampled_from((None, *(int(now) - ago for ago in AGES))))),
        acr=draw(mostly("mfa", st.none() | st.sampled_from((*ACRS, "pwd")))),
        certificate_thumbprint=draw(BOUND_TO),
    )


SELDOM = mostly(value=False, others=st.just(value=True))
REQUESTS = st.builds(
    AccessRequest,
    action=mostly("generate", st.sampled_from((*ACTIONS, "train"))),
    model=mostly(MODELS[0], st.sampled_from((*MODELS, "gpt2-unheard-of"))),
    purpose=mostly("study", st.none() | st.sampled_from(PURPOSES)),
    logprobs=SELDOM,
    greedy=st.booleans(),
    token_bytes=st.booleans(),
    partner_only=SELDOM,
)
ADDRESSES = ("192.0.2.7", "::ffff:192.0.2.7", "198.51.100.7", "2001:db8::7", "2001:db9::7")
PEERS = st.builds(
    Peer,
    address=mostly(ip_address(ADDRESSES[0]), st.none() | st.sampled_from(ADDRESSES).map(ip_address)),
    certificate_thumbprint=BOUND_TO,
)


def pairs(*names: str) -> st.SearchStrategy[frozenset[tuple[str, str]]]:
    return mostly(
        frozenset(),
        st.frozensets(st.tuples(st.sampled_from((ISSUER, OTHER_ISSUER, "")), st.sampled_from((*names, "")))),
    )


def ids(*names: str) -> st.SearchStrategy[frozenset[str]]:
    return mostly(frozenset(), st.frozensets(st.sampled_from(names)))


@st.composite
def withdrawals(draw: st.DrawFn, now: float) -> Withdrawals:
    before = st.builds(
        IssuedBefore,
        issuer=st.sampled_from((ISSUER, OTHER_ISSUER)),
        time=st.sampled_from((int(now) - 600, int(now), int(now) + 1)),
        client=st.none() | st.sampled_from(CLIENTS),
        subject=st.none() | st.sampled_from(("alice", "bob")),
    )
    return Withdrawals(
        tokens=draw(pairs("t1")),
        issued_before=draw(mostly((), st.lists(before, max_size=2).map(tuple))),
        keys=draw(pairs("k1")),
        clients=draw(pairs("app")),
        subjects=draw(pairs("bob")),
        agreements=draw(mostly(frozenset(), st.frozensets(st.sampled_from(AGREEMENTS), min_size=1))),
        models=draw(ids(*MODELS)),
        stages=draw(ids(*STAGES, "s9")),
    )


@st.composite
def questions(draw: st.DrawFn) -> Question:
    hours = draw(st.sampled_from((-200, -100, -44, -20, -10, -1, 0, 1, 2)))
    now = MONDAY + hours * HOUR + draw(st.sampled_from((0, 0.5, 1, -1)))
    ids = draw(mostly(["agr-a"], st.lists(st.sampled_from(AGREEMENTS), unique=True)))
    terms = [draw(agreements(id_)) for id_ in ids]
    return Question(
        plan=draw(plans()),
        agreements=without_overlaps(terms),
        withdrawn=draw(withdrawals(now)),
        principal=draw(principals(now)),
        request=draw(REQUESTS),
        peer=draw(PEERS),
        now=now,
    )


def policy_of(asked: Question) -> Policy:
    """The policy of these documents; files would say the same more slowly."""
    terms = [Agreement.model_validate(each) for each in asked.agreements]
    return Policy(
        revision="0" * 64,
        directory=Path("/policy"),
        plan=ReleasePlan.model_validate(asked.plan),
        agreements={each.id: each for each in terms},
        is_signed=False,
        withdrawals=asked.withdrawn,
    )


def decision(asked: Question) -> Refused | Served:
    """What the real decision says, in the words of the reference. Its rows are not compared."""
    decider = policy_of(asked)
    outcome = decider.decide(asked.principal, asked.request, asked.peer, asked.now)
    if isinstance(outcome, Denied):
        return Refused(0, outcome.reason.value, dict(outcome.detail))
    assert (outcome.action, outcome.model) == (asked.request.action, asked.request.model)
    assert outcome.policy_revision == decider.revision
    return served(outcome)


def served(grant: Grant) -> Served:
    return Served(
        audience=grant.audience.value,
        partner=grant.partner,
        agreement=grant.agreement,
        stage=grant.stage,
        output_tokens=grant.max_output_tokens,
        watermark=grant.watermark,
        redaction=grant.redaction,
        stop_flagged=grant.stop_flagged,
        outside_hours=grant.outside_hours,
        expires_at=grant.expires_at,
    )


def expected(asked: Question) -> Refused | Served:
    outcome = reference_decision(asked)
    return Refused(0, outcome.reason, outcome.facts) if isinstance(outcome, Refused) else outcome


@pytest.mark.timeout(300)
def test_the_decision_is_that_of_the_reference_and_the_questions_reach_every_answer() -> None:
    reached: set[str] = set()

    @seed(20190214)
    @settings(max_examples=1200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(questions())
    def ask(asked: Question) -> None:
        outcome = expected(asked)
        reached.add(outcome.reason if isinstance(outcome, Refused) else outcome.audience)
        assert decision(asked) == outcome

    ask()

    rows = [reason.value for reason in Reason]
    of_the_policy = rows[rows.index("SCOPE_MISSING") : rows.index("WITHDRAWALS_STALE")]
    assert {*of_the_policy, "TOKEN_MISSING", "TOKEN_WITHDRAWN", "CALLER_WITHDRAWN", *CIRCLES} - reached == set()
