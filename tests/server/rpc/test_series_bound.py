"""Nobody creates series by calling, whatever stands in a call or a token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import EVERY_SCOPE, LONG_SECONDS, METRICS, SMALL, Server, bearer, open_agreement, serving, until

from sluicegate.v1.access_service_pb2 import CheckAccessRequest
from sluicegate.v1.generation_service_pb2 import GenerateRequest, ScoreRequest, TokenizeRequest

AT_ONCE = 64


async def every(calls: Iterable[Any]) -> int:
    """Make all of these calls, some at a time; gives how many there were. None of them need be served."""
    waiting: list[Any] = []
    made = 0
    for call in calls:
        waiting.append(call)
        made += 1
        if len(waiting) == AT_ONCE:
            await asyncio.gather(*waiting, return_exceptions=True)
            waiting.clear()
    await asyncio.gather(*waiting, return_exceptions=True)
    return made


def series(samples: dict[str, float]) -> set[str]:
    """Names of what is ours: those of the process come and go with the platform."""
    return {name for name in samples if not name.startswith(("process_", "python_"))}


def hostile_requests(server: Server, count: int) -> Iterable[Any]:
    who = bearer(client_id="lab-app")
    for number in range(count):
        name = f'hostile-{number}"}} 1'
        ask = CheckAccessRequest(action="generate", model=f"m{number}", purpose=name)
        yield server.generation.Generate(GenerateRequest(model=name, text="a"), metadata=who, timeout=LONG_SECONDS)
        yield server.generation.Score(ScoreRequest(model=f"m{number}", text="a"), metadata=who, timeout=LONG_SECONDS)
        yield server.generation.Tokenize(
            TokenizeRequest(model=SMALL, text="a", purpose=f"p{number}"), metadata=who, timeout=LONG_SECONDS
        )
        yield server.access.CheckAccess(ask, metadata=who, timeout=LONG_SECONDS)
        for path in (f"/hostile.S{number}/M", f"/sluicegate.v1.GenerationService/M{number}"):
            method: Any = server.channel.unary_unary(path)
            yield method(b"", metadata=who, timeout=LONG_SECONDS)


def hostile_tokens(server: Server, count: int) -> Iterable[Any]:
    """Each of another client, and each names another agreement with another model."""
    for number in range(count):
        name = f"partner-{number}"
        claim = {"type": "model_partnership", "agreement": name, "models": [name], "purpose": name}
        who = bearer(
            client_id=name, sub=name, jti=name, scope=f"{EVERY_SCOPE} generate:{name}", authorization_details=[claim]
        )
        request = GenerateRequest(model=SMALL if number % 2 else name, text="a")
        yield server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


async def metrics_with_gates(server: Server) -> dict[str, float]:
    """The metrics once gates, which are judged a moment after the start, are in them."""
    found: dict[str, float] = {}

    async def are_there() -> bool:
        found.clear()
        found.update(await server.metrics())
        return any(name.startswith("sluicegate_gate_passed{") for name in found)

    await until(are_there)
    return found


async def test_hostile_calls_and_partners_in_tokens_create_no_series(tmp_path: Path) -> None:
    async with serving(tmp_path, None, [open_agreement()], metrics=METRICS, audit="off") as server:
        before = await metrics_with_gates(server)

        requests = await every(hostile_requests(server, 250))
        tokens = await every(hostile_tokens(server, 1_000))
        after = await server.metrics()

    assert (requests, tokens) == (1_500, 1_000)
    assert series(after) == series(before)
    assert after['sluicegate_label_overflow_total{label="model"}'] >= 250
    assert after['sluicegate_decisions_total{decision="denied",model="other",reason="AGREEMENT_UNKNOWN"}'] == 500
    assert after['sluicegate_denials_total{class="agreement",partner="public"}'] == 1_000
