"""The suite of state_kill_suite.py over SQLite."""

from state_kill_suite import *  # noqa: F403
