"""Watermarks through the wire: who gets one, what the answer and the audit log say of it, and who is refused one."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from audit_logs import entries
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SMALL,
    Server,
    bearer,
    demo_plan,
    open_agreement,
    refusal,
    serving,
    until,
)
from watermarks import write_keys

from sluicegate.server.audit import Closing
from sluicegate.server.gpt2.loading import load_runner
from sluicegate.server.watermark import Detector, WatermarkKey, read_keys
from sluicegate.v1.generation_pb2 import (
    WATERMARK_APPLIED,
    WATERMARK_GREEDY,
    WATERMARK_NOT_DUE,
    Finished,
    GenerationConfig,
)
from sluicegate.v1.generation_service_pb2 import (
    GenerateRequest,
    GenerateResponse,
    ScoreRequest,
    StreamGenerateRequest,
    TokenizeRequest,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC, PARTNER, INSIDER = bearer(), bearer(client_id="lab-app"), bearer(client_id="eval-team")
PROMPT, TOKENS = "The committee has", 120


def plan_of(term: str) -> dict[str, Any]:
    plan = demo_plan()
    plan["models"][SMALL]["watermark"] = term
    plan["public"]["quotas"] = {}
    return plan


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """Its public is marked where possible, its partner always, its insider never."""
    directory = tmp_path_factory.mktemp("watermarks")
    write_keys(directory / "keys", SMALL, SMALL)
    async with serving(
        directory,
        plan_of("where_possible"),
        [open_agreement(output={"watermark": "required"})],
        models={SMALL: {"device": "cpu", "dtype": "float32", "slots": 8}},
        watermark={"keys": "keys"},
        metrics=METRICS,
        load=load_runner,
    ) as server:
        yield server


def keys_of(server: Server) -> list[WatermarkKey]:
    return sorted(read_keys(server.directory / "keys"), key=lambda key: key.epoch)


def config(**changes: Any) -> GenerationConfig:
    return GenerationConfig(**{"max_output_tokens": TOKENS, "ignore_eos": True, "seed": 5, **changes})


async def generate(server: Server, who: Any = PUBLIC, **changes: Any) -> GenerateResponse:
    request = GenerateRequest(model=SMALL, text=PROMPT, config=config(**changes), include_tokens=True)
    answer: GenerateResponse = await server.generation.Generate(request, metadata=who, timeout=LONG_SECONDS)
    return answer


@pytest.mark.parametrize("who", [PUBLIC, PARTNER], ids=["public", "partner"])
async def test_output_carries_the_mark_of_the_models_latest_key(server: Server, who: Any) -> None:
    old, latest = keys_of(server)

    answer = await generate(server, who, candidate_count=2)

    for candidate in answer.candidates:
        assert (candidate.finished.watermark, candidate.finished.watermark_id) == (WATERMARK_APPLIED, latest.id)
        ids = [token.id for token in candidate.tokens]
        assert Detector(latest.scheme()).measure(ids).p_value < 1e-6
        assert Detector(old.scheme()).measure(ids).p_value > 1e-3


async def test_a_stream_says_it_with_each_candidates_end(server: Server) -> None:
    request = StreamGenerateRequest(model=SMALL, text=PROMPT, config=config(max_output_tokens=5, candidate_count=2))
    ends: list[Finished] = []

    async for message in server.generation.StreamGenerate(request, metadata=PUBLIC, timeout=LONG_SECONDS):
        if message.HasField("finished"):
            ends.append(message.finished)

    assert [(end.watermark, end.watermark_id) for end in ends] == [(WATERMARK_APPLIED, keys_of(server)[1].id)] * 2


async def test_internal_callers_get_text_without_a_mark(server: Server) -> None:
    [candidate] = (await generate(server, INSIDER)).candidates

    assert (candidate.finished.watermark, candidate.finished.watermark_id) == (WATERMARK_NOT_DUE, "")
    ids = [token.id for token in candidate.tokens]
    assert Detector(keys_of(server)[1].scheme()).measure(ids).p_value > 1e-3


LITTLE_TO_CHANCE: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.09},
    {"top_k": 1},
    {"top_p": 0.09},
    {"typical_p": 0.09},
    {"min_p": 0.91},
]
ENOUGH: list[dict[str, Any]] = [
    {"temperature": 0.11},
    {"top_k": 2},
    {"top_p": 0.11},
    {"typical_p": 0.11},
    {"min_p": 0.89},
]


@pytest.mark.parametrize("changes", LITTLE_TO_CHANCE, ids=str)
async def test_greedy_output_says_that_it_carries_no_mark(server: Server, changes: dict[str, Any]) -> None:
    [candidate] = (await generate(server, PUBLIC, max_output_tokens=3, **changes)).candidates

    assert (candidate.finished.watermark, candidate.finished.watermark_id) == (WATERMARK_GREEDY, "")


@pytest.mark.parametrize("changes", LITTLE_TO_CHANCE, ids=str)
async def test_greedy_output_is_refused_where_the_mark_is_required(server: Server, changes: dict[str, Any]) -> None:
    request = GenerateRequest(model=SMALL, text=PROMPT, config=config(**changes))

    refused = await refusal(server.generation.Generate(request, metadata=PARTNER, timeout=LONG_SECONDS))

    assert refused.verdict == "FAILED_PRECONDITION OUTPUT_TERMS_CONFLICT"
    assert refused.facts == {"term": "watermark"}


@pytest.mark.parametrize("changes", ENOUGH, ids=str)
async def test_whatever_leaves_a_choice_is_marked(server: Server, changes: dict[str, Any]) -> None:
    [candidate] = (await generate(server, PARTNER, max_output_tokens=3, **changes)).candidates

    assert candidate.finished.watermark == WATERMARK_APPLIED


async def test_what_generates_nothing_asks_for_no_mark(server: Server) -> None:
    score = ScoreRequest(model=SMALL, text=PROMPT)
    tokenize = TokenizeRequest(model=SMALL, text=PROMPT)

    await server.generation.Score(score, metadata=PARTNER, timeout=LONG_SECONDS)
    await server.generation.Tokenize(tokenize, metadata=PARTNER, timeout=LONG_SECONDS)


async def test_the_audit_log_has_the_keys_id_and_nothing_has_the_key(
    server: Server, logs: list[MutableMapping[str, Any]]
) -> None:
    marked = (await generate(server, PARTNER, max_output_tokens=3)).started.request_id
    plain = (await generate(server, INSIDER, max_output_tokens=3)).started.request_id
    directory = server.directory / AUDIT["directory"]

    def closings() -> dict[str, str | None]:
        return {entry.call: entry.watermark_key for entry in entries(directory) if isinstance(entry, Closing)}

    async def are_there() -> bool:
        return {marked, plain} <= closings().keys()

    await until(are_there)
    key = keys_of(server)[1]
    assert closings()[marked] == key.id
    assert closings()[plain] is None
    shown = [str(logs), *(path.read_text() for path in directory.iterdir()), *await server.metrics()]
    secrets = (key.secret.hex(), repr(key.secret)[2:-1], str(key.table_seed), str(key.layers[0]))
    assert not [secret for secret in secrets for text in shown if secret in text]


@pytest.mark.parametrize("term", ["required", "where_possible"])
async def test_a_server_without_a_key_of_the_model_refuses_rather_than_serve_it_unmarked(
    tmp_path: Path, term: str
) -> None:
    write_keys(tmp_path / "keys", "gpt2-355m")

    async with serving(tmp_path, plan_of(term), watermark={"keys": "keys"}) as server:
        request = GenerateRequest(model=SMALL, text=PROMPT)
        refused = await refusal(server.generation.Generate(request, metadata=PUBLIC, timeout=LONG_SECONDS))
        insider = await server.generation.Generate(request, metadata=INSIDER, timeout=LONG_SECONDS)

    assert refused.verdict == "FAILED_PRECONDITION OUTPUT_TERMS_CONFLICT"
    assert refused.facts == {"term": "watermark", "cause": "no_key"}
    assert insider.candidates[0].finished.watermark == WATERMARK_NOT_DUE
