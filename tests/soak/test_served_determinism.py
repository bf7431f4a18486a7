"""The same request alone and among others, from one end of the server to the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from deployment import DEMO_MODELS, Deployment, Hosted
from real_server import RealServer, real_server

from sluicegate.client import Client, GenerationConfig

Show = Callable[[str], None]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]

OTHERS = 32
TEXTS = 20
TOKENS = 64
PROMPT = "It was a truth"
SETTINGS = (
    GenerationConfig(temperature=0),
    GenerationConfig(temperature=1),
    GenerationConfig(temperature=0.8, top_k=40),
    GenerationConfig(top_p=0.9),
)

# A rounding of about 1e-5 turns a draw around about once in 1e5 tokens (see test_determinism.py), so one text in
# some eighty runs of this test.
DIFFERENT_AT_MOST = 1


@pytest.fixture(params=["demo-xs", "demo-s"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealServer]:
    models = {request.param: Hosted(directory=DEMO_MODELS / request.param, slots=OTHERS + 1)}
    with real_server(Deployment(tmp_path / "files", models)) as running:
        yield running


async def test_a_text_is_the_same_alone_and_among_others(server: RealServer, show: Show) -> None:
    (model,) = server.deployment.models
    draws = random.Random(7)
    async with Client(server.address, token=server.token(), timeout=600) as client:
        assert (await client.model(model)).dtype == "float32"

        async def text(seed: int, settings: GenerationConfig, prompt: str = PROMPT, tokens: int = TOKENS) -> str:
            config = replace(settings, seed=seed, max_output_tokens=tokens, ignore_eos=True)
            return (await client.generate(model, prompt, config)).text

        alone = [await text(seed, SETTINGS[seed % len(SETTINGS)]) for seed in range(TEXTS)]
        in_company = []
        for seed in range(TEXTS):
            others = [
                asyncio.create_task(
                    text(
                        draws.getrandbits(32),
                        draws.choice(SETTINGS),
                        prompt=PROMPT * draws.randint(1, 30),
                        tokens=draws.randint(20, 200),
                    )
                )
                for _ in range(OTHERS)
            ]
            in_company.append(await text(seed, SETTINGS[seed % len(SETTINGS)]))
            await asyncio.gather(*others)
        rows = server.metrics()

    mean_rows = rows.total("sluicegate_engine_batch_size_sum") / rows.total("sluicegate_engine_batch_size_count")
    different = sum(one != other for one, other in zip(alone, in_company, strict=True))
    show(f"{TEXTS} texts of {TOKENS} tokens, {different} of them different; {mean_rows:.1f} sequences in a batch")
    assert len(set(alone)) > TEXTS // 2
    assert different <= DIFFERENT_AT_MOST
