from __future__ import annotations

import grpc
import pytest

from sluicegate.client.remedies import REMEDIES, remedy_for
from sluicegate.v1 import reason_pb2

REASONS = [
    name.removeprefix("REASON_") for name in reason_pb2.Reason.DESCRIPTOR.values_by_name if name != "REASON_UNSPECIFIED"
]


def test_every_reason_of_the_api_has_a_remedy_and_nothing_else_has() -> None:
    assert set(REMEDIES) == set(REASONS)


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_is_answered_with_its_own_remedy_whatever_the_code(reason: str) -> None:
    assert remedy_for(reason, "UNKNOWN", {}) == REMEDIES[reason]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_a_status_without_a_reason_still_says_what_to_do(code: grpc.StatusCode) -> None:
    assert remedy_for(None, code.name, {})
    assert remedy_for(None, code.name, {}) == remedy_for("REASON_OF_A_NEWER_SERVER", code.name, {})


def test_what_a_proxy_says_of_a_dead_replica_is_to_be_tried_again_and_what_the_server_says_of_a_fault_is_not() -> None:
    assert remedy_for(None, "INTERNAL", {}).startswith("try again")
    assert remedy_for("INTERNAL", "INTERNAL", {}).startswith("report it")


def test_the_server_s_facts_stand_in_the_remedy() -> None:
    remedy = remedy_for("SCOPE_MISSING", "PERMISSION_DENIED", {"required_scope": "generate:gpt2-124m"})

    assert remedy == "get a token that has the scope `generate:gpt2-124m`"


def test_a_fact_that_the_server_left_out_leaves_the_general_remedy() -> None:
    assert remedy_for("CONTEXT_LENGTH_EXCEEDED", "INVALID_ARGUMENT", {"prompt_tokens": "9"}) == (
        "shorten the prompt or ask for fewer output tokens"
    )


def test_a_fact_is_never_read_as_a_pattern() -> None:
    remedy = remedy_for("SCOPE_MISSING", "PERMISSION_DENIED", {"required_scope": "{code.__class__}"})

    assert remedy == "get a token that has the scope `{code.__class__}`"
