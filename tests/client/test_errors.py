from __future__ import annotations

import inspect
import re

import grpc
import pytest

from sluicegate.client import errors


def kinds() -> list[type[errors.SluicegateError]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.SluicegateError) and kind is not errors.SluicegateError
    ]


@pytest.mark.parametrize("kind", kinds())
def test_every_error_stands_in_the_drawn_tree_below_its_parent(kind: type[errors.SluicegateError]) -> None:
    lines = (errors.__doc__ or "").splitlines()
    depth = {match[2]: len(match[1]) for line in lines if (match := re.match(r"([│├└─ ]*)([A-Z]\w+)", line))}

    assert depth[kind.__name__] == depth[kind.__base__.__name__ if kind.__base__ else ""] + 4


def test_the_text_says_what_why_and_what_to_do() -> None:
    error = errors.AccessDenied(
        "the token lacks the scope",
        code=grpc.StatusCode.PERMISSION_DENIED,
        reason="SCOPE_MISSING",
        metadata={"required_scope": "score:gpt2-124m"},
    )

    assert str(error) == ("the token lacks the scope (SCOPE_MISSING): get a token that has the scope `score:gpt2-124m`")


def test_without_a_text_and_a_reason_the_code_stands_in() -> None:
    error = errors.Unavailable("", code=grpc.StatusCode.UNAVAILABLE)

    assert str(error).startswith("UNAVAILABLE (UNAVAILABLE): ")


@pytest.mark.parametrize(
    ("facts", "acr_values", "max_age"),
    [
        ({"acr_values": "urn:example:acr:mfa urn:example:acr:key", "max_age": "3600"}, 2, 3600),
        ({"max_age": "0"}, 0, 0),
        ({"acr_values": "urn:example:acr:mfa"}, 1, None),
        ({}, 0, None),
        ({"acr_values": " ", "max_age": "-1"}, 0, None),
        ({"max_age": "\u0663"}, 0, None),
        ({"max_age": "9" * 5000}, 0, None),
    ],
)
def test_a_step_up_says_what_to_ask_the_issuer_for(facts: dict[str, str], acr_values: int, max_age: int | None) -> None:
    error = errors.AuthenticationFailed(
        "", code=grpc.StatusCode.UNAUTHENTICATED, reason="STEP_UP_REQUIRED", metadata=facts
    )

    assert (len(error.acr_values), error.max_age) == (acr_values, max_age)
