"""Errors of the demo.

DemoError
├── DirectoryUnusable  name another directory, or end the demo that runs there
├── ModelsMissing      the installation lacks files of the demo models
├── ServerNotStarted   the server's log has the cause; the text ends with its last lines
└── CommandStuck       a command of the tour did not end in time
"""

from __future__ import annotations

from sluicegate.server.errors import ServerError


class DemoError(ServerError):
    """Root of the demo's errors."""


class DirectoryUnusable(DemoError):
    """The demo cannot have this directory."""


class ModelsMissing(DemoError):
    """Files of the demo models are not where they belong."""


class ServerNotStarted(DemoError):
    """The server ended, or took too long, before it served."""


class CommandStuck(DemoError):
    """A command did not end in time; it was killed."""
