"""The suite of state_findings_suite.py over SQLite."""

from state_findings_suite import *  # noqa: F403
