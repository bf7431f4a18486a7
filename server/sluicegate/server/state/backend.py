"""What a store of state has to do. Store asks it; sqlite/ and redis/ are the two there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sluicegate.auth import Quotas
from sluicegate.server.state.findings import Crowded, Filing
from sluicegate.server.state.ledger import Account, Refusal, Usage, Wanted
from sluicegate.server.state.sketches import SketchPage
from sluicegate.server.state.withdrawals import Version


class Backend(Protocol):
    """One store, shared by all replicas that open it. Event loop only.

    Every method is atomic, and may be called again with the same ids without doing a thing twice. When it returns, what
    it did survives any end of this process; what `withdraw`, `lift`, `file_finding` and `review_finding` did survives a
    loss of power too, while the ledger may lose its last second to that. Raises StateUnavailable within bounded time; a
    call that was cancelled may still take effect.
    """

    async def reserve(self, id_: str, account: Account, quotas: Quotas, wanted: Wanted) -> int | Refusal:
        """The output tokens granted."""

    async def renew(self, account: Account, emitted: Mapping[str, int]) -> frozenset[str]:
        """The ids of the reservations that have lapsed."""

    async def settle(self, account: Account, id_: str, emitted: int, scored: int) -> None: ...

    async def usage(self, account: Account, quotas: Quotas) -> tuple[Usage, ...]: ...

    async def withdraw(self, id_: str, entry: str, expires_at: int | None) -> int:
        """The epoch in which the entry came in; `id_` is also the change's mark."""

    async def lift(self, id_: str, mark: str) -> int:
        """The epoch in which the entry went. Raises WithdrawalUnknown."""

    async def read(self, seen: Version | None) -> tuple[Version, list[str] | None]:
        """The version and all entries; None for the entries if `seen` is still the version. Raises HistoryLost."""

    async def anchor(self, replica: str, log: str, head: str) -> bool:
        """Keep a replica's head in the place of the one before; whether it was kept: not in that of another log."""

    async def anchors(self) -> dict[str, str]:
        """Every replica's head."""

    async def salt(self, new: bytes) -> bytes:
        """The salt of the signals: `new` if there was none."""

    async def put_sketches(self, source: str, sketches: Mapping[str, bytes]) -> None:
        """Keep a source's sketches by partner, each in the place of the one before; need not survive a loss of power.

        A store that has more than sketches.MOST, or has some for longer than KEPT_SECONDS, forgets them.
        """

    async def sketches(self, source: str, after: int) -> SketchPage:
        """Sketches of other sources that were put after a number; those that are left come with the next question."""

    async def file_finding(self, filing: Filing) -> str | Crowded:
        """The id of the finding that this request made, now or before; or the first bound without room."""

    async def finding(self, id_: str) -> tuple[str, str] | None:
        """One finding and its review, "" without one; None if there is no such finding."""

    async def findings(self, list_: str, before: str, most: int) -> list[tuple[str, str]]:
        """So many of a list, the newest first, each with its review; of those with lower ids than `before`, or ""."""

    async def review_finding(self, id_: str, review: str) -> None:
        """Put a review in the place of the one before. Raises FindingUnknown."""

    async def close(self) -> None: ...
