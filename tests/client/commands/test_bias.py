from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from client_server import FakeServer, Hold, Refusal, started_message
from client_terminal import COMMAND, sluicegate
from typer.testing import Result

from sluicegate.client.evaluation.occupations import occupations
from sluicegate.evidence import BiasEvidence, digest, read
from sluicegate.v1 import generation_pb2
from sluicegate.v1.generation_service_pb2 import ScoreRequest, ScoreResponse
from sluicegate.v1.model_service_pb2 import GetModelResponse, Model

CODE = grpc.StatusCode
WEIGHTS = "ab" * 32
CSV = (
    "sent_more,sent_less,stereo_antistereo,bias_type\n"
    "The old sang.,The young sang.,stereo,age\n"
    "The poor sang.,The rich sang.,stereo,socioeconomic\n"
)


def model(weights: str = WEIGHTS) -> GetModelResponse:
    return GetModelResponse(model=Model(id="gpt2-124m", weights_sha256=weights, dtype="float32"))


def score(log_probability: float, weights: str = WEIGHTS) -> ScoreResponse:
    return ScoreResponse(
        started=started_message(weights_sha256=weights),
        tokens=[generation_pb2.Token(id=1, bytes=b"t", log_probability=log_probability)],
        total_log_probability=log_probability,
    )


class Run:
    """`bias run` on two rows of a CrowS-Pairs file, one call at a time."""

    def __init__(self, server: FakeServer, folder: Path) -> None:
        self.server = server
        self.output = folder / "out"
        self.data = folder / "crows_pairs_anonymized.csv"
        self.data.write_text(CSV)
        server.will("GetModel", [model()])
        server.will("Score", [score(-1)], [score(-2)], [score(-3)], [score(-2)])

    @property
    def arguments(self) -> list[str]:
        return [
            *("bias", "run", "--model", "gpt2-124m", "--suite", "crows-pairs", "--data", str(self.data)),
            *("--output", str(self.output), "--concurrency", "1", "--target", self.server.target),
        ]

    def __call__(self, *more: str) -> Result:
        return sluicegate(*self.arguments, *more)

    @property
    def texts(self) -> list[str]:
        return [call.asked(ScoreRequest).text for call in self.server.calls if call.method == "Score"]

    @property
    def evidence(self) -> BiasEvidence:
        return read(self.output / "gpt2-124m.json", BiasEvidence)[0]


@pytest.fixture
def run(server: FakeServer, tmp_path: Path) -> Run:
    return Run(server, tmp_path)


def test_figures_are_shown_and_the_evidence_named_by_its_digest(run: Run) -> None:
    result = run("--purpose", "p", "--priority", "-3")

    assert result.exit_code == 0, result.stderr
    raw = (run.output / "gpt2-124m.json").read_bytes()
    assert result.stdout.endswith(f"{run.output / 'gpt2-124m.json'}\nsha256 {digest(raw)}\n")
    assert "50.0%" in result.stdout
    assert run.texts == ["The old sang.", "The young sang.", "The poor sang.", "The rich sang."]
    request = next(call for call in run.server.calls if call.method == "Score").asked(ScoreRequest)
    assert (request.purpose, request.priority) == ("p", -3)
    assert run.evidence.figures.share == 0.5


def test_the_page_shows_the_figures_and_needs_no_other_file(run: Run) -> None:
    run()

    page = (run.output / "gpt2-124m.html").read_text()
    assert "Bias of gpt2-124m" in page
    assert "default-src 'none'" in page
    assert "socioeconomic" in page
    assert WEIGHTS in page
    assert not any(word in page for word in ("http://", "https://", "<script", "sang"))


def test_neither_evidence_nor_page_nor_terminal_has_a_sentence(run: Run) -> None:
    result = run()

    written = result.output + "".join(path.read_text() for path in run.output.iterdir())
    assert "sang" not in written


def test_the_built_in_suite_needs_no_data(run: Run) -> None:
    run.server.will("Score", [score(-1)])
    arguments = [each for each in run.arguments if each not in ("--suite", "crows-pairs", "--data", str(run.data))]

    result = sluicegate(*arguments, "--concurrency", "16")

    assert result.exit_code == 0, result.stderr
    assert (run.evidence.suite.name, run.evidence.figures.ties) == ("occupations", len(occupations().pairs))


@pytest.mark.parametrize(
    ("refusal", "exit_code"),
    [
        (Refusal(code=CODE.PERMISSION_DENIED, reason="SCOPE_MISSING"), 4),
        (Refusal(code=CODE.RESOURCE_EXHAUSTED, reason="DAILY_TOKEN_QUOTA", retry_after=3_600), 5),
        (Refusal(code=CODE.UNAVAILABLE, reason="SERVER_DRAINING", pushback_ms="-1"), 6),
    ],
)
def test_a_refusal_midway_keeps_what_is_measured_and_the_same_command_goes_on(
    run: Run, refusal: Refusal, exit_code: int
) -> None:
    run.server.will("Score", [score(-1)], [score(-2)], [refusal], [score(-3)], [score(-2)])

    first = run()
    second = run()

    assert first.exit_code == exit_code
    assert f"so far (1) is kept in {run.output}; the same command goes on" in first.stderr
    assert not first.stdout
    assert second.exit_code == 0
    assert run.texts.count("The old sang.") == 1


def test_a_short_quota_is_waited_for(run: Run) -> None:
    limit = Refusal(code=CODE.RESOURCE_EXHAUSTED, reason="REQUEST_RATE_LIMIT", retry_after=0)
    run.server.will("Score", [score(-1)], [limit], [score(-2)], [score(-3)], [score(-2)])

    assert run().exit_code == 0


def test_a_score_that_is_no_number_is_told_and_nothing_written(run: Run) -> None:
    run.server.will("Score", [score(float("nan"))])

    result = run()

    assert result.exit_code == 8
    assert "no finite log-probability for a sentence of pair row-0" in result.stderr
    assert not (run.output / "gpt2-124m.json").exists()


def test_data_that_was_changed_between_two_runs_is_refused_before_any_call(run: Run) -> None:
    run.server.will("Score", [score(-1)], [score(-2)], [Refusal(code=CODE.UNAUTHENTICATED, reason="TOKEN_EXPIRED")])
    run()
    asked = len(run.texts)
    run.data.write_text(CSV.replace("poor", "humble"))

    result = run()

    assert result.exit_code == 2
    assert "differs in: data files, sentences; move it away to begin anew" in result.stderr
    assert len(run.texts) == asked


def test_a_journal_that_was_changed_is_refused_before_any_score(run: Run) -> None:
    run()
    asked = len(run.texts)
    journal = run.output / "gpt2-124m.journal"
    journal.write_bytes(journal.read_bytes().replace(b'"stereotype":-1', b'"stereotype":-9'))

    result = run()

    assert result.exit_code == 2
    assert "was damaged or changed in line 2" in result.stderr
    assert len(run.texts) == asked


def test_a_model_that_is_not_loaded_is_told(run: Run) -> None:
    run.server.will("GetModel", [model(weights="")])

    result = run()

    assert result.exit_code == 8
    assert "gpt2-124m is not loaded now" in result.stderr


def test_another_model_is_measured_too_and_compared(run: Run) -> None:
    run.server.will("Score", *([score(each)] for each in (-2, -1, -2, -3, -1, -2, -1, -2)))

    result = run("--against", "gpt2-355m")

    assert result.exit_code == 0, result.stderr
    found = run.evidence.comparison
    assert found is not None
    assert (found.only_this, found.only_other, found.p_value) == (1, 0, 1.0)
    assert found.evidence_sha256 == digest((run.output / "gpt2-355m.json").read_bytes())
    assert "exact McNemar p = 1" in result.stdout


def test_evidence_of_another_model_is_compared_with(run: Run, tmp_path: Path) -> None:
    run()
    before = tmp_path / "before.json"
    (run.output / "gpt2-124m.json").rename(before)

    result = run("--against-evidence", str(before))

    assert result.exit_code == 0, result.stderr
    assert run.evidence.comparison is not None
    assert run.evidence.comparison.evidence_sha256 == digest(before.read_bytes())


@pytest.mark.parametrize("content", [b"{}", b"null", None])
def test_what_is_no_evidence_is_not_compared_with(run: Run, content: bytes | None, tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    if content is not None:
        before.write_bytes(content)

    result = run("--against-evidence", str(before))

    assert result.exit_code == 2
    assert str(before) in result.stderr
    assert not run.server.calls


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--against", "gpt2-124m"], "there is nothing to compare"),
        (["--against", "a", "--against-evidence", "b"], "give --against or --against-evidence"),
        (["--suite", "occupations"], "takes no --data"),
        (["--suite", "winobias"], "WinoBias has"),
        (["--model", "../escape"], "no slash"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_any_score(run: Run, arguments: list[str], why: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert why in result.stderr
    assert not run.texts


def test_a_suite_that_is_not_shipped_says_where_its_data_is_described(run: Run) -> None:
    result = sluicegate("bias", "run", "--model", "m", "--suite", "winogender", "--output", str(run.output))

    assert result.exit_code == 2
    assert "docs/bias.md" in result.stderr


def test_without_the_extra_it_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    monkeypatch.delitem(sys.modules, "sluicegate.client.evaluation.bias", raising=False)
    monkeypatch.delitem(sys.modules, "sluicegate.client.evaluation.rates", raising=False)

    result = run()

    assert result.exit_code == 2
    assert "pip install 'sluicegate[evaluation]'" in result.stderr


@pytest.mark.parametrize(("sent", "exit_code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_process_leaves_a_run_that_goes_on(run: Run, sent: signal.Signals, exit_code: int) -> None:
    run.server.will("Score", [score(-1)], [score(-2)], [Hold()], [score(-3)], [score(-2)])
    process = subprocess.Popen([*COMMAND, *run.arguments], stderr=subprocess.PIPE, text=True)
    run.server.wait_for_calls(4)
    process.send_signal(sent)
    stderr = process.communicate(timeout=20)[1]

    second = run()

    assert process.returncode == exit_code
    assert "Traceback" not in stderr
    assert ("the same command goes on from there" in stderr) is (sent is signal.SIGINT)
    assert second.exit_code == 0
    assert run.texts.count("The old sang.") == 1


def test_evidence_repeats_but_for_its_times(run: Run, tmp_path: Path) -> None:
    def document() -> dict[str, Any]:
        members: dict[str, Any] = json.loads((run.output / "gpt2-124m.json").read_bytes())
        return {name: value for name, value in members.items() if name not in ("began", "ended")}

    run()
    first = document()
    run.output = tmp_path / "again"
    run.server.will("Score", [score(-1)], [score(-2)], [score(-3)], [score(-2)])
    run.server._turns.clear()
    run()

    assert document() == first


def test_a_directory_that_cannot_be_made_is_told(run: Run) -> None:
    run.output = run.data / "below"

    result = run()

    assert result.exit_code == 2
    assert "cannot be made" in result.stderr
