"""The C++ kernels in a real server: built at its start, and the same tokens in any company."""

from __future__ import annotations

import asyncio

import pytest
from real_server import RealServer

from sluicegate.client import Client, GenerationConfig
from sluicegate.server.gpt2.kernels.processor import usable_tiers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_engine_says_which_instructions_it_uses(server: RealServer) -> None:
    tiers = [tier.name for tier in usable_tiers()]

    found = [entry["instructions"] for entry in server.events("kernels_ready")]

    assert set(found) == set(tiers[:1])
    assert len(server.events("kernels_unavailable")) == (0 if tiers else 1)


async def test_seed_gives_the_same_text_alone_and_in_a_crowd(server: RealServer) -> None:
    async with Client(server.address, token=server.token()) as client:

        async def write(seed: int) -> str:
            config = GenerationConfig(max_output_tokens=48, seed=seed, ignore_eos=True)
            return (await client.generate("demo-xs", "The morning " * (1 + seed % 5), config)).text

        alone = [await write(seed) for seed in range(12)]
        crowd = await asyncio.gather(*(write(seed) for seed in range(12)))

    assert list(crowd) == alone
    assert len(set(alone)) == 12
