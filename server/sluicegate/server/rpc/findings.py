"""FindingService on the wire."""

from __future__ import annotations

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sluicegate.server import state
from sluicegate.server.finding_duties import FindingDuties, FindingDuty
from sluicegate.server.findings import Findings
from sluicegate.server.metering import state_unavailable
from sluicegate.server.paging import page
from sluicegate.server.rpc.call import authenticated
from sluicegate.server.rpc.validation import validate
from sluicegate.v1 import finding_service_pb2
from sluicegate.v1.finding_service_pb2_grpc import FindingServiceServicer

Context = grpc.aio.ServicerContext[object, object]


class FindingServicer(FindingServiceServicer):
    """Converts and passes on."""

    def __init__(self, findings: Findings, duties: FindingDuties) -> None:
        self._findings = findings
        self._duties = duties

    async def CreateFinding(
        self, request: finding_service_pb2.CreateFindingRequest, context: Context
    ) -> finding_service_pb2.CreateFindingResponse:
        caller = authenticated(context).caller
        validate(request)
        filed = await self._findings.create(
            caller, _report(request), request.client_request_id, validate_only=request.validate_only
        )
        return finding_service_pb2.CreateFindingResponse(finding=_finding(filed))

    async def GetFinding(
        self, request: finding_service_pb2.GetFindingRequest, context: Context
    ) -> finding_service_pb2.GetFindingResponse:
        caller = authenticated(context).caller
        validate(request)
        return finding_service_pb2.GetFindingResponse(finding=_finding(await self._findings.get(caller, request.id)))

    async def ListFindings(
        self, request: finding_service_pb2.ListFindingsRequest, context: Context
    ) -> finding_service_pb2.ListFindingsResponse:
        caller = authenticated(context).caller
        validate(request)
        found, following = await self._findings.list(
            caller,
            model=request.model or None,
            partner=request.partner or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return finding_service_pb2.ListFindingsResponse(findings=map(_finding, found), next_page_token=following)

    async def ReviewFinding(
        self, request: finding_service_pb2.ReviewFindingRequest, context: Context
    ) -> finding_service_pb2.ReviewFindingResponse:
        caller = authenticated(context).caller
        validate(request)
        reviewed = await self._findings.review(
            caller.principal,
            request.id,
            state.FindingStatus[_name(finding_service_pb2.FindingStatus.Name(request.status), "FINDING_STATUS_")],
            request.justification,
            validate_only=request.validate_only,
        )
        return finding_service_pb2.ReviewFindingResponse(finding=_finding(reviewed))

    async def ListFindingDuties(
        self, request: finding_service_pb2.ListFindingDutiesRequest, context: Context
    ) -> finding_service_pb2.ListFindingDutiesResponse:
        authenticated(context)
        validate(request)
        try:
            duties = await self._duties.all()
        except state.StateError as error:
            raise state_unavailable() from error
        shown, following = page(duties, lambda duty: duty.agreement, request.page_size, request.page_token)
        return finding_service_pb2.ListFindingDutiesResponse(duties=map(duty_message, shown), next_page_token=following)


def duty_message(duty: FindingDuty) -> finding_service_pb2.FindingDuty:
    """The duty of an agreement."""
    message = finding_service_pb2.FindingDuty(
        agreement=duty.agreement,
        partner=duty.partner,
        due_every=Duration(seconds=duty.due_every_seconds),
        due_time=_timestamp(duty.due_at),
        overdue=duty.is_overdue,
    )
    if duty.last_at is not None:
        message.last_finding_time.CopyFrom(_timestamp(duty.last_at))
    return message


def _report(request: finding_service_pb2.CreateFindingRequest) -> state.Report:
    """The report of a request that was validated."""
    return state.Report(
        kind=state.FindingKind[_name(finding_service_pb2.FindingKind.Name(request.kind), "FINDING_KIND_")],
        model=request.model,
        severity=state.Severity[_name(finding_service_pb2.FindingSeverity.Name(request.severity), "FINDING_SEVERITY_")],
        summary=request.summary,
        details=request.details,
        attachments=tuple(
            state.Attachment(each.name, each.media_type, each.size_bytes, each.sha256) for each in request.attachments
        ),
    )


def _finding(filed: state.FiledFinding) -> finding_service_pb2.Finding:
    pb, finding, report = finding_service_pb2, filed.finding, filed.finding.report
    message = pb.Finding(
        id=finding.id,
        sha256=finding.digest,
        kind=pb.FindingKind.Value(f"FINDING_KIND_{report.kind.name}"),
        model=report.model,
        severity=pb.FindingSeverity.Value(f"FINDING_SEVERITY_{report.severity.name}"),
        summary=report.summary,
        details=report.details,
        attachments=[
            pb.Attachment(name=each.name, media_type=each.media_type, size_bytes=each.size_bytes, sha256=each.sha256)
            for each in report.attachments
        ],
        create_time=_timestamp(finding.created_ms / 1000),
        weights_sha256=finding.weights_sha256 or "",
        stage=finding.stage,
        partner=finding.partner,
        agreement=finding.agreement or "",
        reporter=finding.reporter,
        status=pb.FindingStatus.Value(f"FINDING_STATUS_{filed.status.name}"),
    )
    if filed.review is not None:
        message.review.review_time.FromSeconds(filed.review.reviewed_at)
        message.review.justification = filed.review.justification
    return message


def _name(value: str, prefix: str) -> str:
    return value.removeprefix(prefix)


def _timestamp(seconds: float) -> Timestamp:
    """To the millisecond, as findings have their times."""
    message = Timestamp()
    message.FromMilliseconds(round(seconds * 1000))
    return message
