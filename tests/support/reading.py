"""Reads streams of a real server to their ends, whatever these are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sluicegate.client import (
    CallError,
    Client,
    Delta,
    Finished,
    FinishReason,
    GenerationConfig,
    GenerationStream,
    StreamOptions,
    Usage,
)

LONGEST_SECONDS = 600.0


@dataclass(slots=True)
class Read:
    """One stream: what has come, and how it ended: with a finish reason or an error. `begun` is set at a token."""

    tokens: list[int] = field(default_factory=list)
    finishes: list[FinishReason] = field(default_factory=list)
    error: CallError | None = None
    usage: Usage | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def ended(self) -> None:
        """Wait for the end."""
        assert self.task is not None
        await self.task


def start_reading(client: Client, model: str, *, tokens: int, seed: int = 1, prompt: str = "It was") -> Read:
    """Read a stream of exactly so many tokens in a task of its own."""
    config = GenerationConfig(max_output_tokens=tokens, ignore_eos=True, seed=seed)
    options = StreamOptions(include_tokens=True)
    read = Read()
    read.task = asyncio.create_task(
        _read(client.stream(model, prompt, config, options=options, timeout=LONGEST_SECONDS), read)
    )
    return read


async def _read(opened: GenerationStream, read: Read) -> None:
    async with opened as stream:
        try:
            async for event in stream:
                match event:
                    case Delta():
                        read.tokens += [token.id for token in event.tokens]
                        read.begun.set()
                    case Finished():
                        read.finishes.append(event.finish_reason)
                    case _:
                        pass
        except CallError as error:
            read.error = error
        read.usage = stream.usage
