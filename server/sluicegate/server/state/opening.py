"""Which store a URL means."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from sluicegate.server.state.errors import StoreUnsuitable
from sluicegate.server.state.redis import RedisBackend
from sluicegate.server.state.sqlite import SqliteBackend
from sluicegate.server.state.store import Store

LEASE_SECONDS = 30.0

_EXPECTED = "expected sqlite:///FILE, sqlite:////ABSOLUTE/FILE, redis://HOST:PORT/DB or rediss://HOST:PORT/DB"


async def open_store(
    url: str,
    *,
    base: Path | None = None,
    lease_seconds: float = LEASE_SECONDS,
    clock: Callable[[], float] | None = None,
    must_exist: bool = False,
) -> Store:
    """Open the store of a URL; close it afterwards.

    `sqlite:///state.db` is a file below `base` (by default the working directory), `sqlite:////var/lib/state.db` an
    absolute one, made if need be unless it `must_exist`. `clock` replaces the store's own clock for tests. Raises
    StoreUnsuitable for a store that the server must not start on, StateUnavailable for one that does not answer.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for one that is none
    except ValueError as error:
        raise StoreUnsuitable(f"not a URL of a state store: {_EXPECTED}") from error
    lease_ms = int(lease_seconds * 1000)
    if parts.scheme == "sqlite":
        file = (base or Path()) / _file_of(parts)
        if must_exist and not file.exists():
            raise StoreUnsuitable(f"{file}: no such file")
        return Store(await SqliteBackend.open(file, lease_ms, clock or time.time), lease_seconds=lease_seconds)
    if parts.scheme in ("redis", "rediss"):
        _check_redis(parts)
        return Store(await RedisBackend.open(url, lease_ms, clock), lease_seconds=lease_seconds)
    raise StoreUnsuitable(f"no state store is called {parts.scheme or 'nothing'}: {_EXPECTED}")


def _file_of(parts: SplitResult) -> Path:
    if parts.netloc:
        raise StoreUnsuitable(f"sqlite://{parts.netloc}…: two slashes name a host; {_EXPECTED}")
    if parts.query or parts.fragment:
        raise StoreUnsuitable("sqlite: a state file takes no options")
    path = unquote(parts.path).removeprefix("/")
    if path in ("", ":memory:") or path.endswith("/"):
        raise StoreUnsuitable("sqlite: name a file; withdrawals must outlive the process")
    return Path(path)


def _check_redis(parts: SplitResult) -> None:
    """redis-py takes any of its settings from the query, those that weaken TLS among them: allow none but the CA."""
    if not parts.hostname:
        raise StoreUnsuitable(f"{parts.scheme}: the host is missing; {_EXPECTED}")
    if not (parts.path.strip("/") or "0").isascii() or not (parts.path.strip("/") or "0").isdigit():
        raise StoreUnsuitable(f"{parts.scheme}: the path is the number of a database, as /0")
    options = {option.partition("=")[0] for option in parts.query.split("&") if option}
    if unknown := options - ({"ssl_ca_certs"} if parts.scheme == "rediss" else set()):
        raise StoreUnsuitable(
            f"{parts.scheme}: no such option: {', '.join(sorted(unknown))}; rediss:// takes ssl_ca_certs=FILE, no other"
        )
