"""From what the use cases answer to the API's messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.auth import Agreement, Audience, CallerIdentity, Principal, Reason
from sluicegate.server import output
from sluicegate.server.access import CheckedAccess, QuotaView
from sluicegate.server.catalog import ModelView
from sluicegate.server.engine import messages
from sluicegate.server.models import ModelState
from sluicegate.server.scoring import Scored
from sluicegate.server.tokenizer import Tokenizer
from sluicegate.v1 import (
    access_service_pb2,
    generation_pb2,
    generation_service_pb2,
    model_service_pb2,
    reason_pb2,
)


def usage(counted: output.Usage) -> generation_pb2.Usage:
    return generation_pb2.Usage(prompt_tokens=counted.prompt_tokens, output_tokens=counted.output_tokens)


def started(event: output.Started) -> generation_pb2.Started:
    message = generation_pb2.Started(
        request_id=event.request_id,
        client_request_id=event.client_request_id,
        model=event.grant.model,
        weights_sha256=event.weights_sha256,
        stage=event.grant.stage,
        policy_revision=event.grant.policy_revision,
        agreement=event.grant.agreement or "",
        prompt_tokens=event.prompt_tokens,
        seed=event.seed,
        max_output_tokens=event.max_output_tokens,
        priority=event.priority,
    )
    message.queue_duration.CopyFrom(duration(event.queue_seconds))
    return message


def event(
    happened: output.Started | output.Delta | output.Finished, counted: output.Usage, tokenizer: Tokenizer
) -> generation_service_pb2.StreamGenerateResponse:
    """One message of a stream. Filled field by field, in half the time that nested messages would take."""
    message = generation_service_pb2.StreamGenerateResponse()
    message.usage.prompt_tokens = counted.prompt_tokens
    message.usage.output_tokens = counted.output_tokens
    match happened:
        case output.Started():
            message.started.CopyFrom(started(happened))
        case output.Delta():
            message.delta.candidate = happened.candidate
            message.delta.text = happened.text
            add_tokens(message.delta, happened.tokens, tokenizer)
        case output.Finished():
            message.finished.CopyFrom(finished(happened))
    return message


def finished(end: output.Finished) -> generation_pb2.Finished:
    return generation_pb2.Finished(
        candidate=end.candidate,
        finish_reason=generation_pb2.FinishReason.Value(f"FINISH_REASON_{end.reason.name}"),
        stop_sequence=end.stop_sequence or "",
        output_tokens=end.output_tokens,
        watermark=generation_pb2.Watermark.Value(f"WATERMARK_{end.mark.name}"),
        watermark_id=end.watermark_id or "",
        redactions=[
            generation_pb2.Redaction(
                type=generation_pb2.PersonalDataType.Value(f"PERSONAL_DATA_TYPE_{kind.name}"), count=count
            )
            for kind, count in sorted(end.redactions.items())
        ],
    )


def score(scored: Scored) -> generation_service_pb2.ScoreResponse:
    message = generation_service_pb2.ScoreResponse(
        started=started(scored.started),
        total_log_probability=sum(token.logprob or 0.0 for token in scored.tokens),
        usage=usage(scored.usage),
    )
    add_tokens(message, scored.tokens, scored.hosted.tokenizer)
    message.started.ClearField("queue_duration")
    return message


def add_tokens(
    message: generation_pb2.Delta | generation_pb2.Candidate | generation_service_pb2.ScoreResponse,
    found: Iterable[messages.Token],
    tokenizer: Tokenizer,
) -> None:
    for token in found:
        added = message.tokens.add(id=token.id, bytes=tokenizer.token_bytes(token.id), log_probability=token.logprob)
        for other in token.top:
            added.top.add(id=other.id, bytes=tokenizer.token_bytes(other.id), log_probability=other.logprob)


def plain_tokens(ids: Iterable[int], tokenizer: Tokenizer) -> list[generation_pb2.Token]:
    return [generation_pb2.Token(id=token, bytes=tokenizer.token_bytes(token)) for token in ids]


def model(view: ModelView) -> model_service_pb2.Model:
    hosted, entry = view.hosted, view.entry
    return model_service_pb2.Model(
        id=view.id,
        description=entry.description or "",
        parameters=hosted.parameters if hosted else 0,
        context_length=hosted.context_length if hosted else 0,
        vocabulary_size=hosted.vocabulary_size if hosted else 0,
        weights_sha256=hosted.weights_sha256 if hosted else "",
        license=entry.license,
        source=view.source,
        intended_use=entry.intended_use or "",
        unacceptable_use=entry.unacceptable_use or "",
        stage=view.stage,
        open_to=audience(view.open_to),
        state=model_state(view.state),
        caller_access=model_service_pb2.CallerAccess(
            allowed=view.denied is None,
            reason=reason(view.denied),
            agreement=view.agreement or "",
        ),
        dtype=hosted.dtype if hosted else "",
    )


def identity(principal: Principal, found: CallerIdentity) -> access_service_pb2.GetCallerIdentityResponse:
    message = access_service_pb2.GetCallerIdentityResponse(
        issuer=principal.issuer,
        subject=principal.subject,
        client_id=principal.client_id,
        audience=audience(found.audience),
        scopes=sorted(found.scopes),
        stage=found.stage,
        policy_revision=found.policy_revision,
    )
    if not principal.anonymous:
        message.token_expire_time.FromSeconds(principal.expires_at)
    if found.agreement is not None:
        message.agreement.CopyFrom(_agreement(found.agreement))
    return message


def checked(outcome: CheckedAccess) -> access_service_pb2.CheckAccessResponse:
    grant, denied = outcome.grant, outcome.denied
    return access_service_pb2.CheckAccessResponse(
        allowed=grant is not None,
        reason=reason(denied.reason if denied else None),
        metadata=denied.detail if denied else {},
        remedy=outcome.remedy,
        audience=audience(outcome.audience),
        agreement=(grant.agreement or "") if grant else "",
        max_output_tokens=(grant.max_output_tokens or 0) if grant else 0,
        max_priority=grant.max_priority if grant else 0,
    )


def quota(view: QuotaView) -> access_service_pb2.QuotaUsage:
    message = access_service_pb2.QuotaUsage(
        quota=access_service_pb2.Quota.Value(f"QUOTA_{view.name.upper()}"), limit=view.limit, used=view.used
    )
    if view.resets_at is not None:
        message.reset_time.FromNanoseconds(round(view.resets_at * 1e9))
    return message


def model_state(found: ModelState) -> model_service_pb2.ModelState.ValueType:
    return model_service_pb2.ModelState.Value(f"MODEL_STATE_{found.name}")


def audience(found: Audience | None) -> model_service_pb2.Audience.ValueType:
    return model_service_pb2.Audience.Value(f"AUDIENCE_{found.name if found else 'UNSPECIFIED'}")


def reason(found: Reason | None) -> reason_pb2.Reason.ValueType:
    return reason_pb2.Reason.Value(f"REASON_{found.name if found else 'UNSPECIFIED'}")


def _agreement(terms: Agreement) -> access_service_pb2.AgreementTerms:
    return access_service_pb2.AgreementTerms(
        id=terms.id,
        partner=terms.partner,
        status=terms.status,
        models=terms.models,
        actions=terms.actions,
        purposes=terms.purposes,
        valid_from=timestamp(terms.valid.from_),
        valid_until=timestamp(terms.valid.until),
    )


def timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
