"""Pages of a list (AIP-158): the page token is the key of the last item shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sluicegate.auth import Reason
from sluicegate.server.errors import CallRefused, FieldViolation

LARGEST_PAGE = 100
DEFAULT_PAGE = 50

Item = TypeVar("Item")


def page(items: Sequence[Item], key: Callable[[Item], str], size: int, token: str) -> tuple[Sequence[Item], str]:
    """A page of the items and the token of the next one; "" where there is none.

    Raises CallRefused for a token that this caller could not have got.
    """
    first = 0
    if token:
        keys = [key(item) for item in items]
        if token not in keys:
            raise foreign_token()
        first = keys.index(token) + 1
    last = first + min(size or DEFAULT_PAGE, LARGEST_PAGE)
    shown = items[first:last]
    return shown, key(shown[-1]) if shown and last < len(items) else ""


def page_after(items: Sequence[Item], key: Callable[[Item], str], size: int, token: str) -> tuple[Sequence[Item], str]:
    """The same of items that come and go, in the order of their keys: the one that the token names may be gone."""
    rest = [item for item in items if key(item) > token]
    shown = rest[: min(size or DEFAULT_PAGE, LARGEST_PAGE)]
    return shown, key(shown[-1]) if len(shown) < len(rest) else ""


def foreign_token() -> CallRefused:
    """The refusal of a page token that this caller could not have got."""
    rule = "is a `next_page_token` of this caller; begin again without one"
    return CallRefused(Reason.REQUEST_INVALID, violations=[FieldViolation("page_token", rule)])
