"""Prefix reuse through the wire: whose prompts may start from whose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import LONG_SECONDS, SMALL, Server, bearer, demo_plan, open_agreement, serving

from sluicegate.v1.generation_pb2 import GenerationConfig, TokenIds
from sluicegate.v1.generation_service_pb2 import GenerateRequest

PROMPT = range(1, 41)
PARTNER, COLLEAGUE = bearer(client_id="lab-app"), bearer(client_id="lab-app", sub="another")
CLIENT, INSIDER = bearer(), bearer(client_id="eval-team")


async def generate(server: Server, who: Any) -> int:
    """Send the prompt; gives the usage that the caller is told of it."""
    request = GenerateRequest(model=SMALL, token_ids=TokenIds(ids=PROMPT), config=GenerationConfig(max_output_tokens=2))
    answer = await server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)
    return answer.usage.prompt_tokens


async def starts(directory: Path, *callers: Any, **model: Any) -> list[int]:
    """Where the engine began to read, when these send the same prompt one after the other."""
    models = {SMALL: {"device": "cpu", "slots": 4, **model}}
    async with serving(directory, demo_plan(), [open_agreement()], models=models) as server:
        for who in callers:
            assert await generate(server, who) == len(PROMPT)
        return [
            chunk.start for step in server.engine.runners[SMALL].steps for chunk in step if chunk.start < len(PROMPT)
        ]


@pytest.mark.parametrize(
    "pair",
    [(PARTNER, PARTNER), (PARTNER, COLLEAGUE), (CLIENT, CLIENT)],
    ids=["a partner", "one agreement", "a client"],
)
async def test_a_prompt_starts_from_an_earlier_one_of_its_identity(tmp_path: Path, pair: tuple[Any, Any]) -> None:
    assert await starts(tmp_path, *pair) == [0, len(PROMPT) - 1]


async def test_nobody_s_prompt_starts_from_another_s(tmp_path: Path) -> None:
    assert await starts(tmp_path, PARTNER, CLIENT, INSIDER) == [0, 0, 0]


async def test_it_can_be_turned_off(tmp_path: Path) -> None:
    assert await starts(tmp_path, PARTNER, PARTNER, prefix_reuse=False) == [0, 0]
