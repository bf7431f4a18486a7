"""The logs of several replicas, verified and read together."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from sluicegate.server.audit.chain import Head
from sluicegate.server.audit.form import Record
from sluicegate.server.audit.problems import Problem, ProblemKind, Report
from sluicegate.server.audit.verifying import LogCheck

LogRecord = tuple[Report, Record]
"""A record, and the report of the log it stands in."""


class Verification:
    """Verifies the logs of some directories while their records are read. See LogCheck for the arguments."""

    def __init__(
        self,
        directories: Sequence[Path],
        *,
        public_keys: Collection[str] = (),
        anchors: Sequence[Head] = (),
        replicas: Mapping[str, Head] | None = None,
        is_part: bool = False,
    ) -> None:
        """`replicas`: None where no state store was asked; otherwise each log must be anchored."""
        self._anchors = anchors
        self._must_be_anchored, replicas = replicas is not None, replicas or {}
        self._checks = [
            LogCheck(directory, public_keys=public_keys, anchors=anchors, replicas=replicas, is_part=is_part)
            for directory in directories
        ]

    @property
    def reports(self) -> list[Report]:
        return [check.report for check in self._checks]

    def read_all(self) -> None:
        """Verify, and do nothing with the records."""
        for check in self._checks:
            for _ in check.records():
                pass

    def records(self) -> Iterator[LogRecord]:
        """All records by time, each log's in its own order."""
        return heapq.merge(*map(_told, self._checks), key=lambda pair: pair[1].at)

    def problems(self) -> list[Problem]:
        """What was found in each log, and between them. Complete once all records were read."""
        return [problem for report in self.reports for problem in report.problems] + list(self._between())

    def _between(self) -> Iterator[Problem]:
        places: dict[str, Path] = {}
        for report in self.reports:
            if report.log is None:
                continue
            if report.log in places:
                text = f"is the same log as {places[report.log]}"
                yield Problem(ProblemKind.FORK, str(report.directory), None, None, text)
            places[report.log] = report.directory
            if self._must_be_anchored and not report.is_anchored:
                text = f"has no head in the state store: not that of replica {report.replica}, nor any other's"
                yield Problem(ProblemKind.NOT_ANCHORED, str(report.directory), None, None, text)
        for log in {anchor.log for anchor in self._anchors} - set(places):
            text = f"log {log} was anchored, and is in none of the directories"
            yield Problem(ProblemKind.NO_LOG, str(self.reports[0].directory), None, None, text)


def _told(check: LogCheck) -> Iterator[LogRecord]:
    return ((check.report, record) for record in check.records())
