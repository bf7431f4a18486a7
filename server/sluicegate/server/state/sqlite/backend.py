"""Ledger, withdrawals, anchors, sketches and findings in one SQLite file.

A withdrawal is on disk when it is answered: what was closed stays closed, whatever happens. So is a finding. The
ledger's entries survive the end of the process, and reach the disk within a second (writer.py). If the machine dies,
the streams of all replicas on this file die with it, and what is forgotten errs by little: of a reservation made in
that second, the tokens sent in it; of a settlement, that it was made, so that the reservation lapses and stays charged
whole.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TypeVar

from sluicegate.auth import Quotas
from sluicegate.server.state.books import Books, Held, Lease
from sluicegate.server.state.errors import HistoryLost, WithdrawalUnknown
from sluicegate.server.state.findings import Crowded, Filing
from sluicegate.server.state.ledger import Account, Refusal, Usage, Wanted
from sluicegate.server.state.sketches import KEPT_SECONDS, LARGEST_BYTES, MOST, PAGE_BYTES, Sketch, SketchPage, pages
from sluicegate.server.state.sqlite import findings as finding_tables
from sluicegate.server.state.sqlite.writer import Writer
from sluicegate.server.state.windows import day_of
from sluicegate.server.state.withdrawals import Version

PRUNE_MS = 600_000
KEPT_MS = 2 * 86_400_000
"""Books outlive their last window by so much: a clock set back finds them, and a lapsed lease the day it belongs to."""

_Result = TypeVar("_Result")


class SqliteBackend:
    """A Backend. Made by `open`; the clock gives Unix seconds and is called in the writer thread."""

    def __init__(self, writer: Writer, identity: str, lease_ms: int, clock: Callable[[], float]) -> None:
        self._writer = writer
        self._identity = identity
        self._lease_ms = lease_ms
        self._clock = clock
        self._next_prune_ms = 0

    @classmethod
    async def open(cls, file: Path, lease_ms: int, clock: Callable[[], float]) -> SqliteBackend:
        """Open a file, made first if there is none. Raises StoreUnsuitable or StateUnavailable."""
        writer = Writer(file)
        return cls(writer, await writer.open(), lease_ms, clock)

    async def reserve(self, id_: str, account: Account, quotas: Quotas, wanted: Wanted) -> int | Refusal:
        return await self._book(account, [id_], lambda books: books.reserve(id_, quotas, wanted, self._lease_ms))

    async def renew(self, account: Account, emitted: Mapping[str, int]) -> frozenset[str]:
        return await self._book(account, emitted, lambda books: books.renew(emitted, self._lease_ms))

    async def settle(self, account: Account, id_: str, emitted: int, scored: int) -> None:
        await self._book(account, [id_], lambda books: books.settle(id_, emitted, scored))

    async def usage(self, account: Account, quotas: Quotas) -> tuple[Usage, ...]:
        def work(connection: sqlite3.Connection) -> tuple[Usage, ...]:
            books, now_ms = self._load(connection, account, [])
            books.turn(now_ms, day_of(now_ms, account.zone))
            return books.usage(quotas)

        return await self._writer.do(work, synced=False)

    async def withdraw(self, id_: str, entry: str, expires_at: int | None) -> int:
        self._writer.check_place()

        def work(connection: sqlite3.Connection) -> int:
            if (epoch := _epoch_of(connection, id_)) is not None:
                return epoch
            connection.execute("DELETE FROM withdrawals WHERE expires_at <= ?", (self._clock(),))
            connection.execute("INSERT INTO withdrawals VALUES (?, ?, ?)", (id_, entry, expires_at))
            return _step(connection, id_)

        return await self._writer.do(work, synced=True)

    async def lift(self, id_: str, mark: str) -> int:
        self._writer.check_place()

        def work(connection: sqlite3.Connection) -> int:
            if not connection.execute("DELETE FROM withdrawals WHERE id = ?", (id_,)).rowcount:
                raise WithdrawalUnknown(id_)
            return _step(connection, mark)

        return await self._writer.do(work, synced=True)

    async def read(self, seen: Version | None) -> tuple[Version, list[str] | None]:
        self._writer.check_place()

        def work(connection: sqlite3.Connection) -> tuple[Version, list[str] | None]:
            if seen is not None and not self._knows(connection, seen):
                raise HistoryLost(f"the state file holds no change {seen.epoch} as it was read before")
            last = connection.execute("SELECT epoch, mark FROM history ORDER BY epoch DESC LIMIT 1").fetchone()
            version = Version(self._identity, *(last or (0, "")))
            if version == seen:
                return version, None
            return version, [entry for (entry,) in connection.execute("SELECT entry FROM withdrawals")]

        return await self._writer.do(work, synced=False)

    async def anchor(self, replica: str, log: str, head: str) -> bool:
        self._writer.check_place()

        def work(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "INSERT INTO anchors VALUES (?, ?) ON CONFLICT (replica) DO UPDATE SET head = excluded.head"
                " WHERE substr(head, 1, length(?)) = ?",
                (replica, head, f"{log}:", f"{log}:"),
            )
            return cursor.rowcount == 1

        return await self._writer.do(work, synced=True)

    async def anchors(self) -> dict[str, str]:
        def work(connection: sqlite3.Connection) -> dict[str, str]:
            return dict(connection.execute("SELECT replica, head FROM anchors"))

        return await self._writer.do(work, synced=False)

    async def salt(self, new: bytes) -> bytes:
        def work(connection: sqlite3.Connection) -> bytes:
            connection.execute("INSERT INTO salt SELECT ? WHERE NOT EXISTS (SELECT * FROM salt)", (new,))
            (salt,) = connection.execute("SELECT bytes FROM salt").fetchone()
            return bytes(salt)

        return await self._writer.do(work, synced=True)

    async def put_sketches(self, source: str, sketches: Mapping[str, bytes]) -> None:
        self._writer.check_place()
        for page in pages(sketches):
            await self._writer.do(functools.partial(self._put_page, source, page), synced=False)

    async def sketches(self, source: str, after: int) -> SketchPage:
        def work(connection: sqlite3.Connection) -> SketchPage:
            last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sketches'").fetchone()
            start = after if last is not None and after <= last[0] else 0  # this file may be an older copy
            return _page(connection, source, start)

        return await self._writer.do(work, synced=False)

    async def file_finding(self, filing: Filing) -> str | Crowded:
        self._writer.check_place()
        return await self._writer.do(lambda connection: finding_tables.file(connection, filing), synced=True)

    async def finding(self, id_: str) -> tuple[str, str] | None:
        return await self._writer.do(lambda connection: finding_tables.read(connection, id_), synced=False)

    async def findings(self, list_: str, before: str, most: int) -> list[tuple[str, str]]:
        return await self._writer.do(
            lambda connection: finding_tables.page(connection, list_, before, most), synced=False
        )

    async def review_finding(self, id_: str, review: str) -> None:
        self._writer.check_place()
        await self._writer.do(lambda connection: finding_tables.review(connection, id_, review), synced=True)

    async def close(self) -> None:
        await self._writer.close()

    async def _book(self, account: Account, ids: Iterable[str], entry: Callable[[Books], _Result]) -> _Result:
        """Open an account's books, write something into them that names these leases, and put them back."""

        def work(connection: sqlite3.Connection) -> _Result:
            books, now_ms = self._load(connection, account, ids)
            before = dict(books.leases)
            books.turn(now_ms, day_of(now_ms, account.zone))
            result = entry(books)
            if isinstance(result, Refusal):  # nothing was written, so a flood of refusals costs no writes
                return result
            _save(connection, account.key, books, before)
            if books.time_ms >= self._next_prune_ms:
                _prune(connection, books.time_ms)
                self._next_prune_ms = books.time_ms + PRUNE_MS
            return result

        return await self._writer.do_short(work)

    def _put_page(self, source: str, page: Mapping[str, bytes], connection: sqlite3.Connection) -> None:
        now = int(self._clock())
        connection.executemany(
            "REPLACE INTO sketches (source, partner, put_at, data) VALUES (?, ?, ?, ?)",
            [(source, partner, now, data) for partner, data in page.items()],
        )
        connection.execute("DELETE FROM sketches WHERE put_at <= ?", (now - KEPT_SECONDS,))
        connection.execute(
            "DELETE FROM sketches WHERE number <= (SELECT number FROM sketches ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (MOST,),
        )

    def _load(self, connection: sqlite3.Connection, account: Account, ids: Iterable[str]) -> tuple[Books, int]:
        """An account's books with these leases and those that have lapsed; and the time, which never goes back."""
        columns = "time_ms, minute_end_ms, requests, minute_output, day_end_ms, day_output, day_scored"
        row = connection.execute(f"SELECT {columns} FROM accounts WHERE key = ?", (account.key,)).fetchone()  # noqa: S608
        books = Books(*row) if row else Books()
        now_ms = max(int(self._clock() * 1000), books.time_ms)
        looked_at = "(expires_ms <= ? OR id IN (SELECT value FROM json_each(?)))"
        arguments = (account.key, now_ms, json.dumps(list(ids)))
        columns = "id, expires_ms, output_tokens, scored_tokens, emitted"
        leases = f"SELECT {columns} FROM leases WHERE account = ? AND {looked_at}"  # noqa: S608
        books.leases.update({id_: Lease(*lease) for id_, *lease in connection.execute(leases, arguments)})
        sums = "count(*), ifnull(sum(output_tokens), 0), ifnull(sum(scored_tokens), 0)"
        others = f"SELECT {sums} FROM leases WHERE account = ? AND NOT {looked_at}"  # noqa: S608
        books.others = Held(*connection.execute(others, arguments).fetchone())
        return books, now_ms

    def _knows(self, connection: sqlite3.Connection, seen: Version) -> bool:
        if seen.store != self._identity:
            return False
        return seen.epoch == 0 or _epoch_of(connection, seen.mark) == seen.epoch


def _page(connection: sqlite3.Connection, source: str, after: int) -> SketchPage:
    """What others put after a number. What nobody of ours can have put is left out."""
    rows = connection.execute(
        "SELECT number, source, partner, data FROM sketches WHERE number > ? AND source != ?"
        " AND typeof(data) = 'blob' AND length(data) <= ? ORDER BY number",
        (after, source, LARGEST_BYTES),
    )
    found: list[Sketch] = []
    size = 0
    for number, origin, partner, data in rows:
        if found and size + len(data) > PAGE_BYTES:
            break
        found.append(Sketch(str(origin), str(partner), bytes(data)))
        after, size = number, size + len(data)
    return SketchPage(tuple(found), after)


def _save(connection: sqlite3.Connection, key: str, books: Books, before: Mapping[str, Lease]) -> None:
    minute = (books.minute_end_ms, books.requests, books.minute_output)
    day = (books.day_end_ms, books.day_output, books.day_scored)
    connection.execute("REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, books.time_ms, *minute, *day))
    gone = [(key, id_) for id_ in before.keys() - books.leases.keys()]
    connection.executemany("DELETE FROM leases WHERE account = ? AND id = ?", gone)
    changed = [(key, id_, *astuple(lease)) for id_, lease in books.leases.items() if before.get(id_) != lease]
    connection.executemany("REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)", changed)


def _prune(connection: sqlite3.Connection, now_ms: int) -> None:
    """Forget accounts whose windows and leases have long ended."""
    connection.execute("DELETE FROM leases WHERE expires_ms < ?", (now_ms - KEPT_MS,))
    connection.execute(
        "DELETE FROM accounts WHERE day_end_ms < ? AND key NOT IN (SELECT account FROM leases)", (now_ms - KEPT_MS,)
    )


def _epoch_of(connection: sqlite3.Connection, mark: str) -> int | None:
    row = connection.execute("SELECT epoch FROM history WHERE mark = ?", (mark,)).fetchone()
    return None if row is None else int(row[0])


def _step(connection: sqlite3.Connection, mark: str) -> int:
    """Add a change to the history: its epoch, one more than the last."""
    epoch = connection.execute("INSERT INTO history (mark) VALUES (?)", (mark,)).lastrowid
    assert epoch is not None
    return epoch
