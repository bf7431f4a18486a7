"""State that outlives the process and that replicas share: quota ledger, withdrawals, anchors of the audit logs."""

from sluicegate.server.state.errors import (
    HistoryLost,
    StateError,
    StateUnavailable,
    StoreUnsuitable,
    WithdrawalUnknown,
)
from sluicegate.server.state.ledger import Account, Quota, Refusal, Reservation, Usage, Wanted, account
from sluicegate.server.state.opening import open_store
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
