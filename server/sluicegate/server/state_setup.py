"""The state store that the settings name. A part of app.py."""

from __future__ import annotations

from collections.abc import Callable

from sluicegate.server import config
from sluicegate.server.errors import SettingsError
from sluicegate.server.private_files import read_secret_line
from sluicegate.server.state import Store, open_store

MOST_URL_BYTES = 1024


def state_url(state: config.State) -> str:
    """The store's URL, from its file where there is one. Raises SettingsError for a file that cannot be used."""
    if state.url_file is None:
        return state.url
    line = read_secret_line(state.url_file, "state.url_file", least_bytes=1, most_bytes=MOST_URL_BYTES)
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError([f"state.url_file: {state.url_file} holds no text"]) from None


async def opened_store(state: config.State, clock: Callable[[], float] | None) -> Store:
    """The store, which the caller closes; by its own clock if there is none here. Raises SettingsError and StateError.

    A relative SQLite file in `url_file` is relative to that file; in `url`, settings_file.py has made it absolute.
    """
    base = None if state.url_file is None else state.url_file.parent
    return await open_store(state_url(state), base=base, lease_seconds=state.lease_seconds, clock=clock)
