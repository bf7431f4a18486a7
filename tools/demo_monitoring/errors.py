"""Errors of the monitoring demo, beside those of `sluicegate demo`.

DemoError
├── ProgramMissing     install what the text names
├── ProgramNotStarted  its log has the cause; the text ends with its last lines
└── ProgramLost        it stopped answering while the tour went on; its log has the cause
"""

from __future__ import annotations

from sluicegate.server.demo.errors import DemoError


class ProgramMissing(DemoError):
    """Prometheus or Alertmanager is not installed."""


class ProgramNotStarted(DemoError):
    """It ended, or took too long, before it answered."""


class ProgramLost(DemoError):
    """It answers no more."""
