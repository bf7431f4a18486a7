"""The use case of findings: reporters file them and read their own, operators read all and say what they make of each.

A caller with an agreement files for its partner, and all of the partner's callers see what was filed so. Others file
for their client, which the finding names by a pseudonym under the store's salt: alike on all replicas, and no name.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from sluicegate.auth import Principal, Reason, Standing
from sluicegate.server.audit import Pseudonyms
from sluicegate.server.auditing import Auditing
from sluicegate.server.caller import Caller, uuid7
from sluicegate.server.errors import CallRefused, FieldViolation, QuotaFailure
from sluicegate.server.gate import Gate
from sluicegate.server.metering import state_unavailable
from sluicegate.server.models import Models
from sluicegate.server.observe.labels import INTERNAL, PUBLIC
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.paging import DEFAULT_PAGE, LARGEST_PAGE, foreign_token
from sluicegate.server.state import (
    Bound,
    Crowded,
    FiledFinding,
    Finding,
    FindingStatus,
    FindingUnknown,
    Report,
    Review,
    StateError,
    Store,
    list_of,
)

MANAGE = "findings:manage"
"""The scope of operators: to see every finding, and to review it."""
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")

_Outcome = TypeVar("_Outcome")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FilingLimits:
    """How many findings may be filed in any 24 hours: by one partner or other client, and by the public together."""

    reporter_per_day: int
    public_per_day: int


class Findings:
    """Files, shows and reviews findings. One for the process; event loop only. `clock` gives Unix seconds.

    `names` makes the pseudonyms of reporters.
    """

    def __init__(
        self,
        store: Store,
        gate: Gate,
        models: Models,
        auditing: Auditing,
        metrics: Metrics,
        *,
        names: Pseudonyms,
        limits: FilingLimits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._gate = gate
        self._models = models
        self._auditing = auditing
        self._metrics = metrics
        self._names = names
        self._limits = limits
        self._clock = clock
        self._running: set[asyncio.Task[Any]] = set()

    async def create(
        self, caller: Caller, report: Report, client_request_id: str, *, validate_only: bool
    ) -> FiledFinding:
        """File a report, to the end whatever becomes of its caller.

        What was filed before under the same id of the caller's is given as it is now. Raises CallRefused: for a model
        that the caller may not know of, for want of an agreement that holds, for too many findings, and for an id that
        came with another report.
        """
        standing = self._gate.standing(caller, report.model)
        finding = self._finding(caller, standing, report)
        if validate_only:
            return FiledFinding(finding)
        key = f"{_owner(standing, finding.reporter)}\n{client_request_id}"
        request = hashlib.sha256(key.encode()).hexdigest() if client_request_id else ""
        filed = await self._carried_out(self._file(caller.principal, finding, request))
        if filed.finding.report != report:
            raise _invalid("client_request_id", "has filed another finding; take a new one")
        return filed

    async def get(self, caller: Caller, id_: str) -> FiledFinding:
        """One finding. Raises the same CallRefused for one that is not the caller's to see and for one that is not."""
        may_see = self._sight(caller)
        found = await self._read(id_)
        if not may_see(found.finding):
            raise CallRefused(Reason.FINDING_UNKNOWN)
        return found

    async def list(
        self, caller: Caller, *, model: str | None, partner: str | None, page_size: int, page_token: str
    ) -> tuple[tuple[FiledFinding, ...], str]:
        """A page of what the caller may see, the newest first, and the token of the next one; "" where there is none.

        Raises CallRefused.
        """
        if _is_operator(caller.principal):
            list_ = list_of(partner=partner, model=model)
        else:
            standing = self._gate.standing(caller)
            if partner not in (None, standing.partner):
                return (), ""
            list_ = self._own_list(caller, standing, model)
        if page_token and not _ID.fullmatch(page_token):
            raise foreign_token()
        size = min(page_size or DEFAULT_PAGE, LARGEST_PAGE)
        try:
            found = await self._store.findings(list_, before=page_token, most=size + 1)
        except StateError as error:
            raise state_unavailable() from error
        return found[:size], found[size - 1].finding.id if len(found) > size else ""

    async def review(
        self, operator: Principal, id_: str, status: FindingStatus, justification: str, *, validate_only: bool
    ) -> FiledFinding:
        """Put a review in the place of the one before, to the end whatever becomes of the operator.

        Raises CallRefused, also for a finding of the operator's own client or partner.
        """
        found = await self._read(id_)
        finding = found.finding
        is_partners = finding.agreement is not None and finding.partner == self._gate.policy.partner_of(operator)
        if is_partners or finding.reporter == self._names.client(operator):
            raise _invalid("id", "is a finding of others: nobody reviews what they or their partner filed")
        review = Review(status, int(self._clock()), justification)
        if not validate_only:
            await self._carried_out(self._review(operator, finding, review))
        return FiledFinding(finding, review)

    async def _file(self, reporter: Principal, finding: Finding, request: str) -> FiledFinding:
        try:
            outcome = await self._store.file_finding(finding, request=request, bounds=self._bounds(finding))
        except StateError as error:
            raise state_unavailable() from error
        if isinstance(outcome, Crowded):
            raise self._crowded(outcome)
        if outcome.finding.id == finding.id:
            self._auditing.finding_filed(reporter, finding)
            kind = finding.report.kind.value
            self._metrics.findings.filed.labels(self._metrics.partner(finding.partner), kind).inc()
            log.info("finding_filed", id=finding.id, kind=kind)
        return outcome

    async def _review(self, operator: Principal, finding: Finding, review: Review) -> None:
        """It stands in the audit log before it counts."""
        await self._auditing.reviewing(operator, finding, review)
        try:
            await self._store.review_finding(finding.id, review)
        except FindingUnknown:
            raise CallRefused(Reason.FINDING_UNKNOWN) from None
        except StateError as error:
            raise state_unavailable() from error
        log.info("finding_reviewed", id=finding.id, status=review.status.value)

    async def _carried_out(self, change: Coroutine[Any, Any, _Outcome]) -> _Outcome:
        task = asyncio.create_task(change)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        """Let go of it, and of an error that nobody waited for: asyncio would complain of that."""
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    def _finding(self, caller: Caller, standing: Standing, report: Report) -> Finding:
        policy, now_ms = self._gate.policy, int(self._clock() * 1000)
        hosted, entry = self._models.find(report.model), policy.models[report.model]
        reporter = self._names.client(caller.principal)
        assert reporter is not None, "the scope lets nobody in without a token"
        return Finding(
            id=uuid7(now_ms),
            created_ms=now_ms,
            report=report,
            weights_sha256=hosted.weights_sha256 if hosted is not None else entry.weights_sha256,
            stage=policy.stage.id,
            partner=standing.partner,
            agreement=standing.agreement.id if standing.agreement is not None else None,
            reporter=reporter,
        )

    def _bounds(self, finding: Finding) -> tuple[Bound, ...]:
        """A partner's own bound; a client's and, where it is one of the public, that of the public."""
        limits = self._limits
        if finding.agreement is not None:
            return (Bound(list_of(partner=finding.partner), limits.reporter_per_day),)
        own = Bound(list_of(reporter=finding.reporter), limits.reporter_per_day)
        return (own,) if finding.partner == INTERNAL else (own, Bound(list_of(partner=PUBLIC), limits.public_per_day))

    def _crowded(self, crowded: Crowded) -> CallRefused:
        is_publics = crowded.bound.list == list_of(partner=PUBLIC)
        quota = QuotaFailure("public_per_day" if is_publics else "reporter_per_day", crowded.bound.most)
        wait = max(1.0, crowded.free_at_ms / 1000 - self._clock())
        return CallRefused(Reason.FINDING_RATE_LIMIT, quota=quota, retry_after_seconds=wait)

    def _sight(self, caller: Caller) -> Callable[[Finding], bool]:
        """Which findings a caller may see. Raises CallRefused."""
        if _is_operator(caller.principal):
            return lambda _finding: True
        standing = self._gate.standing(caller)
        if standing.agreement is not None:
            return lambda finding: finding.partner == standing.partner
        reporter = self._names.client(caller.principal)
        return lambda finding: finding.agreement is None and finding.reporter == reporter

    def _own_list(self, caller: Caller, standing: Standing, model: str | None) -> str:
        if standing.agreement is not None:
            return list_of(partner=standing.partner, model=model)
        return list_of(reporter=self._names.client(caller.principal), model=model)

    async def _read(self, id_: str) -> FiledFinding:
        try:
            found = await self._store.finding(id_)
        except StateError as error:
            raise state_unavailable() from error
        if found is None:
            raise CallRefused(Reason.FINDING_UNKNOWN)
        return found


def _is_operator(principal: Principal) -> bool:
    return MANAGE in principal.scopes


def _owner(standing: Standing, reporter: str) -> str:
    """Whose ids of requests are one space. A partner's name is never 32 hex digits long."""
    return reporter if standing.agreement is None else standing.partner


def _invalid(field: str, rule: str) -> CallRefused:
    return CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation(field, rule)])
