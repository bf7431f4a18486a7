from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.client import results, wire
from sluicegate.client.errors import FieldViolation, InvalidRequest
from sluicegate.client.requests import GenerationConfig, StreamOptions
from sluicegate.v1 import (
    access_service_pb2,
    generation_pb2,
    generation_service_pb2,
    model_service_pb2,
    reason_pb2,
)


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (results.FinishReason, generation_pb2.FinishReason.DESCRIPTOR, "FINISH_REASON_"),
        (results.PersonalDataType, generation_pb2.PersonalDataType.DESCRIPTOR, "PERSONAL_DATA_TYPE_"),
        (results.Watermark, generation_pb2.Watermark.DESCRIPTOR, "WATERMARK_"),
        (results.Audience, model_service_pb2.Audience.DESCRIPTOR, "AUDIENCE_"),
        (results.ModelState, model_service_pb2.ModelState.DESCRIPTOR, "MODEL_STATE_"),
    ],
)
def test_our_enums_are_those_of_the_api(ours: type[StrEnum], theirs: EnumDescriptor, prefix: str) -> None:
    assert [prefix + member.value for member in ours] == [value.name for value in theirs.values]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(GenerationConfig, generation_pb2.GenerationConfig), (StreamOptions, generation_pb2.StreamOptions)],
)
def test_our_options_are_those_of_the_api(ours: Any, theirs: Any) -> None:
    names = {each.name.removesuffix("_seconds") for each in fields(ours)}

    assert names == {each.name for each in theirs.DESCRIPTOR.fields}


def test_only_what_is_set_is_sent() -> None:
    message = wire.config_message(GenerationConfig())

    assert message is not None
    assert message.ListFields() == []


def test_a_zero_is_sent_and_is_not_the_default() -> None:
    message = wire.config_message(GenerationConfig(temperature=0.0, seed=0, ignore_eos=False, logprobs=0))

    assert message is not None
    assert [each.name for each, _ in message.ListFields()] == ["temperature", "seed", "ignore_eos", "logprobs"]


def test_every_field_of_the_config_arrives() -> None:
    config = GenerationConfig(
        max_output_tokens=5,
        temperature=0.5,
        top_k=40,
        top_p=0.25,
        min_p=0.125,
        typical_p=0.75,
        repetition_penalty=1.5,
        presence_penalty=-0.5,
        frequency_penalty=0.25,
        seed=2**64 - 1,
        candidate_count=3,
        stop_sequences=["\n", "END"],
        stop_token_ids=[1, 2],
        logit_bias={50256: -100.0},
        ignore_eos=True,
        response_logprobs=True,
        logprobs=4,
    )

    message = wire.config_message(config)

    assert message is not None
    for each in fields(config):
        sent, wanted = getattr(message, each.name), getattr(config, each.name)
        assert (dict(sent) if each.name == "logit_bias" else list(sent) if isinstance(wanted, list) else sent) == wanted


def test_a_priority_that_no_message_can_carry_is_named_with_its_rule() -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.message(generation_service_pb2.GenerateRequest, priority=2**31)

    [violation] = caught.value.field_violations
    assert violation.description == "must be a whole number from -2147483648 to 2147483647"


def test_stream_options_arrive_with_fractions_of_seconds() -> None:
    message = wire.options_message(
        StreamOptions(max_delay_seconds=1.25, min_tokens_per_message=4, include_tokens=False)
    )

    assert message is not None
    assert (message.max_delay.seconds, message.max_delay.nanos) == (1, 250_000_000)
    assert message.min_tokens_per_message == 4
    assert message.HasField("include_tokens")
    assert not message.include_tokens


@pytest.mark.parametrize(
    ("config", "field", "rule"),
    [
        (GenerationConfig(top_k=-1), "top_k", "must be a whole number from 0 to 4294967295"),
        (GenerationConfig(max_output_tokens=99999999999), "max_output_tokens", "must be a whole number from 0 to"),
        (GenerationConfig(seed=2**64), "seed", "must be a whole number from 0 to 18446744073709551615"),
        (GenerationConfig(seed=-1, top_k=1), "seed", "must be a whole number from 0 to"),
        (GenerationConfig(temperature="hot"), "temperature", "must be a number"),  # type: ignore[arg-type]
        (GenerationConfig(top_k=1.5), "top_k", "must be a whole number"),  # type: ignore[arg-type]
        (GenerationConfig(ignore_eos="no"), "ignore_eos", "must be true or false"),  # type: ignore[arg-type]
        (GenerationConfig(stop_sequences=["\ud800"]), "stop_sequences", "must be a list, each text that can be"),
        (GenerationConfig(stop_token_ids=5), "stop_token_ids", "must be a list"),  # type: ignore[arg-type]
        (GenerationConfig(logit_bias={-1: 0.0}), "logit_bias", "must map a whole number from 0 to 4294967295 to a num"),
    ],
)
def test_a_field_that_no_message_can_carry_is_named_with_its_rule(
    config: GenerationConfig, field: str, rule: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.config_message(config)

    (violation,) = caught.value.field_violations
    assert violation.field == f"config.{field}"
    assert violation.description.startswith(rule)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300])
def test_a_delay_that_is_no_span_of_time_is_an_invalid_request(seconds: float) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.options_message(StreamOptions(max_delay_seconds=seconds))

    assert caught.value.field_violations == (FieldViolation("stream_options.max_delay", "must be a span of time"),)


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ("\ud800", "text"),
        (b"bytes", "text"),
        (bytearray(b"bytes"), "text"),
        ([-1], "token_ids.ids"),
        ([2**32], "token_ids.ids"),
        (["one"], "token_ids.ids"),
        (5, "token_ids.ids"),
    ],
)
def test_a_prompt_that_is_neither_text_nor_token_ids_is_an_invalid_request(prompt: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.set_prompt(generation_service_pb2.GenerateRequest(), prompt)

    assert [each.field for each in caught.value.field_violations] == [field]


def test_a_prompt_is_text_or_token_ids() -> None:
    text, ids = generation_service_pb2.GenerateRequest(), generation_service_pb2.ScoreRequest()

    wire.set_prompt(text, "Once")
    wire.set_prompt(ids, (1, 2))

    assert (text.WhichOneof("prompt"), text.text) == ("text", "Once")
    assert (ids.WhichOneof("content"), list(ids.token_ids.ids)) == ("token_ids", [1, 2])


def test_an_empty_list_of_tokens_still_says_that_tokens_were_meant() -> None:
    request = generation_service_pb2.GenerateRequest()

    wire.set_prompt(request, [])

    assert request.WhichOneof("prompt") == "token_ids"


def test_tokens_keep_their_bytes_and_say_when_they_have_no_probability() -> None:
    plain, scored = wire.tokens(
        [
            generation_pb2.Token(id=1, bytes=b"\xc3"),
            generation_pb2.Token(
                id=2,
                bytes=b"b",
                log_probability=0.0,
                top=[generation_pb2.TopToken(id=3, bytes=b"c", log_probability=-0.5)],
            ),
        ]
    )

    assert (plain.bytes, plain.log_probability, plain.top) == (b"\xc3", None, ())
    assert (scored.log_probability, scored.top) == (0.0, (results.TopToken(3, b"c", -0.5),))


def test_an_event_of_a_newer_server_is_passed_over() -> None:
    assert wire.event(generation_service_pb2.StreamGenerateResponse()) is None


def test_a_finish_reason_of_a_newer_server_is_unspecified() -> None:
    message = generation_pb2.Finished()
    message.finish_reason = 99  # type: ignore[assignment]

    assert wire.finished(message).finish_reason is results.FinishReason.UNSPECIFIED


def test_redactions_are_counted_by_type_those_of_a_newer_server_together() -> None:
    redactions = [generation_pb2.Redaction(count=count) for count in (2, 3, 4)]
    for each, number in zip(redactions, (generation_pb2.PERSONAL_DATA_TYPE_CARD, 98, 99), strict=True):
        each.type = number  # type: ignore[assignment]

    end = wire.finished(generation_pb2.Finished(redactions=redactions))

    assert end.redactions == {results.PersonalDataType.CARD: 2, results.PersonalDataType.UNSPECIFIED: 7}
    whole = generation_service_pb2.GenerateResponse(candidates=[generation_pb2.Candidate()])
    whole.candidates[0].finished.redactions.extend(redactions)
    assert wire.generation(whole).candidates[0].redactions == end.redactions


def test_a_model_that_is_not_loaded_has_no_counts() -> None:
    model = wire.model(
        model_service_pb2.Model(
            id="m",
            state=model_service_pb2.MODEL_STATE_LOADING,
            open_to=model_service_pb2.AUDIENCE_PARTNER,
            caller_access=model_service_pb2.CallerAccess(reason=reason_pb2.REASON_AGREEMENT_REQUIRED),
        )
    )

    assert (model.parameters, model.context_length, model.vocabulary_size) == (None, None, None)
    assert (model.state, model.open_to) == (results.ModelState.LOADING, results.Audience.PARTNER)
    assert model.caller_access == results.CallerAccess(allowed=False, reason="AGREEMENT_REQUIRED", agreement=None)


def test_a_reason_of_a_newer_server_keeps_its_number() -> None:
    message = access_service_pb2.CheckAccessResponse()
    message.reason = 999  # type: ignore[assignment]

    assert wire.access(message).reason == "UNKNOWN_999"


def test_an_anonymous_caller_has_no_expiry_and_no_agreement() -> None:
    identity = wire.identity(access_service_pb2.GetCallerIdentityResponse(stage="s1"))

    assert (identity.subject, identity.token_expires, identity.agreement) == ("", None, None)


def test_times_are_in_utc() -> None:
    identity = wire.identity(
        access_service_pb2.GetCallerIdentityResponse(
            token_expire_time=Timestamp(seconds=1_770_000_000),
            agreement=access_service_pb2.AgreementTerms(id="agr-1", purposes=["p"]),
        )
    )

    assert identity.token_expires == datetime(2026, 2, 2, 2, 40, tzinfo=UTC)
    assert identity.agreement is not None
    assert (identity.agreement.purposes, identity.agreement.valid_until) == (("p",), None)
