"""The metrics endpoint as Prometheus' own tools read it."""

from __future__ import annotations

import pytest
from foreign import run
from real_server import RealServer, Scrape

from sluicegate.client import AccessDenied, Client, GenerationConfig

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_promtool_has_nothing_to_say_about_the_metrics(server: RealServer) -> None:
    async with Client(server.address, token=server.token()) as client:
        await client.generate("demo-xs", "It was", GenerationConfig(max_output_tokens=3))
        with pytest.raises(AccessDenied):
            await client.generate("demo-next", "It was")

    checked = run("promtool", "check", "metrics", stdin=server.metrics_text())

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_a_generation_moves_the_metrics_by_what_it_was(server: RealServer) -> None:
    before = server.metrics()

    async with Client(server.address, token=server.token()) as client:
        await client.generate("demo-xs", "It was", GenerationConfig(max_output_tokens=5, ignore_eos=True))
        with pytest.raises(AccessDenied):
            await client.generate("demo-next", "It was")

    after = server.metrics()
    assert moved(before, after, "sluicegate_requests_total", partner="public", model="demo-xs", action="generate") == 1
    assert moved(before, after, "sluicegate_tokens_total", model="demo-xs", direction="input") == 2
    assert moved(before, after, "sluicegate_tokens_total", model="demo-xs", direction="output") == 5
    assert moved(before, after, "sluicegate_decisions_total", reason="MODEL_NOT_RELEASED", model="demo-next") == 1
    assert moved(before, after, "grpc_server_handled_total", grpc_method="Generate", grpc_code="OK") == 1
    assert moved(before, after, "grpc_server_handled_total", grpc_method="Generate", grpc_code="PERMISSION_DENIED") == 1
    assert moved(before, after, "gen_ai_server_time_to_first_token_seconds_count", gen_ai_request_model="demo-xs") == 1


def moved(before: Scrape, after: Scrape, name: str, **labels: str) -> float:
    """By how much a metric has grown."""
    return after.total(name, **labels) - before.total(name, **labels)
