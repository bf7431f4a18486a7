"""The embedded store: one SQLite file, which several processes of one host may open."""

from sluicegate.server.state.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
