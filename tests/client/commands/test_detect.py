"""`sluicegate detect`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from client_server import FakeServer
from client_terminal import sluicegate

from sluicegate.client.commands.detect import SAID
from sluicegate.client.provenance import Verdict
from sluicegate.v1 import provenance_service_pb2 as pb

ANSWER = pb.DetectTextResponse(
    verdict=pb.VERDICT_NOT_FOUND,
    checks=[
        pb.WatermarkCheck(
            model="m", epoch=2, watermark_id="wm-1", verdict=pb.VERDICT_NOT_FOUND, p_value=0.25, scored_tokens=90
        ),
        pb.WatermarkCheck(model="n", verdict=pb.VERDICT_UNSUPPORTED),
    ],
    false_positive_rate=0.001,
)


def test_a_files_text_is_looked_at_and_each_key_gets_a_row(server: FakeServer, tmp_path: Path) -> None:
    server.will("DetectText", [ANSWER])
    (tmp_path / "letter.txt").write_text("Sehr geehrte Frau Müller\n")

    result = sluicegate("detect", str(tmp_path / "letter.txt"), "--model", "m", "--target", server.target)

    rows = [line.split() for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert rows[1] == ["m", "2", "NOT_FOUND", "0.25", "90", "wm-1"]
    assert rows[2] == ["n", "UNSUPPORTED"]
    assert result.stdout.endswith(f"\n{SAID[Verdict.NOT_FOUND]}\n")
    assert server.calls[0].request == pb.DetectTextRequest(text="Sehr geehrte Frau Müller\n", model="m")


@pytest.mark.parametrize("argument", [[], ["-"]])
def test_without_a_file_standard_input_is_read(server: FakeServer, argument: list[str]) -> None:
    server.will("DetectText", [ANSWER])

    result = sluicegate("detect", *argument, "--json", "--target", server.target, text="Once upon\n")

    assert server.calls[0].request == pb.DetectTextRequest(text="Once upon")
    shown = json.loads(result.stdout)
    assert (shown["verdict"], shown["false_positive_rate"]) == ("NOT_FOUND", 0.001)
    assert shown["checks"][1] == {
        "model": "n",
        "epoch": None,
        "watermark_id": None,
        "verdict": "UNSUPPORTED",
        "p_value": None,
        "scored_tokens": 0,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (b"", "1 to 65536 bytes"), (b"a" * 65_537, "1 to 65536 bytes"), (b"\xff", "not UTF-8")],
    ids=["missing", "empty", "too long", "no text"],
)
def test_a_file_that_no_server_would_take_is_wrong_usage(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "text").write_bytes(content)

    result = sluicegate("detect", str(tmp_path / "text"), "--target", "127.0.0.1:1")

    assert result.exit_code == 2
    assert said in result.stderr


def test_no_verdict_claims_to_know_who_wrote_a_text() -> None:
    assert set(SAID) == set(Verdict)
    assert "human" not in " ".join([*SAID.values(), *Verdict]).lower()
