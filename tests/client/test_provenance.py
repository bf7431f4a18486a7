"""The client's detection, and how its answer is read."""

from __future__ import annotations

import pytest
from client_server import FakeServer

from sluicegate.client import Client, Detection, InvalidRequest, SyncClient, Verdict, WatermarkCheck
from sluicegate.v1 import provenance_service_pb2 as pb

ANSWER = pb.DetectTextResponse(
    verdict=pb.VERDICT_WATERMARKED,
    checks=[
        pb.WatermarkCheck(
            model="m", epoch=2, watermark_id="wm-1", verdict=pb.VERDICT_WATERMARKED, p_value=0.0, scored_tokens=90
        ),
        pb.WatermarkCheck(model="n", verdict=pb.VERDICT_UNSUPPORTED),
    ],
    false_positive_rate=0.001,
)
FOUND = Detection(
    Verdict.WATERMARKED,
    (
        WatermarkCheck("m", 2, "wm-1", Verdict.WATERMARKED, 0.0, 90),
        WatermarkCheck("n", None, None, Verdict.UNSUPPORTED, None, 0),
    ),
    0.001,
)


def test_our_verdicts_are_those_of_the_api() -> None:
    assert ["VERDICT_" + verdict.value for verdict in Verdict] == [value.name for value in pb.Verdict.DESCRIPTOR.values]


async def test_a_text_is_looked_at_and_the_answer_has_all_keys(server: FakeServer) -> None:
    server.will("DetectText", [ANSWER])

    async with Client(server.target) as client:
        found = await client.detect_text("Once upon", "m")

    assert server.calls[0].request == pb.DetectTextRequest(text="Once upon", model="m")
    assert found == FOUND


def test_the_blocking_client_does_the_same(server: FakeServer) -> None:
    server.will("DetectText", [ANSWER])

    with SyncClient(server.target) as client:
        found = client.detect_text("Once upon")

    assert server.calls[0].request == pb.DetectTextRequest(text="Once upon")
    assert found == FOUND


async def test_a_verdict_of_a_newer_server_is_unspecified(server: FakeServer) -> None:
    answer = pb.DetectTextResponse()
    answer.verdict = 99  # type: ignore[assignment]
    server.will("DetectText", [answer])

    async with Client(server.target) as client:
        assert (await client.detect_text("a")).verdict is Verdict.UNSPECIFIED


async def test_what_is_no_text_is_refused_before_it_is_sent(server: FakeServer) -> None:
    async with Client(server.target) as client:
        with pytest.raises(InvalidRequest):
            await client.detect_text("\ud800")
