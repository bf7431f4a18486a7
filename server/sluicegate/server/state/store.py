"""The state that replicas share: quota ledger, withdrawals, audit heads, sketches, findings. In SQLite or Redis."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sluicegate.auth import Quotas
from sluicegate.server.state.backend import Backend
from sluicegate.server.state.errors import StateError, StateUnavailable
from sluicegate.server.state.findings import (
    Bound,
    Crowded,
    FiledFinding,
    Filing,
    Finding,
    Review,
    decode_finding,
    decode_review,
    encode_review,
    list_of,
    lists_of,
)
from sluicegate.server.state.ledger import Account, Refusal, Reservation, Usage, Wanted
from sluicegate.server.state.sketches import SALT_BYTES, SketchPage
from sluicegate.server.state.withdrawals import KEPT_SECONDS, Snapshot, Version, Withdrawal, decode, encode

_Result = TypeVar("_Result")

FINDINGS_PAGE = 100
"""Of a few kilobytes each: calls on quotas wait for no longer reading."""
ASK_AGAIN_SECONDS = 1.0
"""Between two attempts where a store was late."""
PATIENT_SECONDS = 10.0
"""How long a server that starts waits for a store that is late: it has read its models by then."""
MOST_UNANSWERED = 10_000
"""Of those that are remembered; more would be left to lapse."""


@dataclass(slots=True)
class _Unanswered:
    """A reservation that the store may have made. `until`: of time.monotonic; it has lapsed then."""

    account: Account
    id: str
    until: float
    answers: int = 0


class Store:
    """One replica's door to the shared state. Event loop only.

    What a call has begun is carried out even if its caller is cancelled meanwhile; a reservation that nobody is left to
    take, or whose answer comes too late, is given back. Every method raises StateUnavailable if the store does not
    answer in bounded time, and HistoryLost if it has forgotten what it knew.
    """

    def __init__(self, backend: Backend, *, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        """A reservation lapses this long after it was made or last renewed; renew it three times as often."""
        self._backend = backend
        self._running: set[asyncio.Task[Any]] = set()
        self._is_closing = False
        self._unanswered: list[_Unanswered] = []
        self._is_giving_back = False

    async def reserve(self, account: Account, quotas: Quotas, wanted: Wanted) -> Reservation | Refusal:
        """Take what one call needs before it starts. Each Reservation must be settled."""
        reserving = self._start(self._reserve(account, quotas, wanted))
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            self._start(self._give_back(reserving))
            raise

    async def renew(self, emitted: Mapping[Reservation, int]) -> frozenset[Reservation]:
        """Keep reservations alive, and say how many output tokens each has emitted since it was made.

        Returns those that have lapsed: their streams must end now.
        """
        by_account: dict[Account, dict[str, int]] = defaultdict(dict)
        for reservation, tokens in emitted.items():
            by_account[reservation.account][reservation.id] = tokens
        renewals = [self._backend.renew(account, tokens) for account, tokens in by_account.items()]
        lapsed = frozenset().union(*await self._carry_out(_all(renewals)))
        return frozenset(reservation for reservation in emitted if reservation.id in lapsed)

    async def settle(self, reservation: Reservation, *, emitted: int = 0, scored: int = 0) -> None:
        """Book the tokens that a call came to and give back the rest.

        A second call does nothing, nor does one for a reservation that has lapsed: all of that stays booked.
        """
        await self._carry_out(self._backend.settle(reservation.account, reservation.id, emitted, scored))

    async def usage(self, account: Account, quotas: Quotas) -> tuple[Usage, ...]:
        """How much is used of each quota that has a limit."""
        return await self._carry_out(self._backend.usage(account, quotas))

    async def withdraw(self, withdrawal: Withdrawal) -> int:
        """Add an entry; the epoch in which every reader has it. The same entry again adds nothing.

        Entries that have been of no use for a day are forgotten on this occasion.
        """
        expires_at = withdrawal.expires_at
        forgotten_at = None if expires_at is None else expires_at + KEPT_SECONDS
        return await self._carry_out(self._backend.withdraw(withdrawal.id, encode(withdrawal), forgotten_at))

    async def lift(self, id_: str) -> int:
        """Take an entry out; the epoch in which no reader has it any more. Raises WithdrawalUnknown."""
        return await self._carry_out(self._backend.lift(id_, uuid.uuid4().hex))

    async def entries(self) -> Snapshot:
        """All withdrawals."""
        version, entries = await self._carry_out(self._backend.read(None))
        return _snapshot(version, entries or [])

    async def changes(self, seen: Version) -> Snapshot | None:
        """All withdrawals, or None if `seen` is still the version: cheap enough to ask twice a second.

        Raises HistoryLost if `seen` is not in the store's past.
        """
        version, entries = await self._carry_out(self._backend.read(seen))
        return None if entries is None else _snapshot(version, entries)

    async def anchor(self, replica: str, log: str, head: str) -> bool:
        """Keep the head of a replica's audit log, `LOG:…`, in the place of the one before.

        Gives whether it was kept: the head of another log stays. Two replicas of one name would lose theirs in turn.
        """
        return await self._carry_out(self._backend.anchor(replica, log, head))

    async def anchors(self) -> Mapping[str, str]:
        """The heads of all replicas' audit logs, by the replica's name."""
        return await self._carry_out(self._backend.anchors())

    async def salt(self) -> bytes:
        """The deployment's salt for fingerprints, 32 bytes: made by whoever asks first, and the same ever after."""
        salt = await self._carry_out(self._backend.salt(secrets.token_bytes(SALT_BYTES)))
        if len(salt) != SALT_BYTES:
            raise StateUnavailable("the store's salt for fingerprints is not one of ours")
        return salt

    async def put_sketches(self, source: str, sketches: Mapping[str, bytes]) -> None:
        """Keep what a life of a replica has seen of partners, each in the place of what it had put of it before.

        `source` names that life and has no spaces; no two replicas may share one. A sketch has at most 64 KiB.
        """
        if sketches:
            await self._carry_out(self._backend.put_sketches(source, sketches))

    async def sketches(self, source: str, after: int = 0) -> SketchPage:
        """What other lives have put after a number, the oldest first; ask again until `after` stays what it was."""
        return await self._carry_out(self._backend.sketches(source, after))

    async def file_finding(
        self, finding: Finding, *, request: str = "", bounds: tuple[Bound, ...] = ()
    ) -> FiledFinding | Crowded:
        """Keep a finding for good. `request`: a key under which one that was filed before is given instead.

        Gives the first bound that leaves no room, if one does not; bounds are on lists that the finding goes into.
        """
        filing = Filing(finding.id, finding.canonical.decode("utf-8"), lists_of(finding), bounds, request)
        outcome = await self._carry_out(self._backend.file_finding(filing))
        if isinstance(outcome, Crowded):
            return outcome
        if outcome == finding.id:
            return FiledFinding(finding)
        earlier = await self.finding(outcome)
        assert earlier is not None
        return earlier

    async def finding(self, id_: str) -> FiledFinding | None:
        """One finding; None if there is none of this id."""
        found = await self._carry_out(self._backend.finding(id_))
        return None if found is None else _filed(*found)

    async def findings(self, list_: str, *, before: str = "", most: int = FINDINGS_PAGE) -> tuple[FiledFinding, ...]:
        """A page of a list (`list_of`, `list_under`), the newest first: so many at most, older than the id `before`."""
        found = await self._carry_out(self._backend.findings(list_, before, most))
        return tuple(_filed(*each) for each in found)

    async def each_finding(self, list_: str, *, page_size: int = FINDINGS_PAGE) -> AsyncIterator[FiledFinding]:
        """Every finding of a list, the newest first, read page by page."""
        before = ""
        while page := await self.findings(list_, before=before, most=page_size):
            for filed in page:
                yield filed
            before = page[-1].finding.id

    async def findings_of(self, partner: str, model: str, *, since_ms: int = 0) -> tuple[FiledFinding, ...]:
        """A partner's findings on a model, filed at `since_ms` (Unix milliseconds) or later, the newest first.

        Of every status: whoever builds on one asks for those that were accepted.
        """
        found = []
        async for filed in self.each_finding(list_of(partner=partner, model=model)):
            if filed.finding.created_ms < since_ms:
                break
            found.append(filed)
        return tuple(found)

    async def review_finding(self, id_: str, review: Review) -> None:
        """Put an operator's review in the place of the one before. Raises FindingUnknown."""
        await self._carry_out(self._backend.review_finding(id_, encode_review(review)))

    async def close(self) -> None:
        """Finish what is under way, and let go of the store."""
        self._is_closing = True
        while self._running:
            await asyncio.wait(self._running)
        await self._backend.close()

    async def _reserve(self, account: Account, quotas: Quotas, wanted: Wanted) -> Reservation | Refusal:
        id_ = uuid.uuid4().hex
        try:
            granted = await self._backend.reserve(id_, account, quotas, wanted)
        except StateUnavailable:
            self._note_unanswered(account, id_)
            raise
        if isinstance(granted, Refusal):
            return granted
        return Reservation(id_, account, granted, wanted.scored_tokens)

    async def _give_back(self, reserving: asyncio.Task[Reservation | Refusal]) -> None:
        with contextlib.suppress(StateError):  # then it lapses
            if isinstance(outcome := await reserving, Reservation):
                await self._backend.settle(outcome.account, outcome.id, 0, 0)

    def _note_unanswered(self, account: Account, id_: str) -> None:
        """Have given back what may be reserved all the same: a store may do what it was asked after its time is up."""
        if len(self._unanswered) < MOST_UNANSWERED:
            self._unanswered.append(_Unanswered(account, id_, time.monotonic() + self.lease_seconds))
        if not self._is_giving_back:
            self._is_giving_back = True
            self._start(self._give_back_unanswered())

    async def _give_back_unanswered(self) -> None:
        """Until the store has answered twice for each, since it may read two connections in either order, or the lease
        is over; in turns, so that a store which was away is not run down by all at once."""
        while True:
            with contextlib.suppress(StateError):
                for each in list(self._unanswered):
                    await self._backend.settle(each.account, each.id, 0, 0)
                    each.answers += 1
            now = time.monotonic()
            self._unanswered = [each for each in self._unanswered if each.answers < 2 and now < each.until]
            if not self._unanswered or self._is_closing:
                self._is_giving_back = False
                return
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    def _start(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(work)
        self._running.add(task)  # the event loop itself keeps tasks only weakly
        task.add_done_callback(self._running.discard)
        return task

    async def _carry_out(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return await asyncio.shield(self._start(work))


async def patiently(ask: Callable[[], Awaitable[_Result]]) -> _Result:
    """What the store answers, asked again for some seconds where it does not. Raises StateError."""
    end = time.monotonic() + PATIENT_SECONDS
    while True:
        try:
            return await ask()
        except StateUnavailable:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(ASK_AGAIN_SECONDS)


async def _all(work: list[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    return await asyncio.gather(*work)


def _filed(entry: str, review: str) -> FiledFinding:
    return FiledFinding(decode_finding(entry), decode_review(review) if review else None)


def _snapshot(version: Version, entries: list[str]) -> Snapshot:
    withdrawals = [decode(entry) for entry in entries]
    return Snapshot(version, tuple(sorted(withdrawals, key=lambda entry: (entry.created_at, entry.id))))
