"""The suite of state_ledger_suite.py over SQLite."""

from state_ledger_suite import *  # noqa: F403
