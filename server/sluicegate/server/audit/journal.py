"""One log on disk, as its one writer sees it: entries become durable, checkpoints are signed, files are turned over."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import UNSET

from sluicegate.auth.encoding import encode_base64url
from sluicegate.server.audit.chain import Draft, Head, Signer
from sluicegate.server.audit.entries import FORMAT, Entry, Header, Interrupted, Rotation, WithdrawalsInForce
from sluicegate.server.audit.errors import AuditSetupError
from sluicegate.server.audit.files import LogFile, create_file, file_name, locked
from sluicegate.server.audit.recovery import LogEnd, recover

DEFAULT_FILE_BYTES = 16 << 20
"""A start reads the last file: a few seconds at this size."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log it is."""

    deployment: str
    replica: str


@dataclass(frozen=True, slots=True)
class Clock:
    """`unix` gives seconds of the day's time, `steady` seconds that never go back."""

    unix: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


class Journal:
    """Appends to one log. One thread at a time; use `open_journal`."""

    def __init__(
        self,
        directory: Path,
        end: LogEnd,
        identity: Identity,
        key: Ed25519PrivateKey,
        *,
        clock: Clock,
        file_bytes: int,
    ) -> None:
        self._directory = directory
        self._end = end
        self._log = end.log or secrets.token_hex(16)
        self._signer = Signer(self._log, key)
        self._identity = identity
        self._clock = clock
        self._file_bytes = file_bytes
        self._file: LogFile | None = None
        self.checkpointed = clock.steady()
        """Steady time of the last checkpoint."""
        self.head: Head | None = None
        """The last checkpoint of this start."""

    @property
    def open_calls(self) -> int:
        """How many calls are open."""
        return len(self._end.open_calls)

    @property
    def withdrawals(self) -> WithdrawalsInForce | None:
        """Those in force by the last entry that says so."""
        return self._end.withdrawals

    def commit(self, entries: Sequence[Entry], *, sign: bool = False) -> None:
        """Make entries durable, all or none, with a checkpoint at the end if `sign`.

        The entries must have passed `check`. Raises OSError; then none is in the log, and the next commit tries
        whatever is left over from this one again.
        """
        if self._file is not None and self._file.size >= self._file_bytes:
            self._turn_over(self._file)
        draft = self._draft()
        if self._file is None:
            draft.add(self._header())
        for entry in entries:
            draft.add(entry)
        if sign:
            draft.sign()
        data = b"".join(draft.lines())
        if self._file is None:
            number = self._end.file + 1
            self._file = create_file(self._directory / file_name(number, self._clock.unix()), data)
            self._end.file, self._end.log, self._end.torn = number, self._log, ()
        else:
            self._file.append(data)
        self._take_over(draft, entries)

    def interrupt_open_calls(self) -> None:
        """Close the calls that were open when the server died; begins the file of this start. Raises OSError."""
        self.commit([Interrupted(call=call) for call in self._end.open_calls], sign=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _turn_over(self, file: LogFile) -> None:
        rotation = Rotation(next_file=self._end.file + 1)
        draft = self._draft()
        draft.add(rotation)
        draft.sign()
        file.append(b"".join(draft.lines()))
        self._take_over(draft, [rotation])
        self.close()

    def _draft(self) -> Draft:
        return Draft(self._end.position, self._signer, self._clock.unix())

    def _header(self) -> Header:
        return Header(
            format=FORMAT,
            log=self._log,
            deployment=self._identity.deployment,
            replica=self._identity.replica,
            public_key=encode_base64url(self._signer.key.public_key().public_bytes_raw()),
            file=self._end.file + 1,
            previous=self._end.link,
            unsigned=self._end.position.unsigned,
            open_calls=dict(self._end.open_calls),
            withdrawals=self._end.withdrawals or UNSET,
            torn=self._end.torn,
        )

    def _take_over(self, draft: Draft, entries: Sequence[Entry]) -> None:
        self._end.position = draft.position
        for entry in entries:
            self._end.follow(entry)
        if draft.signed is not None:
            self.head = draft.signed
            self.checkpointed = self._clock.steady()


@contextmanager
def open_journal(
    directory: Path,
    identity: Identity,
    key: Ed25519PrivateKey,
    *,
    clock: Clock | None = None,
    file_bytes: int = DEFAULT_FILE_BYTES,
    anchored: Head | None = None,
    others: Sequence[Head] = (),
    must_be_anchored: bool = False,
) -> Iterator[Journal]:
    """Open a log, or begin one: recover what a crash left, start a new file, interrupt the calls that were open.

    `key` signs checkpoints; `anchored` is the newest head known elsewhere; of the `others` those count that are of
    this log. Raises AuditError.
    """
    with locked(directory):
        try:
            end = recover(directory, anchored, others, must_be_anchored=must_be_anchored)
            journal = Journal(directory, end, identity, key, clock=clock or Clock(), file_bytes=file_bytes)
            journal.interrupt_open_calls()
        except OSError as error:
            raise AuditSetupError(f"{directory}: {error.strerror}") from error
        try:
            yield journal
        finally:
            journal.close()
