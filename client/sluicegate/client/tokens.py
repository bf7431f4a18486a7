"""Where a client's token comes from."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from sluicegate.client.errors import TokenUnavailable

MAX_TOKEN_BYTES = 16 << 10
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")


class TokenSource(Protocol):
    """Gives the token for each call. Used from one event loop."""

    async def token(self) -> str:
        """The token to send now. Raises TokenUnavailable."""
        ...

    def forget(self, token: str) -> None:
        """The server refused this token: do not offer it again if another can be had."""
        ...


def checked(token: object, origin: str) -> str:
    """The token, if it is one (RFC 6750 §2.1); else TokenUnavailable, whose text never has the value."""
    if not isinstance(token, str) or not token:
        raise TokenUnavailable(f"{origin} has no token")
    if len(token) > MAX_TOKEN_BYTES or not _BEARER.fullmatch(token):
        raise TokenUnavailable(f"{origin} has something else than a bearer token")
    return token


class StaticToken:
    """One token, given at the start. Raises TokenUnavailable at once if it cannot be a token."""

    def __init__(self, token: str) -> None:
        self._token = checked(token, "the static token")

    async def token(self) -> str:
        return self._token

    def forget(self, token: str) -> None:
        """Nothing: there is no other."""


class FileToken:
    """A token in a file, as Kubernetes projects them. Read for each call, so a change counts at once."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)

    async def token(self) -> str:
        return checked(_read(self._path), f"token file {self._path}")

    def forget(self, token: str) -> None:
        """Nothing: whoever writes the file replaces it."""


class CallableToken:
    """A token from a function, sync or async, asked for each call. A sync one runs in a thread."""

    def __init__(self, give: Callable[[], str] | Callable[[], Awaitable[str]]) -> None:
        self._give = give

    async def token(self) -> str:
        try:
            if inspect.iscoroutinefunction(self._give):
                given: object = await self._give()
            else:
                given = await asyncio.to_thread(self._give)
                if inspect.isawaitable(given):
                    given = await given
        except TokenUnavailable:
            raise
        except Exception as fault:
            raise TokenUnavailable(f"the token function failed: {fault.__class__.__name__}") from fault
        return checked(given, "the token function")

    def forget(self, token: str) -> None:
        """Nothing: the function decides what it gives next."""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOKEN_BYTES + 2).decode("ascii").strip()
    except OSError as fault:
        raise TokenUnavailable(f"token file {path} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError:
        # The decoder's own text would quote the file.
        raise TokenUnavailable(f"token file {path} has something else than a bearer token") from None
