"""The suite of state_anchors_suite.py over SQLite."""

from state_anchors_suite import *  # noqa: F403
