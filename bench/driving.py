"""Ask an engine or a server for all of a piece of work at once, and note when each token came."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.work import Request
from sluicegate.client import Client, Delta, GenerationConfig, StreamOptions
from sluicegate.server.engine.messages import Figures, Load, Sampling, Submit, Token
from sluicegate.server.engine.process import process_launcher
from sluicegate.server.engine.supervisor import Engine

MODEL = "bench"
STEP_TOKENS = 256
"""The server's default."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request got. `arrivals`: for each token, seconds from the moment when all were asked."""

    ids: list[int]
    arrivals: list[float]


class Steps:
    """The engine's own figures of its steps, newest last."""

    def __init__(self) -> None:
        self.taken: list[Figures] = []

    def __call__(self, figures: Figures) -> None:
        if figures.batch_rows:
            self.taken.append(figures)


@asynccontextmanager
async def running_engine(
    checkpoint: Path,
    *,
    dtype: str,
    slots: int,
    threads: int | None = None,
    step_tokens: int = STEP_TOKENS,
    steps: Steps | None = None,
) -> AsyncIterator[Engine]:
    """The engine alone: its process with one model, over ZeroMQ. Raises ModelLoadError, EngineLost."""
    load = Load(
        model=MODEL,
        directory=str(checkpoint),
        weights_sha256=None,
        device="cpu",
        dtype=dtype,
        slots=slots,
        step_tokens=step_tokens,
    )
    arguments = ["--log-level", "warning", *(() if threads is None else ("--threads", str(threads)))]
    async with Engine([load], process_launcher(arguments=arguments), on_figures=steps) as engine:
        yield engine


async def ask_engine(engine: Engine, work: Sequence[Request]) -> list[Answer]:
    """All requests at once; each gets the tokens that it asks for, or AssertionError."""
    begun = time.perf_counter()
    return await asyncio.gather(*(engine_stream(engine, request, begun) for request in work))


async def engine_stream(engine: Engine, request: Request, begun: float) -> Answer:
    """One request's tokens."""
    sampling = Sampling(temperature=0, ignore_eos=True, max_output_tokens=request.output)
    message = Submit(request=uuid.uuid4().hex, model=MODEL, prompt=request.prompt, sampling=sampling)
    answer = Answer([], [])
    async with await engine.submit(message) as stream:
        async for events in stream:
            now = time.perf_counter() - begun
            for event in events:
                if isinstance(event, Token):
                    answer.ids.append(event.id)
                    answer.arrivals.append(now)
    assert len(answer.ids) == request.output, "the engine ended a request early"
    return answer


async def ask_server(client: Client, model: str, work: Sequence[Request]) -> list[Answer]:
    """All requests at once, each a stream over gRPC. Raises the client's errors."""
    begun = time.perf_counter()
    return await asyncio.gather(*(server_stream(client, model, request, begun) for request in work))


async def server_stream(
    client: Client, model: str, request: Request, begun: float, *, cancel_after: int | None = None
) -> Answer:
    """One request's stream over gRPC; cancelled once `cancel_after` tokens have come."""
    config = GenerationConfig(temperature=0, ignore_eos=True, max_output_tokens=request.output)
    answer = Answer([], [])
    async with client.stream(model, request.prompt, config, options=StreamOptions(include_tokens=True)) as events:
        async for event in events:
            if isinstance(event, Delta):
                now = time.perf_counter() - begun
                answer.ids.extend(token.id for token in event.tokens)
                answer.arrivals.extend(now for _ in event.tokens)
                if cancel_after is not None and len(answer.ids) >= cancel_after:
                    break
    return answer
