"""The suite of state_withdrawals_suite.py over SQLite."""

from state_withdrawals_suite import *  # noqa: F403
