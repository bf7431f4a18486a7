"""Whose turn it is among the requests that wait for slots: fair shares of tokens between identities.

Start-time fair queueing (Goyal, Vin and Cheng 1997, section II) with many requests in service at once, as in SFQ(D)
(Jin, Chase and Kaur 2004, section 4), over identities, counted in tokens as by Sheng et al. 2024 ("Fairness in Serving
Large Language Models"). Virtual time is counted in tokens. Each identity has a start, the time from which its next
request is due; what is admitted puts it off by that request's tokens. Who has not asked for long starts now, so that
one caller's flood is behind another's single request from the first slot that comes free.

A request is charged for what it may take when it is admitted, and its identity gets back what was not generated when
it ends. One that needs many slots is charged also for those that stay empty until it has them all: else small requests
of many sequences could keep a model idle at no cost. Inside an identity: the higher priority first, then first come,
first served.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field

from sluicegate.server.engine.sequence import Request

# By its start alone, a request could be held back for ever by identities that are always new: each starts now, and
# none moves the time on. So a 64th of its own tokens counts too (all of them: Golestani 1994, self-clocked fair
# queueing, in which small requests overtake large ones more than here). Times are in 64ths of a token, hence whole.
TOKEN = 64


@dataclass(slots=True)
class Share:
    """One identity's account: its start, and its requests that wait, the next one first."""

    start: int
    waiting: list[Request] = field(default_factory=list)

    @property
    def due(self) -> int:
        """When its next request is due."""
        return self.start + self.waiting[0].cost


class FairQueue:
    """The requests that wait. Engine thread only.

    An identity is remembered while it has requests here, and after that until the others have caught up with it.
    """

    def __init__(self) -> None:
        self._now = 0
        self._shares: dict[str, Share] = {}
        self._turn: Request | None = None
        self._held = 0  # what its identity was charged for slots that stayed empty
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, request: Request) -> bool:
        share = self._shares.get(request.identity)
        return share is not None and request in share.waiting

    @property
    def identities(self) -> int:
        """Identities that are remembered."""
        return len(self._shares)

    def add(self, request: Request) -> None:
        """Let a request wait."""
        share = self._shares.setdefault(request.identity, Share(self._now))
        insort(share.waiting, request, key=_rank)
        self._length += 1

    def remove(self, request: Request) -> None:
        """A request no longer waits."""
        self._take_out(request)
        self._forget(request.identity)

    def next(self) -> Request | None:
        """Whose turn it is; None if nobody waits.

        The turn is kept until the request is admitted or removed: one that needs many slots is overtaken by nobody
        while they come free.
        """
        if self._turn is None and self._length:
            shares = (share for share in self._shares.values() if share.waiting)
            self._turn = min(shares, key=lambda share: (share.due, share.waiting[0].order)).waiting[0]
        return self._turn

    def hold(self, slots: int) -> None:
        """Charge the identity whose turn it is for a step in which so many slots stay empty for it.

        Its turn came before: time does not move on by what it is charged for since, or others would be behind a flood.
        """
        assert self._turn is not None
        self._shares[self._turn.identity].start += slots * TOKEN
        self._held += slots * TOKEN

    def admit(self, request: Request) -> None:
        """Take the request whose turn it is out, and charge its identity."""
        share = self._shares[request.identity]
        assert request is share.waiting[0] or request is self._turn
        held = self._held if request is self._turn else 0
        self._now = max(self._now, share.start - held + request.cost)
        share.start += request.cost * TOKEN
        self._take_out(request)
        for identity in list(self._shares):
            self._forget(identity)

    def give_back(self, identity: str, tokens: int) -> None:
        """Undo a part of what an identity was charged; it gets no further than to now."""
        share = self._shares.get(identity)
        if share is not None:
            share.start = max(min(share.start, self._now), share.start - tokens * TOKEN)
            self._forget(identity)

    def _take_out(self, request: Request) -> None:
        self._shares[request.identity].waiting.remove(request)
        self._length -= 1
        if self._turn is request:
            self._turn, self._held = None, 0

    def _forget(self, identity: str) -> None:
        """Drop an identity that differs in nothing from one that was never here."""
        share = self._shares[identity]
        if not share.waiting and share.start <= self._now:
            del self._shares[identity]

    def check(self) -> None:
        """Raise AssertionError if the books do not agree."""
        assert self._length == sum(len(share.waiting) for share in self._shares.values())
        for identity, share in self._shares.items():
            assert share.waiting or share.start > self._now, "an identity is remembered for nothing"
            assert all(request.identity == identity for request in share.waiting)
            assert share.waiting == sorted(share.waiting, key=_rank), "an identity's requests are out of order"
        if self._turn is not None:
            assert self._turn in self._shares[self._turn.identity].waiting, "a turn is kept for one that has gone"


def _rank(request: Request) -> tuple[int, int]:
    return -request.priority, request.order
