"""The one spelling of an entry: a line of canonical JSON (RFC 8785) with the hash that chains it to the line before.

    {"entry":{"at":"2026-01-20T07:00:00.000Z","kind":"interrupted","n":17,…},"hash":"…64 hex…"}

The hash is SHA-256 over the hash before, as 32 octets, and the octets of `entry` as they stand in the line; the first
entry of a log follows 32 zero octets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import rfc8785

from sluicegate.auth.encoding import parse_json
from sluicegate.server.audit.entries import KINDS, Entry

MAX_LINE_BYTES = 1 << 20
NO_HASH = bytes(32)

_BEFORE, _BETWEEN, _AFTER = b'{"entry":', b',"hash":"', b'"}'
_TAIL = len(_BETWEEN) + 64 + len(_AFTER)
_NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """One entry as it stands in a log."""

    number: int
    """From 0, over all files of the log."""
    at: str
    """`time_text` of when it was written."""
    entry: Entry
    raw: bytes
    """`entry` of the line, which the hash is about."""
    hash: bytes

    @property
    def kind(self) -> str:
        return _NAMES[type(self.entry)]

    def follows(self, previous: bytes) -> bool:
        """Whether its hash is the one after `previous`."""
        return _link(previous, self.raw) == self.hash

    def line(self) -> bytes:
        return b"".join((_BEFORE, self.raw, _BETWEEN, self.hash.hex().encode("ascii"), _AFTER, b"\n"))


def time_text(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds: texts sort as times do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def chained(number: int, at: str, entry: Entry, previous: bytes) -> Record:
    """The entry as the one after `previous`. It must have passed `check`."""
    raw = _canonical(number, at, entry)
    return Record(number, at, entry, raw, _link(previous, raw))


def check(entry: Entry) -> None:
    """Raise ValueError for an entry that no reader would accept, before it gets a place in the chain."""
    try:
        msgspec.convert(msgspec.to_builtins(entry), type(entry))
    except msgspec.ValidationError as error:
        raise ValueError(f"{_NAMES[type(entry)]}: {error}") from None


def parse_line(line: bytes) -> Record:
    """The record of a line, without its newline. Raises ValueError unless the line is what `Record.line` makes.

    Whether it follows from the line before is another question.
    """
    head, tail = line[:-_TAIL], line[-_TAIL:]
    if not (head.startswith(_BEFORE) and tail.startswith(_BETWEEN) and tail.endswith(_AFTER)):
        raise ValueError("is no line of an audit log")
    raw, digest = head[len(_BEFORE) :], tail[len(_BETWEEN) : -len(_AFTER)]
    try:
        hashed = bytes.fromhex(digest.decode("ascii"))
    except ValueError:
        raise ValueError("has no hash") from None
    if hashed.hex().encode("ascii") != digest:
        raise ValueError("has no hash")
    number, at, entry = _parse_entry(raw)
    if _canonical(number, at, entry) != raw:
        raise ValueError("is not in canonical form, or has members that no entry of its kind has")
    return Record(number, at, entry, raw, hashed)


def _parse_entry(raw: bytes) -> tuple[int, str, Entry]:
    try:
        members = parse_json(raw)
    except ValueError:
        raise ValueError("is not strict JSON") from None
    if not isinstance(members, dict):
        raise ValueError("is no entry")
    kind, number, at = (members.pop(name, None) for name in ("kind", "n", "at"))
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError("is of no kind that this version knows")
    if type(number) is not int or number < 0 or not isinstance(at, str) or not _is_time(at):
        raise ValueError("has no number or no time")
    entry_type: type[Entry] = KINDS[kind]
    try:
        return number, at, msgspec.convert(members, entry_type)
    except msgspec.ValidationError as error:
        raise ValueError(f"is no good {kind} entry: {error}") from None


def _is_time(text: str) -> bool:
    try:
        return time_text(datetime.fromisoformat(text).timestamp()) == text
    except (ValueError, OverflowError, OSError):
        return False


def _canonical(number: int, at: str, entry: Entry) -> bytes:
    members = msgspec.to_builtins(entry)
    return rfc8785.dumps({**members, "kind": _NAMES[type(entry)], "n": number, "at": at})


def _link(previous: bytes, raw: bytes) -> bytes:
    return hashlib.sha256(previous + raw).digest()
