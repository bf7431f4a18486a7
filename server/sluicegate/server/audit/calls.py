"""The book of calls that a verifier keeps: what is open, and what has ended lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from sluicegate.server.audit.entries import Closing, Decision, Entry, Header, Interrupted, Opening
from sluicegate.server.audit.log import MAX_OPEN_CALLS
from sluicegate.server.audit.problems import ProblemKind

REMEMBERED_ENDS = 65_536
"""A second closing after more ends than these is told as one without an opening."""

Told = tuple[ProblemKind, str]


class CallBook:
    """Follows openings and closings. Bounded, whatever stands in the log."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def follow(self, entry: Entry) -> Iterator[Told]:
        """What is wrong with an entry, given those before it."""
        match entry:
            case Header():
                if dict(entry.open_calls) != self.open:
                    yield ProblemKind.OPEN_CALLS_DIFFER, "names other open calls than the entries before it leave open"
                    self.begin(entry)
            case Opening(decision=Decision.ALLOWED):
                if entry.call in self.open or entry.call in self._ended:
                    yield ProblemKind.CALL_OPENED_TWICE, "opens a call that was opened before"
                elif len(self.open) >= MAX_OPEN_CALLS:
                    yield ProblemKind.TOO_MANY_OPEN_CALLS, f"opens a call while {MAX_OPEN_CALLS} are open"
                    return
                self.open[entry.call] = entry.reserved_tokens
            case Closing() | Interrupted():
                yield from self._end(entry)
            case _:
                pass

    def begin(self, header: Header) -> None:
        """Take a header's word for what is open."""
        self.open = dict(header.open_calls)

    def _end(self, entry: Closing | Interrupted) -> Iterator[Told]:
        tokens = entry.emitted_tokens if isinstance(entry, Closing) else 0
        reserved = self.open.pop(entry.call, None)
        if reserved is None:
            if entry.call in self._ended:
                yield ProblemKind.CALL_CLOSED_TWICE, "ends a call that has ended before"
            elif tokens:
                yield ProblemKind.TOKENS_WITHOUT_OPENING, f"tells of {tokens} tokens of a call that no entry opened"
            else:
                yield ProblemKind.CLOSED_WITHOUT_OPENING, "ends a call that no entry opened"
        elif tokens > reserved:
            yield ProblemKind.TOKENS_OVER_RESERVED, f"tells of {tokens} tokens where {reserved} were reserved"
        self._ended[entry.call] = None
        if len(self._ended) > REMEMBERED_ENDS:
            self._ended.popitem(last=False)
