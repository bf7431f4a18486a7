"""Errors of the state stores.

StateError
├── StoreUnsuitable     this store may not be used: its URL, its file, its settings; the text says what to do
├── StateUnavailable    the store does not answer or does not obey; whether the call took effect is unknown
├── HistoryLost         the store is not a continuation of what was read before: another one, or an old copy
├── WithdrawalUnknown   no withdrawal with this id is in force
└── FindingUnknown      no finding has this id
"""

from __future__ import annotations


class StateError(Exception):
    """Root of the state stores' errors."""


class StoreUnsuitable(StateError):
    """The server must not start on this store. The text reaches the operator and holds no password."""


class StateUnavailable(StateError):
    """The store cannot be asked now. Trying again can help; until then the answer to every question is no."""


class HistoryLost(StateError):
    """Withdrawals and charges may have been forgotten. Trying again does not help: an operator has to look."""


class WithdrawalUnknown(StateError):
    """Nothing to lift: it never was, or was lifted, or has expired."""


class FindingUnknown(StateError):
    """Nothing to review: no finding was filed under this id."""
