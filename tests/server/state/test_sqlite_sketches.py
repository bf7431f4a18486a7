"""The suite of state_sketches_suite.py over SQLite."""

from state_sketches_suite import *  # noqa: F403
