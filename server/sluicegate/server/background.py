"""What runs in the background for as long as the server does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Protocol


class Keep(Protocol):
    """Runs a task until the server stops. If it ends by itself before, the server drains and exits."""

    def __call__(self, work: Callable[[], Coroutine[object, object, None]], name: str) -> None: ...
