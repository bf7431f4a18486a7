"""Audit logs for tests: written by the real journal on a clock that stands still, and then tampered with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sluicegate.auth import Audience
from sluicegate.auth.encoding import encode_base64url
from sluicegate.server.audit import Clock, Closing, Decision, Head, Identity, Opening, Verification
from sluicegate.server.audit.chain import Position, Signer
from sluicegate.server.audit.entries import Checkpoint, Entry, Header
from sluicegate.server.audit.files import list_files
from sluicegate.server.audit.form import NO_HASH, Record, chained, parse_line
from sluicegate.server.audit.journal import open_journal

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = encode_base64url(KEY.public_key().public_bytes_raw())
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER_PUBLIC_KEY = encode_base64url(OTHER_KEY.public_key().public_bytes_raw())
IDENTITY = Identity("example", "replica-1")
START = 1_768_892_400.0
"""2026-01-20T07:00:00Z."""


class FakeClock:
    """Both clocks of a server; they move when a test says so."""

    def __init__(self, unix: float = START) -> None:
        self.unix = unix
        self.steady = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(unix=lambda: self.unix, steady=lambda: self.steady)

    def advance(self, seconds: float) -> None:
        self.unix += seconds
        self.steady += seconds


def opening(call: str, **changes: object) -> Opening:
    """The opening of an allowed call of a partner."""
    plain = Opening(
        call=call,
        decision=Decision.ALLOWED,
        code="OK",
        policy_revision="5f0c",
        stage="s2",
        audience=Audience.PARTNER,
        partner="example-lab",
        client="c" * 32,
        subject="d" * 32,
        jti_hash="e" * 32,
        kid="2026-11-a",
        scopes=("generate:gpt2-774m",),
        purpose="human-susceptibility",
        action="generate",
        model="gpt2-774m",
        token_terms_met=("binding",),
        network=0,
        reserved_tokens=64,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def closing(call: str, **changes: object) -> Closing:
    plain = Closing(call=call, emitted_tokens=12, finish="STOP", code="OK", duration_ms=250)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def calls(count: int, name: str = "call") -> list[Entry]:
    """Openings and closings of so many calls, one after the other."""
    return [entry for n in range(count) for entry in (opening(f"{name}-{n}"), closing(f"{name}-{n}"))]


def write_log(
    directory: Path,
    entries: Iterable[Entry] = (),
    *,
    clock: FakeClock | None = None,
    key: Ed25519PrivateKey = KEY,
    identity: Identity = IDENTITY,
    file_bytes: int = 1 << 20,
    anchored: Head | None = None,
) -> Head:
    """Open the log, write each entry by itself, a second apart, and close it in order; gives its anchored head.

    Each start is hours after the one before, unless a clock is given.
    """
    clock = clock or FakeClock(START + 3600 * len(files(directory)))
    opened = open_journal(directory, identity, key, clock=clock.clock, file_bytes=file_bytes, anchored=anchored)
    with opened as journal:
        for entry in entries:
            clock.advance(1)
            journal.commit([entry])
        journal.commit([], sign=True)
        assert journal.head is not None
        return journal.head


def files(directory: Path) -> list[Path]:
    return [directory / each.name for each in list_files(directory)] if directory.exists() else []


def records(directory: Path) -> list[Record]:
    """All records of a log whose lines are good."""
    return [parse_line(line) for path in files(directory) for line in path.read_bytes().splitlines()]


def entries(directory: Path) -> list[Entry]:
    return [record.entry for record in records(directory)]


def rewritten(kept: Sequence[Record], changed: Sequence[Record]) -> list[Record]:
    """Records chained anew after others, as a forger without the key can: numbers and hashes fit, signatures do not."""
    chain = list(kept)
    for record in changed:
        chain.append(chained(len(chain), record.at, record.entry, chain[-1].hash if chain else NO_HASH))
    return chain


def forged(changed: Sequence[Record], key: Ed25519PrivateKey) -> list[Record]:
    """Records chained and signed anew, as somebody with this key can do it. They begin a log."""
    header = changed[0].entry
    assert isinstance(header, Header)
    signer, position, chain = Signer(header.log, key), Position(), list[Record]()
    for record in changed:
        is_checkpoint = isinstance(record.entry, Checkpoint)
        entry = signer.sign(position, record.at) if is_checkpoint else record.entry
        chain.append(chained(position.next, record.at, entry, position.hash))
        position = position.after(chain[-1])
    return chain


def verify(*directories: Path, anchors: Sequence[Head] = (), keys: Sequence[str] = (PUBLIC_KEY,)) -> Verification:
    """A verification that has read everything."""
    logs = Verification(directories, public_keys=keys, anchors=anchors)
    logs.read_all()
    return logs


def kinds(*directories: Path, anchors: Sequence[Head] = (), keys: Sequence[str] = (PUBLIC_KEY,)) -> list[str]:
    """The kinds of what is found."""
    return [str(problem.kind) for problem in verify(*directories, anchors=anchors, keys=keys).problems()]
