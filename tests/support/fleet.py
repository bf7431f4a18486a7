"""Replicas of one deployment at addresses that are known beforehand, stopped, killed and started again by tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from deployment import Deployment
from real_server import RealServer, show_log

POLL_SECONDS = 0.2


class Replica:
    """One replica of a deployment through its lives, each with a log of its own. Its audit log goes on.

    `arguments` and `environment` are added to those of every life.
    """

    def __init__(
        self,
        deployment: Deployment,
        number: int,
        address: str,
        *arguments: str,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = f"gate-{number}"
        self.address = address
        self.lives: list[RealServer] = []
        self._deployment = deployment
        self._arguments = arguments
        self._environment = environment

    @property
    def server(self) -> RealServer:
        """Its present life, or the last one."""
        return self.lives[-1]

    @property
    def audit(self) -> Path:
        """The directory of its audit log."""
        return self._deployment.directory / f"audit-{self.name}"

    def start(self, *, at: str | None = None) -> None:
        """Start it, at another address if one is given; whoever needs its answers waits until it serves."""
        self.address = at or self.address
        own = ("--listen", self.address, "--replica", self.name, "--audit-directory", str(self.audit))
        log = f"{self.name}.{len(self.lives)}.log"
        server = RealServer(self._deployment, *own, *self._arguments, log=log, environment=self._environment)
        self.lives.append(server)


@contextmanager
def fleet(deployment: Deployment, addresses: Sequence[str]) -> Iterator[list[Replica]]:
    """A replica that takes calls at each address, ended with the context. Their state must be one to share."""
    found = [Replica(deployment, number, address) for number, address in enumerate(addresses)]
    with started(found):
        yield found


@contextmanager
def started(replicas: Sequence[Replica]) -> Iterator[None]:
    """Start replicas, which take calls from then on and are ended with the context."""
    try:
        for each in replicas:
            each.start()
        for each in replicas:
            each.server.wait_until_serving()
        yield
    except BaseException:
        for each in replicas:
            show_log(each.server)
        raise
    finally:
        for each in replicas:
            for life in each.lives:
                life.end()


@asynccontextmanager
async def supervised(replicas: Sequence[Replica]) -> AsyncIterator[None]:
    """Start each replica again that has ended, for whatever reason, while the context is open."""

    async def supervise() -> None:
        while True:
            for each in replicas:
                if not each.server.is_running:
                    each.start()
            await asyncio.sleep(POLL_SECONDS)

    task = asyncio.create_task(supervise())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
