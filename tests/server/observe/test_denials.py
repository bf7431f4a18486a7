"""Every reason has its place among the classes of denials, or among those that are none."""

from __future__ import annotations

import grpc
import pytest

from sluicegate.auth import Reason
from sluicegate.server.limiters import DENIALS
from sluicegate.server.observe.denials import DENIAL_CLASSES, DenialClass
from sluicegate.server.rpc.status import STATUSES
from sluicegate.server.state.ledger import REASONS

NO_DENIALS = {
    "PEER_RATE_LIMIT",
    "DENIAL_RATE_LIMIT",
    "REQUEST_INVALID",
    "CONTEXT_LENGTH_EXCEEDED",
    "SIGNATURES_REQUIRED",
    "FINDING_UNKNOWN",
    "REQUEST_UNKNOWN",
    "MODEL_LOAD_FAILED",
    "METHOD_UNKNOWN",
    "KEYS_STALE",
    "WITHDRAWALS_STALE",
    "STATE_UNAVAILABLE",
    "MODEL_NOT_READY",
    "SERVER_OVERLOADED",
    "AUDIT_UNAVAILABLE",
    "METHOD_SCOPE_MISSING",
    "INTERNAL",
    "SERVER_DRAINING",
    "ENGINE_LOST",
    "DEADLINE_EXCEEDED",
    "READER_STALLED",
    "CANCELLED_BY_CALLER",
    "CANCELLED_BY_OPERATOR",
}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_placed(reason: Reason) -> None:
    assert (DENIAL_CLASSES[reason] is None) == (reason.value in NO_DENIALS)


def test_all_that_is_answered_as_unauthenticated_is_of_one_class() -> None:
    unauthenticated = {reason for reason, row in STATUSES.items() if row.code is grpc.StatusCode.UNAUTHENTICATED}

    placed = {reason for reason, kind in DENIAL_CLASSES.items() if kind is DenialClass.AUTHN}

    assert placed == unauthenticated | {Reason.CALLER_WITHDRAWN}


def test_the_refusals_of_the_ledger_and_too_many_findings_are_of_the_class_quota() -> None:
    of_quotas = {reason for reason, kind in DENIAL_CLASSES.items() if kind is DenialClass.QUOTA}

    assert of_quotas == {*REASONS.values(), Reason.FINDING_RATE_LIMIT}


def test_what_operators_closed_is_told_apart_from_what_was_never_open() -> None:
    withdrawn = {reason for reason, kind in DENIAL_CLASSES.items() if kind is DenialClass.WITHDRAWN}

    assert withdrawn == {Reason.MODEL_WITHDRAWN, Reason.AGREEMENT_WITHDRAWN, Reason.STAGE_CHANGED}


def test_what_spends_a_clients_budget_of_denials_is_a_denial_unless_the_request_is_just_wrong() -> None:
    assert {reason for reason in DENIALS if DENIAL_CLASSES[reason] is None} == {Reason.REQUEST_INVALID}
