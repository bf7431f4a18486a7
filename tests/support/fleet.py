"""Replicas of one deployment at addresses that are known beforehand, stopped, killed and started again by tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deployment import Deployment
from real_server import RealServer, show_log


class Replica:
    """One replica of a deployment through its lives, each with a log of its own. Its audit log goes on."""

    def __init__(self, deployment: Deployment, number: int, address: str) -> None:
        self.name = f"gate-{number}"
        self.address = address
        self.lives: list[RealServer] = []
        self._deployment = deployment

    @property
    def server(self) -> RealServer:
        """Its present life, or the last one."""
        return self.lives[-1]

    def start(self, *, at: str | None = None) -> None:
        """Start it, at another address if one is given; whoever needs its answers waits until it serves."""
        self.address = at or self.address
        audit = self._deployment.directory / f"audit-{self.name}"
        self.lives.append(
            RealServer(
                self._deployment,
                *("--listen", self.address, "--replica", self.name, "--audit-directory", str(audit)),
                log=f"{self.name}.{len(self.lives)}.log",
            )
        )


@contextmanager
def fleet(deployment: Deployment, addresses: Sequence[str]) -> Iterator[list[Replica]]:
    """A replica that takes calls at each address, ended with the context. Their state must be one to share."""
    found = [Replica(deployment, number, address) for number, address in enumerate(addresses)]
    try:
        for each in found:
            each.start()
        for each in found:
            each.server.wait_until_serving()
        yield found
    except BaseException:
        for each in found:
            for life in each.lives:
                show_log(life)
        raise
    finally:
        for each in found:
            for life in each.lives:
                life.end()
