"""What is wrong with a log, as `sluicegate audit verify` says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto, unique
from pathlib import Path

from sluicegate.server.audit.entries import WithdrawalsInForce

MAX_PROBLEMS = 100


@unique
class ProblemKind(StrEnum):
    """What is wrong."""

    NO_LOG = auto()
    """There is no log in the directory, or none that an anchor names."""
    UNREADABLE = auto()
    """A file cannot be read."""
    MALFORMED = auto()
    """A line is not one that a server writes."""
    HALF_WRITTEN = auto()
    """The last line has no end: a crash that no start has put right yet, or a server that is writing it now."""
    HEADER_MISSING = auto()
    """A file does not begin with its header."""
    HEADER_MISPLACED = auto()
    """A header does not stand where, or in the file where, it says that it stands."""
    MIXED_LOGS = auto()
    """A file belongs to another log than the rest."""
    FILE_MISSING = auto()
    """A file of the log is not there."""
    BEGINNING_MISSING = auto()
    """The first file that is there continues one that is not."""
    FORK = auto()
    """Two continuations of one log: two files of one number, or one log in two directories."""
    ENTRIES_MISSING = auto()
    """An entry has a later number than the one that must come next."""
    OUT_OF_ORDER = auto()
    """An entry has an earlier number than the one that must come next."""
    CHANGED = auto()
    """The hash of an entry is not the one after the entry before: this one or that one was changed."""
    CLOCK_WENT_BACK = auto()
    """An entry is older than the one before."""
    SIGNATURE_INVALID = auto()
    """A checkpoint was not made by the log's key over these entries."""
    KEY_UNKNOWN = auto()
    """The log's key is none of those that it must be one of."""
    KEY_CHANGED = auto()
    """The log goes on with another key, and none was named that it must be."""
    UNSIGNED = auto()
    """More entries without a checkpoint than a server leaves."""
    TRUNCATED = auto()
    """The log ends before the anchored entry."""
    NOT_ANCHORED = auto()
    """The state store that was given has no head of the log."""
    STORE_FORGOT = auto()
    """The state store that was given does not know the withdrawals that the log's server went by last."""
    ANCHOR_DIFFERS = auto()
    """The entry of the anchor's number is another one."""
    CALL_OPENED_TWICE = auto()
    TOO_MANY_OPEN_CALLS = auto()
    """More calls are open than a server lets be."""
    CALL_CLOSED_TWICE = auto()
    CLOSED_WITHOUT_OPENING = auto()
    TOKENS_WITHOUT_OPENING = auto()
    """A call emitted tokens, and no entry allowed it."""
    TOKENS_OVER_RESERVED = auto()
    """A call emitted more than its opening reserved."""
    OPEN_CALLS_DIFFER = auto()
    """A header tells other calls to be open than its log does."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong, with its place."""

    kind: ProblemKind
    file: str
    """Path of the file, or of the directory."""
    line: int | None
    """From 1; None where it is about no line."""
    entry: int | None
    """Number in the log, where it is known."""
    text: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        entry = "" if self.entry is None else f" entry {self.entry}:"
        return f"{place}:{entry} {self.text} [{self.kind}]"


@dataclass(slots=True)
class Report:
    """What verification found in one directory. Complete once all its records were read."""

    directory: Path
    log: str | None = None
    deployment: str | None = None
    replica: str | None = None
    public_key: str | None = None
    """Of the newest header."""
    is_key_given: bool = False
    """The key is one that the verifier was given; otherwise the log vouches for itself."""
    is_anchored: bool = False
    """The log was compared with a head that was kept elsewhere."""
    files: int = 0
    entries: int = 0
    """Entries that were read."""
    last_entry: int | None = None
    last_at: str | None = None
    signed_to: int | None = None
    """Number of the last entry that a good signature covers, before anything was found."""
    open_calls: int = 0
    withdrawals: WithdrawalsInForce | None = None
    """In force at the end of the log; None where it does not say."""
    problems: list[Problem] = field(default_factory=list)
    """At most MAX_PROBLEMS."""
    more_problems: int = 0

    @property
    def is_good(self) -> bool:
        return not self.problems

    def add(self, problem: Problem) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.more_problems += 1
