"""The suite of state_random_suite.py over SQLite."""

from state_random_suite import *  # noqa: F403
