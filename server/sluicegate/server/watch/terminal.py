"""Keys and signals that end watching, and the terminal as it was before."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_QUIT = frozenset(b"qQ\x04")
"""q, and Ctrl-D."""


class Ending:
    """Whether watching is to end, and by what."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.by_signal: int | None = None

    def ask(self, number: int | None = None) -> None:
        """End it; `number` is that of a signal, None a wish."""
        if not self._asked.is_set():
            self.by_signal = number
        self._asked.set()

    async def within(self, seconds: float) -> bool:
        """Wait so long for the end; gives whether it has come."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._asked.wait()
        except TimeoutError:
            pass
        return self._asked.is_set()

    async def unless(self, work: Coroutine[None, None, None]) -> bool:
        """Do the work, or drop it once the end has come; gives whether it has. Raises what the work raises."""
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(self._asked.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._asked.is_set()


@contextmanager
def listening() -> Iterator[Ending]:
    """Hear signals while the context is open, each of which ends it in order. In an event loop."""
    ending, loop = Ending(), asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, ending.ask, number)
    try:
        yield ending
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def keys(ending: Ending) -> Iterator[None]:
    """Hear keys too, without Enter and unseen, if standard input is a terminal, which is left as it was."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()

    def read() -> None:
        pressed = os.read(descriptor, 64)
        if not pressed or _QUIT & set(pressed):
            ending.ask()

    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)  # Ctrl-C stays a signal
        loop.add_reader(descriptor, read)
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
