"""One caller's flood through the wire: counted in admissions, not in seconds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from harness import LONG_SECONDS, SMALL, TOKENIZER, Refusal, Server, bearer, refusal, sent, serving, until

from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, StreamGenerateRequest

SLOTS = 4
FLOOD = 300
FLOODS_TEXT, CALM_TEXT = "The", "A"
(CALM_TOKEN,) = TOKENIZER.encode(CALM_TEXT)
MODELS = {SMALL: {"device": "cpu", "slots": SLOTS}}


def generate(server: Server, client: str, text: str) -> Any:
    request = GenerateRequest(model=SMALL, text=text, config=GenerationConfig(max_output_tokens=5))
    return server.generation.Generate(request, metadata=bearer(client_id=client), timeout=LONG_SECONDS)


async def stands_still(server: Server) -> bool:
    """Whether the engine waits in its second step: it takes no commands until it goes on."""
    return len(server.engine.runners[SMALL].steps) == 2


def admitted(server: Server) -> list[int]:
    """The prompts' first tokens, in the order in which the engine began to read them."""
    return [chunk.ids[0] for step in server.engine.runners[SMALL].steps for chunk in step if chunk.start == 0]


async def test_single_requests_get_their_slots_in_the_middle_of_anothers_flood(tmp_path: Path) -> None:
    limits = {"queued_requests": 4 * FLOOD}
    async with serving(tmp_path, models=MODELS, limits=limits, audit="off") as server:
        server.engine.pause_after(1)
        flood = [asyncio.ensure_future(generate(server, "flood", FLOODS_TEXT))]
        await until(lambda: stands_still(server))
        before = len(admitted(server))
        flood += [asyncio.ensure_future(generate(server, "flood", FLOODS_TEXT)) for _ in range(FLOOD - 1)]
        await sent(server, FLOOD)
        calm = [asyncio.ensure_future(generate(server, "calm", CALM_TEXT)) for _ in range(3)]
        await sent(server, FLOOD + len(calm))
        server.engine.resume()

        await asyncio.gather(*calm, *flood)

        order = admitted(server)
        assert len(order) == FLOOD + len(calm)
        assert [place for place, token in enumerate(order[before:]) if token == CALM_TOKEN] == [0, 2, 4]


async def test_a_flood_is_turned_away_before_it_fills_the_queue_for_everybody(tmp_path: Path) -> None:
    models, limits = {SMALL: {"device": "cpu", "slots": 1}}, {"queued_requests": 16, "queued_share": 0.25}
    async with serving(tmp_path, models=models, limits=limits) as server:
        server.engine.pause_after(1)
        running = server.generation.StreamGenerate(
            StreamGenerateRequest(model=SMALL, text=FLOODS_TEXT), metadata=bearer(client_id="flood")
        )
        await running.read()
        flood = {asyncio.ensure_future(refusal(generate(server, "flood", FLOODS_TEXT))) for _ in range(16)}
        await until(lambda: are_done(flood, 12))

        calm = asyncio.ensure_future(generate(server, "calm", CALM_TEXT))
        running.cancel()
        server.engine.resume()

        assert (await calm).usage.output_tokens == 5
        answers = await asyncio.gather(*flood, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Refusal)]
        assert [(answer.verdict, answer.retry_after) for answer in refused] == [
            ("UNAVAILABLE SERVER_OVERLOADED", 1.0)
        ] * 12


async def are_done(calls: set[asyncio.Task[Refusal]], number: int) -> bool:
    return sum(call.done() for call in calls) == number
