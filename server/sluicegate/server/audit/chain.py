"""The chain of entries and the signatures over it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sluicegate.auth.encoding import decode_base64url, encode_base64url
from sluicegate.server.audit.entries import Checkpoint, Entry
from sluicegate.server.audit.form import NO_HASH, Record, chained, time_text

CHECKPOINT_DOMAIN = "sluicegate/audit-checkpoint/v1"
CHECKPOINT_ENTRIES = 1000
"""At most so many entries stand between two checkpoints."""
HELD_SECONDS = 1.0
"""A clock that steps back by no more (slewing, a leap second) counts as standing still; a longer step is recorded."""

_HEAD = re.compile(r"([0-9a-f]{32}):(0|[1-9][0-9]{0,15}):([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a log at some time: what is kept elsewhere, so that a shortened log is found out."""

    log: str
    entry: int
    hash: str

    def __str__(self) -> str:
        return f"{self.log}:{self.entry}:{self.hash}"


def parse_head(text: str) -> Head:
    """The head that `str` gave. Raises ValueError."""
    match = _HEAD.fullmatch(text)
    if match is None:
        raise ValueError("write a head as LOG:ENTRY:HASH, as the server anchored it")
    return Head(match[1], int(match[2]), match[3])


@dataclass(frozen=True, slots=True)
class Position:
    """Where a chain stands: what the next entry must follow."""

    next: int = 0
    hash: bytes = NO_HASH
    at: str = ""
    """Time of the last entry; empty before the first."""
    unsigned: int = 0
    """Entries since the last checkpoint."""

    def after(self, record: Record) -> Position:
        unsigned = 0 if isinstance(record.entry, Checkpoint) else self.unsigned + 1
        return Position(record.number + 1, record.hash, record.at, unsigned)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs the checkpoints of one log."""

    log: str
    key: Ed25519PrivateKey

    def sign(self, position: Position, at: str) -> Checkpoint:
        payload = checkpoint_payload(self.log, position, at)
        return Checkpoint(head=position.hash.hex(), signature=encode_base64url(self.key.sign(payload)))


def checkpoint_payload(log: str, position: Position, at: str) -> bytes:
    """What is signed: which log, how many entries, the hash of the last, and when."""
    return rfc8785.dumps(
        {"domain": CHECKPOINT_DOMAIN, "log": log, "entries": position.next, "head": position.hash.hex(), "at": at}
    )


def holds(public_key: str, checkpoint: Checkpoint, payload: bytes) -> bool:
    """Whether the key, in base64url, made this checkpoint over this payload."""
    try:
        key = Ed25519PublicKey.from_public_bytes(decode_base64url(public_key))
        key.verify(decode_base64url(checkpoint.signature), payload)
    except (ValueError, InvalidSignature):
        return False
    return True


class Draft:
    """Records that are to follow a position. The position moves on by itself; nothing else has changed yet."""

    def __init__(self, position: Position, signer: Signer, now: float) -> None:
        self.position = position
        self.records: list[Record] = []
        self.signed: Head | None = None
        """The newest checkpoint in the draft."""
        self._signer = signer
        self._at = _held(position.at, now)

    def add(self, entry: Entry) -> None:
        """Add an entry, and a checkpoint where one is due by count."""
        self._append(entry)
        if self.position.unsigned >= CHECKPOINT_ENTRIES:
            self.sign()

    def sign(self) -> None:
        """Add a checkpoint."""
        record = self._append(self._signer.sign(self.position, self._at))
        self.signed = Head(self._signer.log, record.number, record.hash.hex())

    def lines(self) -> Iterator[bytes]:
        return (record.line() for record in self.records)

    def _append(self, entry: Entry) -> Record:
        record = chained(self.position.next, self._at, entry, self.position.hash)
        self.records.append(record)
        self.position = self.position.after(record)
        return record


def _held(last: str, now: float) -> str:
    text = time_text(now)
    return last if text < last <= time_text(now + HELD_SECONDS) else text
