"""Findings in a state file. Writer thread only."""

from __future__ import annotations

import sqlite3

from sluicegate.server.state.errors import FindingUnknown
from sluicegate.server.state.findings import WINDOW_MS, Crowded, Filing, time_of

TABLES = (
    "CREATE TABLE findings (id TEXT PRIMARY KEY, entry TEXT NOT NULL, review TEXT)",
    "CREATE TABLE finding_lists (list TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (list, id)) WITHOUT ROWID",
    "CREATE TABLE finding_requests (key TEXT PRIMARY KEY, id TEXT NOT NULL) WITHOUT ROWID",
)


def file(connection: sqlite3.Connection, filing: Filing) -> str | Crowded:
    """As Backend.file_finding."""
    if read(connection, filing.id) is not None:
        return filing.id
    earlier = connection.execute("SELECT id FROM finding_requests WHERE key = ?", (filing.request,)).fetchone()
    if earlier is not None:
        return str(earlier[0])
    for bound in filing.bounds:
        in_the_way = connection.execute(
            "SELECT id FROM finding_lists WHERE list = ? AND id > ? ORDER BY id DESC LIMIT 1 OFFSET ?",
            (bound.list, filing.since, bound.most - 1),
        ).fetchone()
        if in_the_way is not None:
            return Crowded(bound, time_of(in_the_way[0]) + WINDOW_MS)
    connection.execute("INSERT INTO findings (id, entry) VALUES (?, ?)", (filing.id, filing.entry))
    connection.executemany("INSERT INTO finding_lists VALUES (?, ?)", [(each, filing.id) for each in filing.lists])
    if filing.request:
        connection.execute("INSERT INTO finding_requests VALUES (?, ?)", (filing.request, filing.id))
    return filing.id


def read(connection: sqlite3.Connection, id_: str) -> tuple[str, str] | None:
    """As Backend.finding."""
    row = connection.execute("SELECT entry, review FROM findings WHERE id = ?", (id_,)).fetchone()
    return None if row is None else (row[0], row[1] or "")


def page(connection: sqlite3.Connection, list_: str, before: str, most: int) -> list[tuple[str, str]]:
    """As Backend.findings."""
    rows = connection.execute(
        "SELECT entry, review FROM finding_lists JOIN findings USING (id)"
        " WHERE list = ? AND (? = '' OR id < ?) ORDER BY id DESC LIMIT ?",
        (list_, before, before, most),
    )
    return [(entry, review or "") for entry, review in rows]


def review(connection: sqlite3.Connection, id_: str, text: str) -> None:
    """As Backend.review_finding."""
    if not connection.execute("UPDATE findings SET review = ? WHERE id = ?", (text, id_)).rowcount:
        raise FindingUnknown(id_)
