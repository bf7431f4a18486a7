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
