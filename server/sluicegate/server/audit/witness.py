"""An audit log as a witness against the state store: does the store still know what the log's server went by?

Each log says which change of the withdrawals its replica went by last. A store that was restored from an older copy has
a past without that change, and so has another store. A change is told of after the store has made it durable, so no
crash, of the server or of the store, makes a log say what the store never knew.
"""

from __future__ import annotations

from sluicegate.server.audit.entries import WithdrawalsInForce
from sluicegate.server.state import HistoryLost, Store, Version


def in_force(version: Version) -> WithdrawalsInForce:
    """The entry that tells of a version of the withdrawals."""
    return WithdrawalsInForce(store=version.store, change=version.epoch, mark=version.mark or None)


async def has_forgotten(store: Store, told: WithdrawalsInForce) -> bool:
    """Whether the store's past lacks what a log tells of. Raises StateError if the store cannot be asked."""
    try:
        await store.changes(Version(told.store, told.change, told.mark or ""))
    except HistoryLost:
        return True
    return False
