"""The tables of a state file, and how one is opened. Writer thread only."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
import uuid
from pathlib import Path

from sluicegate.server.state.errors import StateUnavailable, StoreUnsuitable
from sluicegate.server.state.sqlite import findings

SCHEMA = 4
APPLICATION_ID = 0x51A1CE57  # tells our files from others', in bytes 68 to 71 of the file
BUSY_SECONDS = 2.0
PRIVATE = 0o600

_TABLES = (
    "CREATE TABLE store (identity TEXT NOT NULL)",
    """CREATE TABLE accounts (
        key TEXT PRIMARY KEY,
        time_ms INTEGER NOT NULL,
        minute_end_ms INTEGER NOT NULL, requests INTEGER NOT NULL, minute_output INTEGER NOT NULL,
        day_end_ms INTEGER NOT NULL, day_output INTEGER NOT NULL, day_scored INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE leases (
        account TEXT NOT NULL, id TEXT NOT NULL,
        expires_ms INTEGER NOT NULL, output_tokens INTEGER NOT NULL, scored_tokens INTEGER NOT NULL,
        emitted INTEGER NOT NULL,
        PRIMARY KEY (account, id)
    ) WITHOUT ROWID""",
    "CREATE TABLE withdrawals (id TEXT PRIMARY KEY, entry TEXT NOT NULL, expires_at INTEGER) WITHOUT ROWID",
    "CREATE TABLE history (epoch INTEGER PRIMARY KEY, mark TEXT NOT NULL UNIQUE)",
)
_ANCHORS = "CREATE TABLE anchors (replica TEXT PRIMARY KEY, head TEXT NOT NULL) WITHOUT ROWID"
"""Since schema 2."""
_SIGNALS = (
    "CREATE TABLE salt (bytes BLOB NOT NULL)",
    """CREATE TABLE sketches (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        source TEXT NOT NULL, partner TEXT NOT NULL, put_at INTEGER NOT NULL, data BLOB NOT NULL,
        UNIQUE (source, partner)
    )""",
)
"""Since schema 3."""


def connect(file: Path) -> tuple[sqlite3.Connection, str]:
    """Open a state file, made first if there is none; also the store's identity.

    Only this user may read or write it. Raises StoreUnsuitable, or StateUnavailable if others keep it locked.
    """
    _make_private(file)
    try:
        connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreUnsuitable(f"{file}: cannot be opened: {error}") from error
    try:
        return connection, _prepare(connection, file)
    except sqlite3.OperationalError as error:
        connection.close()
        raise StateUnavailable(f"{file}: {error}") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StoreUnsuitable(f"{file}: not a state file: {error}") from error
    except BaseException:
        connection.close()
        raise


def connect_impatient(file: Path) -> sqlite3.Connection:
    """Another connection to a file that `connect` opened: it waits for no lock, and neither syncs nor checkpoints."""
    connection = sqlite3.connect(file, timeout=0, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _make_private(file: Path) -> None:
    """SQLite gives its -wal and -shm files the mode of the file itself.

    Nothing here opens the file: to close it again would drop the locks that SQLite holds on it in this process
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        os.mknod(file, stat.S_IFREG | PRIVATE)
    except FileExistsError:
        if not file.is_file():
            raise StoreUnsuitable(f"{file}: not a file") from None
        try:
            file.chmod(PRIVATE)
        except OSError as error:
            raise StoreUnsuitable(f"{file}: cannot be made private: {error.strerror}") from error
    except OSError as error:
        raise StoreUnsuitable(f"{file}: cannot be made: {error.strerror}") from error


def _prepare(connection: sqlite3.Connection, file: Path) -> str:
    connection.execute("BEGIN IMMEDIATE")  # one process at a time makes the tables
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreUnsuitable(f"{file}: a SQLite file of another program")
    if schema > SCHEMA:
        raise StoreUnsuitable(f"{file}: has schema {schema} of a newer release; this one knows up to {SCHEMA}")
    if not tables:
        for table in _TABLES:
            connection.execute(table)
        connection.execute("INSERT INTO store VALUES (?)", (uuid.uuid4().hex,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if schema < 2:
        connection.execute(_ANCHORS)
    if schema < 3:
        for table in _SIGNALS:
            connection.execute(table)
    if schema < 4:
        for table in findings.TABLES:
            connection.execute(table)
    if schema < SCHEMA:
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.execute("COMMIT")
    if _switch_to_wal(connection) != "wal":
        raise StoreUnsuitable(f"{file}: this file system has no shared memory for SQLite; use a local disk, or Redis")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")  # writer.py checkpoints
    (identity,) = connection.execute("SELECT identity FROM store").fetchone()
    return str(identity)


def _switch_to_wal(connection: sqlite3.Connection) -> str:
    """The mode that came of it. SQLite does not wait for a lock here, so where several open a new file, we do."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return str(mode)
        except sqlite3.OperationalError:
            if time.monotonic() >= end:
                raise
            time.sleep(BUSY_SECONDS / 100)
