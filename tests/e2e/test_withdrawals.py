"""An operator with grpcurl closes a model, and opens it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import EVAL_TEAM, Deployment
from foreign import GRPCURL, bearer, json_values, run
from real_server import RealServer, real_server, until

from sluicegate.client import AccessDenied, Client, GenerationConfig

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVICE = "sluicegate.v1.WithdrawalService"
BRIEF, LONG = GenerationConfig(max_output_tokens=3), GenerationConfig(max_output_tokens=1_000, ignore_eos=True)
STREAMS = 24  # three times the slots of the model


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    with real_server(Deployment(tmp_path / "files")) as running:
        yield running


async def operate(server: RealServer, method: str, request: dict[str, Any]) -> dict[str, Any]:
    """Call a method of the service as an operator."""
    token = bearer(server.token(EVAL_TEAM, scopes=("release:withdraw",)))
    arguments = ("-plaintext", "-H", token, "-d", json.dumps(request), server.address, f"{SERVICE}/{method}")
    done = await asyncio.to_thread(run, GRPCURL, *arguments)
    assert done.returncode == 0, done.stderr
    (answer,) = json_values(done.stdout)
    return dict(answer)


async def test_a_withdrawn_model_ends_running_calls_and_refuses_new_ones_until_it_is_lifted(server: RealServer) -> None:
    async with Client(server.address, token=server.token()) as client:
        calls = [asyncio.create_task(client.generate("demo-xs", "It was", LONG)) for _ in range(STREAMS)]
        await until("streams run", lambda: server.metric("sluicegate_engine_sequences_running") > 0)

        closing = {"target": {"model": "demo-xs"}, "justification": "Misuse is being looked into."}
        created = (await operate(server, "CreateWithdrawal", closing))["withdrawal"]

        ends = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [end for end in ends if isinstance(end, AccessDenied)]
        assert {refusal.reason for refusal in refusals} == {"MODEL_WITHDRAWN"}
        assert len(refusals) == sum(isinstance(end, BaseException) for end in ends)
        with pytest.raises(AccessDenied) as refused:
            await client.generate("demo-xs", "It was", BRIEF)
        assert refused.value.reason == "MODEL_WITHDRAWN"
        (listed,) = (await operate(server, "ListWithdrawals", {}))["withdrawals"]
        assert listed == created

        await operate(server, "LiftWithdrawal", {"id": created["id"], "justification": "It was a mistake."})

        assert (await client.generate("demo-xs", "It was", BRIEF)).started.model == "demo-xs"
