"""The decision table of tests/auth, asked through the wire: by calls, and by CheckAccess without making them.

Left out are the cases that no call can put: a method for partners only and an action that there is not (no such method
is served), a peer without an address or written as IPv6.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from certificates import Authority
from harness import (
    EVERY_SCOPE,
    LONG_SECONDS,
    MODELS,
    Refusal,
    Server,
    bearer,
    demo_plan,
    refusal,
    serving,
    tls_credentials,
    tls_settings,
)
from issuer import KEY, NOW
from operators import with_closed
from policies import agreement

from sluicegate.auth import certificate_thumbprint
from sluicegate.server.watermark import create_key
from sluicegate.v1.access_service_pb2 import CheckAccessRequest
from sluicegate.v1.generation_pb2 import GenerationConfig, Started
from sluicegate.v1.generation_service_pb2 import GenerateRequest, ScoreRequest
from sluicegate.v1.reason_pb2 import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLE = yaml.safe_load((Path(__file__).parents[2] / "auth/decision_table.yaml").read_text())
ASKED_TOKENS = 700
NOT_EVEN_TOLD = {"TOKEN_MISSING", "TOKEN_WITHDRAWN", "CALLER_WITHDRAWN"}
"""Rows 2 and 9: who is not let in gets no answer from CheckAccess either."""
Case = Mapping[str, Any]


def can_be_put(case: Case) -> bool:
    address = case.get("peer", {}).get("address", "")
    is_reachable = address is not None and not address.startswith("::")
    return is_reachable and "partner_only" not in case.get("request", {}) and not case["what"].startswith("train")


CASES = [case for case in TABLE["cases"] if can_be_put(case)]


class Servers:
    """One server for each policy that the table has, started when it is first asked for."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._authority = Authority(directory)
        self._keys = directory / "watermark-keys"
        self._keys.mkdir()
        for model in MODELS:
            create_key(self._keys, model)
        self._credentials = tls_credentials(self._authority, "client.example")
        self._started: dict[str, Server] = {}
        self.thumbprint = certificate_thumbprint((directory / "client.example.pem").read_bytes())

    async def of(self, case: Case) -> Server:
        # Calls come from 127.0.0.1: that is in the agreement's network, or the case wants it to be outside.
        networks = {} if "peer" in case else {"networks": ["127.0.0.0/8"]}
        terms = agreement(**{**networks, **case.get("agreement", {})})
        plan_changes = dict(case.get("policy", {}))
        serves_anonymous = plan_changes.pop("serves_anonymous", False)
        watermarks = plan_changes.pop("watermarks", {})
        plan = demo_plan(**plan_changes)
        for model, term in watermarks.items():
            plan["models"][model]["watermark"] = term
        if serves_anonymous:
            plan["public"] |= {"anonymous": "serve", "anonymous_quotas": {"output_tokens_per_call": 64}}
        key = json.dumps([plan, terms])
        if key not in self._started:
            directory = self._directory / str(len(self._started))
            directory.mkdir()
            starting = serving(
                directory,
                plan,
                [terms],
                credentials=self._credentials,
                tls=tls_settings(self._authority, with_clients=True),
                models={model: {"device": "cpu", "slots": 1} for model in MODELS},
                watermark={"keys": str(self._keys)},
            )
            self._started[key] = await self._stack.enter_async_context(starting)
            self._started[key].engine.say("The end.")
        server = self._started[key]
        server.clock.now = moment(case)
        return server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        yield Servers(tmp_path_factory.mktemp("servers"), stack)


def moment(case: Case) -> float:
    return datetime.fromisoformat(case["at"]).timestamp() if "at" in case else NOW


def metadata(case: Case, thumbprint: str) -> tuple[tuple[str, str], ...]:
    """The token of the case's caller."""
    facts = {**TABLE["everyone"][case["who"]], **case.get("token", {})}
    if facts.get("anonymous"):
        return ()
    now = int(moment(case))
    ago = facts.get("authenticated_ago")
    details = None
    if facts.get("claims") is not None:
        details = [{"type": "model_partnership", "agreement": "agr-example-lab", **facts["claims"]}]
    return bearer(
        client_id=facts["client"],
        scope=facts.get("scopes", EVERY_SCOPE),
        authorization_details=details,
        iat=now,
        exp=now + facts.get("lifetime", 900),
        auth_time=now - ago if ago is not None else None,
        acr=facts.get("acr"),
        cnf={"x5t#S256": thumbprint} if facts.get("bound") else None,
    )


async def call(server: Server, case: Case, caller: tuple[tuple[str, str], ...]) -> Started | Refusal:
    """Make the case's call; gives what it ran under, or its refusal."""
    action, model = case["what"].split()
    asked = case.get("request", {})
    purpose = asked.get("purpose", "human-susceptibility") or ""
    if action == "score":
        score = server.generation.Score(
            ScoreRequest(model=model, text="The end.", purpose=purpose), metadata=caller, timeout=LONG_SECONDS
        )
        return await refusal(score) if not case["then"].startswith("granted") else (await score).started
    config = GenerationConfig(max_output_tokens=ASKED_TOKENS, response_logprobs=asked.get("logprobs", False))
    if asked.get("greedy"):
        config.temperature = 0
    request = GenerateRequest(
        model=model, text="The", config=config, purpose=purpose, include_tokens=asked.get("token_bytes", False)
    )
    generate = server.generation.Generate(request, metadata=caller, timeout=LONG_SECONDS)
    return await refusal(generate) if not case["then"].startswith("granted") else (await generate).started


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_a_call_ends_as_the_table_says(servers: Servers, case: Case) -> None:
    server = await servers.of(case)

    async with with_closed(server, case.get("withdrawn", {}), KEY.key_id):
        outcome = await call(server, case, metadata(case, servers.thumbprint))

    if isinstance(outcome, Refusal):
        assert outcome.verdict == case["then"]
        assert outcome.facts == case.get("facts", {})
        assert outcome.details == ("ErrorInfo", "RequestInfo")
        assert outcome.pushback is None
        return
    partner = case["then"].removeprefix("granted as ")
    assert outcome.agreement == ("agr-example-lab" if partner == "example-lab" else "")
    if "output" in case and outcome.max_output_tokens:
        assert outcome.max_output_tokens == min(case["output"] or ASKED_TOKENS, ASKED_TOKENS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_a_check_without_a_call_says_the_same(servers: Servers, case: Case) -> None:
    server = await servers.of(case)
    action, model = case["what"].split()
    asked = case.get("request", {})
    request = CheckAccessRequest(
        action=action,
        model=model,
        purpose=asked.get("purpose", "human-susceptibility") or "",
        response_logprobs=asked.get("logprobs", False),
        greedy=asked.get("greedy", False),
        include_tokens=asked.get("token_bytes", False),
    )
    caller = metadata(case, servers.thumbprint)

    async with with_closed(server, case.get("withdrawn", {}), KEY.key_id):
        question = server.access.CheckAccess(request, metadata=caller, timeout=LONG_SECONDS)
        if case["then"].split()[-1] in NOT_EVEN_TOLD:
            assert (await refusal(question)).verdict == case["then"]
            return
        answer = await question

    assert answer.allowed == case["then"].startswith("granted")
    if answer.allowed:
        assert answer.max_output_tokens == (case.get("output", answer.max_output_tokens) or 0)
        assert (answer.reason, answer.remedy, dict(answer.metadata)) == (0, "", {})
    else:
        assert Reason.Name(answer.reason) == f"REASON_{case['then'].split()[1]}"
        assert dict(answer.metadata) == case.get("facts", {})
        assert answer.remedy
        assert "{" not in answer.remedy
