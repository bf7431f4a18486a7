"""Between our own types and the API's messages: only this module and those named `…_wire` know both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar, cast

import grpc
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.client import findings, results
from sluicegate.client.errors import FieldViolation, InvalidRequest
from sluicegate.client.requests import GenerationConfig, Prompt, StreamOptions
from sluicegate.v1 import (
    access_service_pb2,
    finding_service_pb2,
    generation_pb2,
    generation_service_pb2,
    model_service_pb2,
    reason_pb2,
)

Member = TypeVar("Member", bound=StrEnum)
Built = TypeVar("Built", bound=Message)

_KINDS: Mapping[int, str] = MappingProxyType(
    {
        FieldDescriptor.CPPTYPE_BOOL: "true or false",
        FieldDescriptor.CPPTYPE_ENUM: "a member of the enum that `sluicegate.client` has for it",
        FieldDescriptor.CPPTYPE_FLOAT: "a number",
        FieldDescriptor.CPPTYPE_INT32: f"a whole number from {-(2**31)} to {2**31 - 1}",
        FieldDescriptor.CPPTYPE_STRING: "text that can be written as UTF-8",
        FieldDescriptor.CPPTYPE_UINT32: f"a whole number from 0 to {2**32 - 1}",
        FieldDescriptor.CPPTYPE_UINT64: f"a whole number from 0 to {2**64 - 1}",
    }
)
_MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        "google.protobuf.Duration": "a span of time",
        "google.protobuf.Timestamp": "a time with a time zone",
        "sluicegate.v1.WithdrawalTarget": "one of the targets that `sluicegate.client` has",
        "sluicegate.v1.Attachment": "an `Attachment` of `sluicegate.client`",
    }
)


def message(kind: type[Built], path: str = "", /, **values: object) -> Built:
    """A message of these fields, at this path in the request; None leaves one out.

    Raises InvalidRequest that names the first field which cannot carry its value: wrong type, number out of
    range, no UTF-8.
    """
    built = kind()
    known = cast("Mapping[str, FieldDescriptor]", kind.DESCRIPTOR.fields_by_name)
    for name, value in values.items():
        with setting(known[name], path):
            # One at a time: protobuf does not say which of several it refuses.
            built.MergeFrom(kind(**{name: value}))
    return built


@contextmanager
def setting(field: FieldDescriptor, path: str = "") -> Iterator[None]:
    """Around what sets a field: Python's errors become an InvalidRequest that names the field and what it takes."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as refused:
        raise InvalidRequest(
            "the request cannot be put into a message",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            field_violations=[FieldViolation(path + field.name, _rule(field))],
        ) from refused


def _rule(field: FieldDescriptor) -> str:
    """What protobuf takes; the server's own bounds are narrower."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, value = (_KINDS[entry.fields_by_name[each].cpp_type] for each in ("key", "value"))
        return f"must map {key} to {value}"
    known = _KINDS.get(field.cpp_type) if entry is None else _MESSAGES.get(entry.full_name)
    kind = known or "what the API says"
    return f"must be {'a list, each ' if field.is_repeated else ''}{kind}"


def set_prompt(
    request: generation_service_pb2.StreamGenerateRequest
    | generation_service_pb2.GenerateRequest
    | generation_service_pb2.ScoreRequest,
    prompt: Prompt,
) -> None:
    """Set the member of the request's oneof that fits. Raises InvalidRequest."""
    # To Python bytes are a sequence of numbers; as token ids they would be another text.
    if isinstance(prompt, str | bytes | bytearray):
        with setting(request.DESCRIPTOR.fields_by_name["text"]):
            if not isinstance(prompt, str):
                raise TypeError("a prompt is text or token ids, not bytes")
            request.text = prompt
    else:
        request.token_ids.CopyFrom(message(generation_pb2.TokenIds, "token_ids.", ids=prompt))


def config_message(config: GenerationConfig | None) -> generation_pb2.GenerationConfig | None:
    """The message, with only those fields that are set. Raises InvalidRequest."""
    if config is None:
        return None
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    return message(
        generation_pb2.GenerationConfig,
        "config.",
        **{name: value for name, value in values.items() if value is not None and value not in ((), [], {})},
    )


def options_message(options: StreamOptions | None) -> generation_pb2.StreamOptions | None:
    """The message, with only those fields that are set. Raises InvalidRequest."""
    if options is None:
        return None
    built = message(
        generation_pb2.StreamOptions,
        "stream_options.",
        min_tokens_per_message=options.min_tokens_per_message,
        include_tokens=options.include_tokens,
    )
    if options.max_delay_seconds is not None:
        with setting(built.DESCRIPTOR.fields_by_name["max_delay"], "stream_options."):
            built.max_delay.FromNanoseconds(round(options.max_delay_seconds * 1e9))
    return built


def usage(message: generation_pb2.Usage) -> results.Usage:
    return results.Usage(prompt_tokens=message.prompt_tokens, output_tokens=message.output_tokens)


def event(message: generation_service_pb2.StreamGenerateResponse) -> results.Event | None:
    """The event of a stream's message; None for one that only a newer server knows."""
    match message.WhichOneof("event"):
        case "started":
            return started(message.started)
        case "delta":
            delta = message.delta
            return results.Delta(candidate=delta.candidate, text=delta.text, tokens=tokens(delta.tokens))
        case "finished":
            return finished(message.finished)
        case _:
            return None


def started(message: generation_pb2.Started) -> results.Started:
    return results.Started(
        request_id=message.request_id,
        client_request_id=message.client_request_id,
        model=message.model,
        weights_sha256=message.weights_sha256,
        stage=message.stage,
        policy_revision=message.policy_revision,
        agreement=message.agreement or None,
        prompt_tokens=message.prompt_tokens,
        seed=message.seed,
        max_output_tokens=message.max_output_tokens,
        queue_seconds=message.queue_duration.seconds + message.queue_duration.nanos / 1e9,
        priority=message.priority,
    )


def finished(message: generation_pb2.Finished) -> results.Finished:
    return results.Finished(
        candidate=message.candidate,
        finish_reason=_finish_reason(message.finish_reason),
        stop_sequence=message.stop_sequence or None,
        output_tokens=message.output_tokens,
        watermark=_watermark(message.watermark),
        watermark_id=message.watermark_id or None,
        redactions=_redactions(message.redactions),
    )


def generation(message: generation_service_pb2.GenerateResponse) -> results.Generation:
    return results.Generation(
        started=started(message.started),
        candidates=tuple(_candidate(each) for each in message.candidates),
        usage=usage(message.usage),
    )


def score(message: generation_service_pb2.ScoreResponse) -> results.Score:
    return results.Score(
        started=started(message.started),
        tokens=tokens(message.tokens),
        total_log_probability=message.total_log_probability,
        usage=usage(message.usage),
    )


def tokens(messages: Iterable[generation_pb2.Token]) -> tuple[results.Token, ...]:
    return tuple(
        results.Token(
            id=each.id,
            bytes=each.bytes,
            log_probability=each.log_probability if each.HasField("log_probability") else None,
            top=tuple(results.TopToken(top.id, top.bytes, top.log_probability) for top in each.top),
        )
        for each in messages
    )


def models(messages: Iterable[model_service_pb2.Model]) -> tuple[results.Model, ...]:
    return tuple(model(each) for each in messages)


def model(message: model_service_pb2.Model) -> results.Model:
    access = message.caller_access
    return results.Model(
        id=message.id,
        description=message.description,
        parameters=message.parameters or None,
        context_length=message.context_length or None,
        vocabulary_size=message.vocabulary_size or None,
        weights_sha256=message.weights_sha256,
        license=message.license,
        source=message.source,
        intended_use=message.intended_use,
        unacceptable_use=message.unacceptable_use,
        stage=message.stage,
        open_to=audience(message.open_to),
        state=member(results.ModelState, model_service_pb2.ModelState.DESCRIPTOR, message.state),
        caller_access=results.CallerAccess(
            allowed=access.allowed, reason=reason(access.reason), agreement=access.agreement or None
        ),
        dtype=message.dtype,
    )


def identity(message: access_service_pb2.GetCallerIdentityResponse) -> results.Identity:
    return results.Identity(
        issuer=message.issuer,
        subject=message.subject,
        client_id=message.client_id,
        audience=audience(message.audience),
        scopes=tuple(message.scopes),
        token_expires=time(message.token_expire_time) if message.HasField("token_expire_time") else None,
        agreement=_agreement(message.agreement) if message.HasField("agreement") else None,
        stage=message.stage,
        policy_revision=message.policy_revision,
    )


def quotas(messages: Iterable[access_service_pb2.QuotaUsage]) -> tuple[results.QuotaUsage, ...]:
    return tuple(
        results.QuotaUsage(
            quota=_quota(each.quota),
            limit=each.limit,
            used=each.used,
            resets=time(each.reset_time) if each.HasField("reset_time") else None,
        )
        for each in messages
    )


def access(message: access_service_pb2.CheckAccessResponse) -> results.Access:
    return results.Access(
        allowed=message.allowed,
        reason=reason(message.reason),
        metadata=dict(message.metadata),
        remedy=message.remedy,
        audience=audience(message.audience),
        agreement=message.agreement or None,
        max_output_tokens=message.max_output_tokens or None,
        max_priority=message.max_priority,
    )


def _candidate(message: generation_pb2.Candidate) -> results.Candidate:
    end = finished(message.finished)
    return results.Candidate(
        text=message.text,
        tokens=tokens(message.tokens),
        finish_reason=end.finish_reason,
        stop_sequence=end.stop_sequence,
        output_tokens=end.output_tokens,
        watermark=end.watermark,
        watermark_id=end.watermark_id,
        redactions=end.redactions,
    )


def _agreement(message: access_service_pb2.AgreementTerms) -> results.Agreement:
    return results.Agreement(
        id=message.id,
        partner=message.partner,
        status=message.status,
        models=tuple(message.models),
        actions=tuple(message.actions),
        purposes=tuple(message.purposes),
        valid_from=time(message.valid_from) if message.HasField("valid_from") else None,
        valid_until=time(message.valid_until) if message.HasField("valid_until") else None,
        finding_duty=finding_duty(message.finding_duty) if message.HasField("finding_duty") else None,
    )


def finding_duty(message: finding_service_pb2.FindingDuty) -> findings.FindingDuty:
    return findings.FindingDuty(
        agreement=message.agreement,
        partner=message.partner,
        due_every_seconds=message.due_every.ToSeconds(),
        last_finding=time(message.last_finding_time) if message.HasField("last_finding_time") else None,
        due=time(message.due_time),
        is_overdue=message.overdue,
    )


def audience(number: int) -> results.Audience:
    return member(results.Audience, model_service_pb2.Audience.DESCRIPTOR, number)


def _finish_reason(number: int) -> results.FinishReason:
    return member(results.FinishReason, generation_pb2.FinishReason.DESCRIPTOR, number)


def _watermark(number: int) -> results.Watermark:
    return member(results.Watermark, generation_pb2.Watermark.DESCRIPTOR, number)


def _redactions(messages: Iterable[generation_pb2.Redaction]) -> dict[results.PersonalDataType, int]:
    counts: Counter[results.PersonalDataType] = Counter()
    for each in messages:  # types that only newer servers know count together
        counts[member(results.PersonalDataType, generation_pb2.PersonalDataType.DESCRIPTOR, each.type)] += each.count
    return dict(counts)


def reason(number: int) -> str | None:
    if number == reason_pb2.REASON_UNSPECIFIED:
        return None
    value = reason_pb2.Reason.DESCRIPTOR.values_by_number.get(number)
    return f"UNKNOWN_{number}" if value is None else value.name.removeprefix("REASON_")


def _quota(number: int) -> str:
    """The name of a quota; one that only newer servers know is told by its number."""
    value = access_service_pb2.Quota.DESCRIPTOR.values_by_number.get(number)
    return f"unknown_{number}" if value is None else value.name.removeprefix("QUOTA_").lower()


def time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def member(kind: type[Member], wire: EnumDescriptor, number: int) -> Member:
    """The member of the same name. UNSPECIFIED also stands for what only newer servers send."""
    prefix = wire.values_by_number[0].name.removesuffix("UNSPECIFIED")
    value = wire.values_by_number.get(number, wire.values_by_number[0])
    return kind(value.name.removeprefix(prefix))
