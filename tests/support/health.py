"""Watches what a server's health says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING, NOT_SERVING = "SERVING", "NOT_SERVING"


@dataclass(slots=True)
class Watched:
    """The statuses of one service so far, the first one included."""

    statuses: list[str] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reach(self, *statuses: str) -> None:
        """Wait until exactly these have come."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.statuses) >= len(statuses))
        assert self.statuses == list(statuses)


@asynccontextmanager
async def watched(address: str, service: str, token: str | None = None) -> AsyncIterator[Watched]:
    """Watch a service's health while the context is open."""
    found = Watched()
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs know no method
        call = stub.Watch(health_pb2.HealthCheckRequest(service=service), metadata=metadata)
        task = asyncio.create_task(_take(call, found))
        try:
            async with asyncio.timeout(60):
                async with found.changed:
                    await found.changed.wait_for(lambda: found.statuses)
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _take(call: Any, found: Watched) -> None:
    async for response in call:
        async with found.changed:
            found.statuses.append(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
            found.changed.notify_all()
