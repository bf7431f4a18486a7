"""All that a report takes from logs, entry by entry, in memory that does not grow with the logs."""

from __future__ import annotations

from sluicegate.server.audit import Closing, FindingFiled, FindingReviewed, Opening, Withdrawn
from sluicegate.server.audit.entries import Denials, Interrupted
from sluicegate.server.audit.form import Record
from sluicegate.server.audit.problems import Report
from sluicegate.server.report.calls import CallCounts
from sluicegate.server.report.events import EventBook
from sluicegate.server.report.findings import FindingBook
from sluicegate.server.report.period import Period
from sluicegate.server.report.withdrawals import WithdrawalBook


class Tally:
    """Follows the records of all logs by time, from their beginning on: a call of the period may have begun before."""

    def __init__(self, period: Period) -> None:
        self.period = period
        self.calls = CallCounts(period)
        self.withdrawals = WithdrawalBook()
        self.findings = FindingBook(period)
        self.events = EventBook(period)

    def follow(self, report: Report, record: Record) -> None:
        at, is_over = record.at, record.at >= self.period.until
        self.events.follow(report, record)
        match record.entry:
            case Opening() as entry:
                call = self.calls.opened(report.log, at, entry)
                if call is not None and not is_over:
                    self.withdrawals.opened(call)
            case Closing() | Interrupted() as entry:
                call = self.calls.ended_by(report.log, at, entry)
                if call is not None and isinstance(entry, Closing) and not is_over:
                    self.withdrawals.ended(at, call, entry)
            case Withdrawn() as entry if at in self.period:
                self.withdrawals.ordered(at, entry)
            case FindingFiled() as entry:
                self.findings.filed(at, entry)
            case FindingReviewed() as entry:
                self.findings.reviewed(at, entry)
            case Denials() as entry:
                self.calls.counted(entry)
            case _:
                pass
