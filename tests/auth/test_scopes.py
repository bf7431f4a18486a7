"""Scopes: their grammar, their templates, and that the protos ask for no others."""

from __future__ import annotations

import pytest

from sluicegate.auth import ConfigurationError, required_scope
from sluicegate.auth.scopes import AUTHENTICATED, TEMPLATES, parse
from sluicegate.v1 import access_service_pb2, generation_service_pb2, model_service_pb2, options_pb2

PROTOS = [access_service_pb2, generation_service_pb2, model_service_pb2]
ASKED_FOR = {
    method.GetOptions().Extensions[options_pb2.required_scope]
    for file in PROTOS
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def test_a_claim_is_a_set_of_scopes() -> None:
    assert parse("generate:gpt2-124m logprobs:gpt2-124m generate:gpt2-124m") == {
        "generate:gpt2-124m",
        "logprobs:gpt2-124m",
    }


@pytest.mark.parametrize("claim", ["", " ", "a ", " a", "a  b", "a\tb", 'a"', "a\\", "ä", "a\n", "x" * 513])
def test_what_rfc_6749_does_not_allow_is_refused(claim: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        parse(claim)


def test_32_scopes_are_the_most() -> None:
    names = [f"s{number}" for number in range(33)]

    assert len(parse(" ".join(names[:32]))) == 32
    with pytest.raises(ValueError, match="more than 32 scopes"):
        parse(" ".join(names))


@pytest.mark.parametrize(
    ("template", "model", "scope"),
    [
        ("generate:{model}", "gpt2-124m", "generate:gpt2-124m"),
        ("detect:watermark", None, "detect:watermark"),
        ("detect:watermark", "gpt2-124m", "detect:watermark"),
        (AUTHENTICATED, None, None),
        (AUTHENTICATED, "gpt2-124m", None),
    ],
)
def test_a_template_gives_the_scope_of_a_call(template: str, model: str | None, scope: str | None) -> None:
    assert required_scope(template, model) == scope


@pytest.mark.parametrize(
    ("template", "model"),
    [("", "m"), ("generate:*", "m"), ("generate:{model}", None), ("generate:{model}", ""), ("Authenticated", None)],
)
def test_a_method_whose_need_is_unclear_is_not_served(template: str, model: str | None) -> None:
    with pytest.raises(ConfigurationError):
        required_scope(template, model)


def test_every_scope_that_a_method_asks_for_is_a_template() -> None:
    assert {*TEMPLATES, AUTHENTICATED} >= ASKED_FOR
    assert "generate:{model}" in ASKED_FOR
