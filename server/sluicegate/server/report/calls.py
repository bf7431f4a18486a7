"""Counts of calls and refusals, cell by cell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sluicegate.auth import Reason
from sluicegate.server.audit import Closing, Decision, Opening
from sluicegate.server.audit.entries import OTHER, Denials, Interrupted
from sluicegate.server.audit.log import MAX_OPEN_CALLS
from sluicegate.server.report.period import Period

MAX_NAMES = 1_000
"""Of partners, and of models: a policy has fewer, and a log that nobody verified may have any number."""
UNKNOWN_CALLERS = "unknown callers"
"""Of refusals that got no entry of their own: nobody is believed, or a client had too many. No partner can be called
so: partners' names have no blank."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """Whose calls to what. The finest grain that calls are counted at."""

    audience: str
    partner: str
    model: str


@dataclass(frozen=True, slots=True)
class OpenCall:
    """What is remembered of a call until it ends. `client` and the like are pseudonyms and go no further."""

    at: str
    cell: Cell
    reserved_tokens: int
    opening: Opening


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """Who was refused, and why. `reason` None: the entry has only a status."""

    partner: str
    reason: Reason | None


class CallCounts:
    """Counts calls of a period. Follows all entries of all logs, in order; bounded, whatever they hold."""

    def __init__(self, period: Period) -> None:
        self.requests: Counter[tuple[int, Cell]] = Counter()
        """Allowed calls that began in the period, by span."""
        self.ended: Counter[Cell] = Counter()
        """Those that ended in it and told their tokens, whenever they began; so the next two."""
        self.input_tokens: Counter[Cell] = Counter()
        self.output_tokens: Counter[Cell] = Counter()
        self.interrupted: Counter[Cell] = Counter()
        self.reserved_tokens: Counter[Cell] = Counter()
        """Of interrupted calls: the most that they can have emitted."""
        self.refusals: Counter[tuple[int, Refusal]] = Counter()
        self.unattributed = 0
        """Ends in the period of calls whose opening is in no log that was read."""
        self._period = period
        self._open: dict[tuple[str | None, str], OpenCall] = {}
        self._partners: set[str] = set()
        self._models: set[str] = set()

    def opened(self, log: str | None, at: str, opening: Opening) -> OpenCall | None:
        """An opening of a log; gives the call if it is allowed."""
        partner = _bounded(opening.partner, self._partners)
        if opening.decision is Decision.DENIED:
            if at in self._period:
                self.refusals[self._period.span_of(at), Refusal(partner, opening.reason)] += 1
            return None
        audience = "none" if opening.audience is None else opening.audience.value
        cell = Cell(audience, partner, _bounded(opening.model or OTHER, self._models))
        call = OpenCall(at, cell, opening.reserved_tokens, opening)
        if len(self._open) < MAX_OPEN_CALLS * 16:
            self._open[log, opening.call] = call
        if at in self._period:
            self.requests[self._period.span_of(at), cell] += 1
        return call

    def ended_by(self, log: str | None, at: str, entry: Closing | Interrupted) -> OpenCall | None:
        """An end of a log; gives the call if its opening was there."""
        call = self._open.pop((log, entry.call), None)
        if at not in self._period:
            return call
        if call is None:
            self.unattributed += 1
        elif isinstance(entry, Closing):
            self.ended[call.cell] += 1
            self.input_tokens[call.cell] += entry.input_tokens
            self.output_tokens[call.cell] += entry.emitted_tokens
        else:
            self.interrupted[call.cell] += 1
            self.reserved_tokens[call.cell] += call.reserved_tokens
        return call

    def counted(self, entry: Denials) -> None:
        """Refusals of which only the number was written. A minute counts as a whole, where it begins."""
        if entry.since in self._period:
            for reason, count in entry.counts.items():
                self.refusals[self._period.span_of(entry.since), Refusal(UNKNOWN_CALLERS, reason)] += count


def _bounded(name: str, known: set[str]) -> str:
    if name not in known and len(known) >= MAX_NAMES:
        return OTHER
    known.add(name)
    return name
