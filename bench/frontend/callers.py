"""Callers that do as little as they can for each message: what is measured is the server."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import grpc

from bench.figures import quantile
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import (
    GenerateRequest,
    GenerateResponse,
    StreamGenerateRequest,
    StreamGenerateResponse,
)

CONNECTIONS = 8
PROMPT = "It was late when the last of the boats came in."


class Kind(Enum):
    """What a caller asks for, again and again."""

    UNARY = "callers of Generate"
    SHORT = "callers of StreamGenerate, a token each"
    LONG = "streams"


@dataclass(slots=True)
class Counts:
    """What callers have got since they were last asked. A message is one of a stream, or an answer."""

    calls: int = 0
    messages: int = 0
    tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    """Seconds between two messages of a stream."""

    def take(self) -> Counts:
        """What was counted; counting begins anew."""
        taken = Counts(self.calls, self.messages, self.tokens, self.gaps)
        self.calls = self.messages = self.tokens = 0
        self.gaps = []
        return taken

    def gap_quantiles(self) -> tuple[float, float]:
        """The median and the 99th hundredth, in milliseconds."""
        ordered = sorted(self.gaps) or [0.0]
        return quantile(ordered, 0.5) * 1e3, quantile(ordered, 0.99) * 1e3


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Connections, each of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            for _ in range(CONNECTIONS)
        ]
        for channel in channels:
            await channel.channel_ready()
        yield channels


async def work(channel: grpc.aio.Channel, kind: Kind, counts: Counts, *, model: str, tokens: int, token: str) -> None:
    """Call until cancelled. Raises grpc.aio.AioRpcError: nothing is to be refused."""
    metadata = (("authorization", f"Bearer {token}"),)
    config = GenerationConfig(max_output_tokens=tokens, ignore_eos=True)
    service = "/sluicegate.v1.GenerationService"
    if kind is Kind.UNARY:
        request = GenerateRequest(model=model, text=PROMPT, config=config).SerializeToString()
        generate: Any = channel.unary_unary(f"{service}/Generate", response_deserializer=GenerateResponse.FromString)
        while True:
            answer = await generate(request, metadata=metadata)
            counts.calls += 1
            counts.messages += 1
            counts.tokens += answer.usage.output_tokens
    request = StreamGenerateRequest(model=model, text=PROMPT, config=config).SerializeToString()
    stream: Any = channel.unary_stream(
        f"{service}/StreamGenerate", response_deserializer=StreamGenerateResponse.FromString
    )
    while True:
        call, seen, last = stream(request, metadata=metadata), 0, 0.0
        while (message := await call.read()) is not grpc.aio.EOF:
            now = time.perf_counter()
            if last:
                counts.gaps.append(now - last)
            counts.messages += 1
            counts.tokens += message.usage.output_tokens - seen
            seen, last = message.usage.output_tokens, now
        counts.calls += 1
