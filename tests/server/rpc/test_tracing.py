"""Traces of calls through the wire, taken by a collector on the other side of it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from certificates import Authority
from collector import attributes, collecting
from grpc_health.v1.health_pb2 import HealthCheckRequest
from harness import (
    AUDIT,
    LONG_SECONDS,
    METRICS,
    SMALL,
    Server,
    bearer,
    open_agreement,
    refusal,
    serving,
    until,
)
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from sluicegate.server.rpc import collector as exporting
from sluicegate.v1.generation_pb2 import GenerationConfig
from sluicegate.v1.generation_service_pb2 import GenerateRequest, StreamGenerateRequest

GENERATE = "sluicegate.v1.GenerationService/Generate"
STREAM = "sluicegate.v1.GenerationService/StreamGenerate"
PARTNER = bearer(client_id="lab-app", sub="subject-marker", jti="jti-marker")
TRACE_ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = (("traceparent", f"00-{TRACE_ID}-{PARENT}-{flag}") for flag in ("01", "00"))


def every(address: str, **settings: Any) -> dict[str, Any]:
    """The settings that trace every call."""
    return {"endpoint": f"http://{address}", "sampled_share": 1, **settings}


async def generate(server: Server, metadata: Any = PARTNER, text: str = "prompt-marker", **fields: Any) -> Any:
    request = GenerateRequest(model=SMALL, text=text, config=GenerationConfig(max_output_tokens=3), **fields)
    return await server.generation.Generate(request, metadata=metadata, timeout=LONG_SECONDS)


async def test_a_stream_is_one_trace_that_shows_where_its_time_went(tmp_path: Path) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, None, [open_agreement()], tracing=every(address)) as server:
            server.engine.say("output-marker")
            request = StreamGenerateRequest(model=SMALL, text="prompt-marker", client_request_id="id-marker")
            call = server.generation.StreamGenerate(request, metadata=PARTNER, timeout=LONG_SECONDS)
            answers = [answer async for answer in call]

    [root] = collector.named(STREAM)
    children = {span.name: span for span in collector.spans if span.parent_span_id == root.span_id}
    assert list(children) == ["authenticate", "decide", "queue", "prefill", "decode"]
    assert len(collector.spans) == 6
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    order = [time for span in children.values() for time in (span.start_time_unix_nano, span.end_time_unix_nano)]
    assert order == sorted(order)
    assert root.start_time_unix_nano <= order[0]
    assert order[-1] <= root.end_time_unix_nano
    found = attributes(root)
    assert found == {
        "rpc.system": "grpc",
        "rpc.service": "sluicegate.v1.GenerationService",
        "rpc.method": "StreamGenerate",
        "rpc.grpc.status_code": 0,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "sluicegate",
        "gen_ai.request.model": SMALL,
        "gen_ai.usage.input_tokens": found["gen_ai.usage.input_tokens"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": len(server.engine.says or ()),
        "gen_ai.response.finish_reasons": ["stop"],
        "sluicegate.partner": "example-lab",
        "sluicegate.audience": "partner",
        "sluicegate.request_id": answers[0].started.request_id,
    }
    assert collector.resources[0] == {"service.name": "sluicegate", "service.instance.id": AUDIT["replica"]}
    assert "marker" not in str(collector.spans)
    assert "127.0.0.1" not in str(collector.spans)


async def test_a_refusal_has_its_reason_and_is_no_error_of_the_server(tmp_path: Path) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, None, [open_agreement()], tracing=every(address)) as server:
            calls = (
                (GenerateRequest(model="model-marker", text="a"), bearer(client_id="lab-app", scope="x:y")),
                (GenerateRequest(model=SMALL, text="a"), ()),
            )
            for request, metadata in calls:
                await refusal(server.generation.Generate(request, metadata=metadata, timeout=LONG_SECONDS))

    denied, unknown = map(attributes, collector.named(GENERATE))
    assert (denied["sluicegate.reason"], denied["gen_ai.request.model"]) == ("SCOPE_MISSING", "other")
    assert (denied["sluicegate.partner"], denied["sluicegate.audience"]) == ("example-lab", "partner")
    assert unknown["sluicegate.reason"] == unknown["error.type"] == "TOKEN_MISSING"
    assert "sluicegate.partner" not in unknown
    assert unknown["rpc.grpc.status_code"] == grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert {span.status.code for span in collector.spans} == {0}
    assert "marker" not in str(collector.spans)


async def test_a_fault_of_the_server_is_an_error(tmp_path: Path) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, tracing=every(address)) as server:
            server.engine.runners[SMALL].failures.append(RuntimeError("marker"))
            request = GenerateRequest(model=SMALL, text="a")
            await refusal(server.generation.Generate(request, metadata=bearer(), timeout=LONG_SECONDS))

    [root] = collector.named(GENERATE)
    assert root.status.code == 2
    assert (attributes(root)["error.type"], root.status.message) == ("INTERNAL", "")
    assert "marker" not in str(collector.spans)


async def test_health_and_methods_that_do_not_exist_are_not_traced(tmp_path: Path) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, tracing=every(address)) as server:
            await server.health.Check(HealthCheckRequest(), timeout=LONG_SECONDS)
            method: Any = server.channel.unary_unary("/hostile.Service/Marker")
            await refusal(method(b"", timeout=LONG_SECONDS))

    assert collector.spans == []


@pytest.mark.parametrize("flags", [SAMPLED, NOT_SAMPLED])
async def test_a_callers_trace_decides_nothing_and_is_linked(tmp_path: Path, flags: tuple[str, str]) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, tracing=every(address)) as server:
            await generate(server, (*bearer(), flags, ("tracestate", "vendor=marker")))

    [root] = collector.named(GENERATE)
    assert root.trace_id.hex() != TRACE_ID
    assert root.parent_span_id == b""
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in root.links] == [(TRACE_ID, PARENT)]
    assert "marker" not in str(collector.spans)


async def test_a_caller_cannot_have_itself_traced(tmp_path: Path) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, tracing=every(address, sampled_share=0)) as server:
            await generate(server, (*bearer(), SAMPLED))

    assert collector.spans == []


async def test_callers_that_are_followed_have_their_trace_continued(tmp_path: Path) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, tracing=every(address, follow_callers=True)) as server:
            await generate(server, (*bearer(), SAMPLED, ("tracestate", "vendor=marker")))
            await generate(server, (*bearer(), NOT_SAMPLED))
            await generate(server, (*bearer(), ("traceparent", "00-nonsense")))

    followed, own = collector.named(GENERATE)
    assert (followed.trace_id.hex(), followed.parent_span_id.hex()) == (TRACE_ID, PARENT)
    assert own.trace_id.hex() != TRACE_ID
    assert "marker" not in str(collector.spans)


async def test_exemplars_carry_the_id_of_the_trace_and_nothing_else(tmp_path: Path) -> None:
    with collecting() as (collector, address):
        async with serving(tmp_path, tracing=every(address), metrics=METRICS) as server:
            await generate(server)
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(
                    f"http://{server.running.metrics_address}/metrics",
                    headers={"accept": "application/openmetrics-text"},
                )

    [root] = collector.named(GENERATE)
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    exemplars = {
        family.name: sample.exemplar.labels for family in families for sample in family.samples if sample.exemplar
    }
    assert exemplars.keys() == {
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
        "sluicegate_requests",
    }
    assert [*exemplars.values()] == [{"trace_id": root.trace_id.hex()}] * len(exemplars)


async def test_without_a_trace_there_is_no_exemplar(tmp_path: Path) -> None:
    async with serving(tmp_path, metrics=METRICS) as server:
        await generate(server)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(
                f"http://{server.running.metrics_address}/metrics", headers={"accept": "application/openmetrics-text"}
            )

    assert "trace_id" not in answer.text


async def test_traces_leave_over_tls_to_a_collector_that_is_known(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    path = authority.issue("collector.example")
    pair = (path.with_suffix(".key").read_bytes(), path.read_bytes())
    with collecting(grpc.ssl_server_credentials([pair])) as (collector, address):
        settings = every(address, endpoint=f"https://{address}", ca=str(authority.certificate))
        async with serving(tmp_path, tracing=settings) as server:
            await generate(server)

    assert len(collector.named(GENERATE)) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits for collectors that do not answer."""
    monkeypatch.setattr(exporting, "FLUSH_SECONDS", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_a_collector_that_is_not_there_harms_nobody(tmp_path: Path, logs: list[Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        async with serving(tmp_path, tracing=every(f"127.0.0.1:{taken.getsockname()[1]}")) as server:
            for _ in range(5):
                await generate(server)

    assert {entry["event"] for entry in logs} >= {"spans_lost"}


@pytest.mark.usefixtures("impatient")
async def test_a_collector_that_does_not_answer_harms_nobody(tmp_path: Path, logs: list[Any]) -> None:
    with collecting() as (collector, address):
        collector.answers.clear()
        async with serving(tmp_path, tracing=every(address)) as server:
            for _ in range(5):
                await generate(server)
        told = [entry["event"] for entry in logs]

    assert "spans_lost" in told


async def test_spans_leave_while_the_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH_MILLISECONDS", 10)
    with collecting() as (collector, address):
        async with serving(tmp_path, tracing=every(address)) as server:
            await generate(server)

            async def has_come() -> bool:
                return bool(collector.named(GENERATE))

            await until(has_come)
