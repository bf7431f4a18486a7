"""Priority through the wire: who goes first among one identity's own calls, and who may say so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness import LONG_SECONDS, SMALL, TOKENIZER, Server, bearer, demo_plan, open_agreement, sent, serving

from sluicegate.v1.access_service_pb2 import CheckAccessRequest
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, ScoreRequest, StreamGenerateRequest

ONE_SLOT = {SMALL: {"device": "cpu", "slots": 1}}
PUBLIC, PARTNER, INSIDER = bearer(), bearer(client_id="lab-app"), bearer(client_id="eval-team")
FIRST, SECOND, THIRD = "A", "B", "C"


def generate(server: Server, who: Any, priority: int, text: str = FIRST) -> Any:
    config = GenerationConfig(max_output_tokens=5)
    request = GenerateRequest(model=SMALL, text=text, config=config, priority=priority)
    return server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)


async def order_of(directory: Path, who: Any, *queued: tuple[str, int]) -> list[str]:
    """Texts with their priorities, sent one after the other while the only slot is taken: in which order they ran."""
    terms = [open_agreement(max_priority=5)]
    async with serving(directory, demo_plan(), terms, models=ONE_SLOT) as server:
        server.engine.pause_after(1)
        config = GenerationConfig(max_output_tokens=2)
        running: Any = server.generation.StreamGenerate(
            StreamGenerateRequest(model=SMALL, text="The", config=config), metadata=who, timeout=LONG_SECONDS
        )
        await running.read()
        waiting = []
        for number, (text, priority) in enumerate(queued, start=2):
            waiting.append(asyncio.ensure_future(generate(server, who, priority, text)))
            await sent(server, number)
        server.engine.resume()

        await asyncio.gather(*waiting)

        steps = server.engine.runners[SMALL].steps
        began = [chunk.ids[0] for step in steps for chunk in step if chunk.start == 0][1:]
        names = {TOKENIZER.encode(text)[0]: text for text, _ in queued}
        return [names[token] for token in began]


@pytest.mark.parametrize("who", [PARTNER, INSIDER], ids=["partner", "insider"])
async def test_of_ones_own_calls_the_higher_priority_goes_first(tmp_path: Path, who: Any) -> None:
    order = await order_of(tmp_path, who, (FIRST, 0), (SECOND, 2), (THIRD, 1))

    assert order == [SECOND, THIRD, FIRST]


async def test_anybody_may_put_a_call_behind_its_own(tmp_path: Path) -> None:
    assert await order_of(tmp_path, PUBLIC, (FIRST, -1), (SECOND, 0)) == [SECOND, FIRST]


async def test_the_public_cannot_put_one_in_front(tmp_path: Path) -> None:
    assert await order_of(tmp_path, PUBLIC, (FIRST, 0), (SECOND, 10)) == [FIRST, SECOND]


async def test_what_is_above_the_agreement_s_highest_counts_as_that(tmp_path: Path) -> None:
    assert await order_of(tmp_path, PARTNER, (FIRST, 5), (SECOND, 10), (THIRD, 5)) == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize(
    ("who", "asked", "counts"),
    [
        pytest.param(PUBLIC, 10, 0, id="public"),
        pytest.param(PUBLIC, -3, -3, id="public, lower"),
        pytest.param(PARTNER, 10, 5, id="partner"),
        pytest.param(PARTNER, 4, 4, id="partner, within"),
        pytest.param(INSIDER, 10, 10, id="insider"),
    ],
)
async def test_the_caller_is_told_the_priority_that_counts(tmp_path: Path, who: Any, asked: int, counts: int) -> None:
    async with serving(tmp_path, demo_plan(), [open_agreement(max_priority=5)]) as server:
        server.engine.say("The end.")
        stream: Any = server.generation.StreamGenerate(
            StreamGenerateRequest(model=SMALL, text="The", priority=asked), metadata=who, timeout=LONG_SECONDS
        )
        score: Any = server.generation.Score(
            ScoreRequest(model=SMALL, text="The", priority=asked), metadata=who, timeout=LONG_SECONDS
        )

        generated = (await generate(server, who, asked)).started.priority
        streamed = (await stream.read()).started.priority
        scored = (await score).started.priority

        assert (generated, streamed, scored) == (counts, counts, counts)


@pytest.mark.parametrize(
    ("who", "highest"), [(PUBLIC, 0), (PARTNER, 5), (INSIDER, 10)], ids=["public", "partner", "insider"]
)
async def test_a_check_tells_the_highest_that_would_count(tmp_path: Path, who: Any, highest: int) -> None:
    async with serving(tmp_path, demo_plan(), [open_agreement(max_priority=5)]) as server:
        request = CheckAccessRequest(action="generate", model=SMALL)

        answer = await server.access.CheckAccess(request, metadata=who, timeout=LONG_SECONDS)

        assert answer.max_priority == highest
