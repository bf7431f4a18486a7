"""Short ways to ask an engine for something and to read its answer."""

from __future__ import annotations

from sluicegate.server.engine.client import EngineStream
from sluicegate.server.engine.messages import Event, Sampling, Submit, Token


def submission(
    request: str = "a", *, model: str = "scripted", prompt: tuple[int, ...] = (5, 6, 7), tokens: int = 3
) -> Submit:
    """A generation of so many tokens."""
    return Submit(request=request, model=model, prompt=list(prompt), sampling=Sampling(max_output_tokens=tokens))


async def read(stream: EngineStream) -> list[Event]:
    """All of a stream's events."""
    return [event async for events in stream for event in events]


async def read_token(stream: EngineStream) -> None:
    """Read until a token has come."""
    while not any(isinstance(event, Token) for event in await stream.next()):
        assert not stream.is_over


def ids(events: list[Event]) -> list[int]:
    """The tokens among events."""
    return [event.id for event in events if isinstance(event, Token)]
