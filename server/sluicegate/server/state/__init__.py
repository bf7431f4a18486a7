"""State that outlives the process and that replicas share: quotas, withdrawals, heads of audit logs, sketches."""

from sluicegate.server.state.errors import (
    HistoryLost,
    StateError,
    StateUnavailable,
    StoreUnsuitable,
    WithdrawalUnknown,
)
from sluicegate.server.state.ledger import Account, Quota, Refusal, Reservation, Usage, Wanted, account
from sluicegate.server.state.opening import open_store
from sluicegate.server.state.sketches import Sketch, SketchPage
from sluicegate.server.state.store import Store
from sluicegate.server.state.withdrawals import (
    AgreementTarget,
    ClientTarget,
    IssuedBeforeTarget,
    KeyTarget,
    ModelTarget,
    Snapshot,
    StageTarget,
    SubjectTarget,
    Target,
    TokenTarget,
    Version,
    Withdrawal,
)

__all__ = [
    "Account",
    "AgreementTarget",
    "ClientTarget",
    "HistoryLost",
    "IssuedBeforeTarget",
    "KeyTarget",
    "ModelTarget",
    "Quota",
    "Refusal",
    "Reservation",
    "Sketch",
    "SketchPage",
    "Snapshot",
    "StageTarget",
    "StateError",
    "StateUnavailable",
    "Store",
    "StoreUnsuitable",
    "SubjectTarget",
    "Target",
    "TokenTarget",
    "Usage",
    "Version",
    "Wanted",
    "Withdrawal",
    "WithdrawalUnknown",
    "account",
    "open_store",
]
