"""A network namespace that this machine reaches by several links, each of which can be cut. Only root may make one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Links:
    """The links to a network namespace, numbered from 0. Addresses are of the range for benchmarks (RFC 2544)."""

    def __init__(self, name: str, count: int) -> None:
        self.within = ("ip", "netns", "exec", name)
        """What a command stands behind to run in the namespace."""
        self.addresses = [f"198.18.{number}.2" for number in range(count)]
        """Of the namespace, by each link."""
        self._name = name

    def open(self) -> None:
        """Make the namespace and its links."""
        _ip("netns", "add", self._name)
        for number, address in enumerate(self.addresses):
            here, there = f"{self._name}-{number}", f"far-{number}"
            _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", self._name)
            _ip("address", "add", f"198.18.{number}.1/30", "dev", here)
            _ip("link", "set", here, "up")
            _ip("-n", self._name, "address", "add", f"{address}/30", "dev", there)
            self.mend([number])

    def close(self) -> None:
        """Remove the namespace, and the links with it."""
        _ip("netns", "delete", self._name)

    def cut(self, links: Sequence[int]) -> None:
        """From now on what is sent over these links, either way, is lost without a word."""
        for number in links:
            _ip("-n", self._name, "link", "set", f"far-{number}", "down")

    def mend(self, links: Sequence[int]) -> None:
        """Let them carry again."""
        for number in links:
            _ip("-n", self._name, "link", "set", f"far-{number}", "up")


@contextmanager
def links(count: int) -> Iterator[Links]:
    """Links to a namespace of this process, which is removed with the context."""
    found = Links(f"gate{os.getpid()}", count)
    found.open()
    try:
        yield found
    finally:
        found.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
