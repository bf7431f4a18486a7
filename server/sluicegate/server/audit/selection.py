"""Which entries somebody wants to see."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluicegate.auth import Reason
from sluicegate.server.audit.entries import Closing, Decision, Denials, Entry, Interrupted, Opening
from sluicegate.server.audit.form import Record
from sluicegate.server.audit.log import MAX_OPEN_CALLS


@dataclass(frozen=True, slots=True)
class Selection:
    """None where it does not matter. A call's end is chosen with its opening."""

    partner: str | None = None
    model: str | None = None
    reason: Reason | None = None
    since: str | None = None
    """As Record.at; the first that is chosen."""
    until: str | None = None
    """The first that is chosen no longer."""
    _open: set[str] = field(default_factory=set)

    def chooses(self, record: Record) -> bool:
        """Whether it is one of them. Records must come in order, and all of them."""
        chosen = self._matches(record.entry)
        return chosen and (self.since or "") <= record.at and (self.until is None or record.at < self.until)

    def _matches(self, entry: Entry) -> bool:
        match entry:
            case Opening():
                is_its_call = self.partner in (None, entry.partner) and self.model in (None, entry.model)
                if is_its_call and entry.decision is Decision.ALLOWED and len(self._open) < MAX_OPEN_CALLS:
                    self._open.add(entry.call)
                return is_its_call and self.reason in (None, entry.reason)
            case Closing() | Interrupted():
                is_its_call = entry.call in self._open or (self.partner is None and self.model is None)
                self._open.discard(entry.call)
                reason = entry.reason if isinstance(entry, Closing) else None
                return is_its_call and self.reason in (None, reason)
            case Denials():
                return self.partner is None and self.model is None and (not self.reason or self.reason in entry.counts)
            case _:
                return self.partner is None and self.model is None and self.reason is None
