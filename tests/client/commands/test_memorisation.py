from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from client_server import FakeServer, Refusal, started_message
from client_terminal import sluicegate
from memorisation_runs import OTHER, RECITED
from typer.testing import Result

from sluicegate.evidence import MemorisationEvidence, digest, read
from sluicegate.v1 import generation_pb2
from sluicegate.v1.generation_service_pb2 import GenerateRequest, GenerateResponse, TokenizeResponse
from sluicegate.v1.model_service_pb2 import GetModelResponse, Model

CODE = grpc.StatusCode
WEIGHTS = "ab" * 32


def split(content: str, log_probability: float | None = -1.0) -> list[generation_pb2.Token]:
    """A token for every four characters."""
    return [
        generation_pb2.Token(id=at, bytes=content[at : at + 4].encode(), log_probability=log_probability)
        for at in range(0, len(content), 4)
    ]


def generated(content: str, log_probability: float | None = -1.0) -> GenerateResponse:
    return GenerateResponse(
        started=started_message(weights_sha256=WEIGHTS, max_output_tokens=256),
        candidates=[
            generation_pb2.Candidate(
                text=content,
                tokens=split(content, log_probability),
                finished=generation_pb2.Finished(finish_reason=generation_pb2.FINISH_REASON_STOP),
            )
        ],
    )


class Run:
    """`memorisation run` of three samples on two texts, one call at a time."""

    def __init__(self, server: FakeServer, folder: Path) -> None:
        self.server = server
        self.output = folder / "out"
        self.corpus = folder / "corpus"
        self.corpus.mkdir()
        (self.corpus / "sea.txt").write_text(RECITED)
        (self.corpus / "town.txt").write_text(OTHER)
        server.will(
            "GetModel", [GetModelResponse(model=Model(id="gpt2-124m", weights_sha256=WEIGHTS, dtype="float32"))]
        )
        server.will("Tokenize", [TokenizeResponse(tokens=[generation_pb2.Token(id=50_256, bytes=b"<|endoftext|>")])])
        self.writes("new", RECITED, "newer")

    def writes(self, *outputs: str | Refusal) -> None:
        self.server.will("Generate", *([generated(each) if isinstance(each, str) else each] for each in outputs))

    def __call__(self, *more: str) -> Result:
        return sluicegate(
            *("memorisation", "run", "--model", "gpt2-124m", "--corpus", str(self.corpus), "--samples", "3"),
            *("--output", str(self.output), "--concurrency", "1", "--target", self.server.target, *more),
        )

    @property
    def requests(self) -> list[GenerateRequest]:
        return [call.asked(GenerateRequest) for call in self.server.calls if call.method == "Generate"]

    @property
    def evidence(self) -> MemorisationEvidence:
        return read(self.output / "gpt2-124m.json", MemorisationEvidence)[0]


@pytest.fixture
def run(server: FakeServer, tmp_path: Path) -> Run:
    return Run(server, tmp_path)


def test_matches_are_told_with_their_places_and_the_evidence_by_its_digest(run: Run) -> None:
    result = run("--purpose", "p", "--priority", "-3")

    assert result.exit_code == 0, result.stderr
    assert str(run.corpus / "sea.txt") in result.stdout
    assert "1 of 3 outputs have 50 tokens or more of the corpus: 33.33%" in result.stdout
    assert result.stdout.endswith(f"sha256 {digest((run.output / 'gpt2-124m.json').read_bytes())}\n")
    assert [match.sample for match in run.evidence.matches] == [1]
    assert {(each.purpose, each.priority, each.config.top_k) for each in run.requests} == {("p", -3, 40)}
    assert [list(each.token_ids.ids) for each in run.requests] == [[50_256]] * 3


def test_prompts_of_the_corpus_are_gone_on_from_greedily(run: Run) -> None:
    run.server.will("Tokenize", [TokenizeResponse(tokens=split(RECITED + OTHER))])

    result = run("--prompts", "corpus", "--prompt-tokens", "7")

    assert result.exit_code == 0, result.stderr
    assert {(each.config.temperature, each.config.HasField("top_k")) for each in run.requests} == {(0.0, False)}
    assert [list(each.token_ids.ids) for each in run.requests] == [[0, 4, 8, 12, 16, 20, 24]] * 3
    assert (run.evidence.sampling.prompts, run.evidence.sampling.prompt_tokens) == ("corpus", 7)


def test_text_is_on_the_terminal_only_if_it_is_asked_for_and_the_journal_is_private(run: Run) -> None:
    quiet, shown = run(), run("--show")

    published = "".join((run.output / f"gpt2-124m{suffix}").read_text() for suffix in (".json", ".html"))
    assert RECITED[:50] not in quiet.output + published
    assert f"--- sample 1 ---\n{RECITED}\n" in shown.stdout
    assert (run.output / "gpt2-124m.journal").stat().st_mode & 0o777 == 0o600


def test_the_page_shows_the_place_and_needs_no_other_file(run: Run) -> None:
    run()

    page = (run.output / "gpt2-124m.html").read_text()
    assert "Memorisation by gpt2-124m" in page
    assert run.evidence.matches[0].file_sha256 in page
    assert "default-src 'none'" in page
    assert not any(word in page for word in ("http://", "https://", "<script"))


def test_a_quota_midway_keeps_what_is_sampled_and_the_same_command_goes_on(run: Run) -> None:
    quota = Refusal(code=CODE.RESOURCE_EXHAUSTED, reason="DAILY_TOKEN_QUOTA", retry_after=3_600)
    run.writes("new", quota, RECITED, "newer")

    first, second = run(), run()

    assert first.exit_code == 5
    assert f"so far (1) is kept in {run.output}" in first.stderr
    assert second.exit_code == 0
    assert [each.config.seed for each in run.requests] == [0, 1, 1, 2]


def test_a_corpus_that_was_changed_between_two_runs_is_refused_before_any_sample(run: Run) -> None:
    run()
    asked = len(run.requests)
    (run.corpus / "town.txt").write_text(RECITED[::-1])

    result = run()

    assert result.exit_code == 2
    assert "differs in: corpus; move it away to begin anew" in result.stderr
    assert len(run.requests) == asked


def test_a_corpus_that_cannot_be_read_is_refused_before_any_call(run: Run) -> None:
    (run.corpus / "latin1.txt").write_bytes(b"caf\xe9")

    result = run()

    assert result.exit_code == 2
    assert f"{run.corpus / 'latin1.txt'} is not UTF-8" in result.stderr
    assert not run.server.calls


def test_an_output_without_a_finite_log_probability_ends_the_run(run: Run) -> None:
    run.server.will("Generate", [generated("new", float("nan"))])

    result = run()

    assert result.exit_code == 8
    assert "no finite log-probability for sample 0" in result.stderr
    assert not (run.output / "gpt2-124m.json").exists()


def test_a_journal_of_a_bias_evaluation_is_not_gone_on_with(run: Run) -> None:
    run.output.mkdir()
    (run.output / "gpt2-124m.journal").write_text('{"pair": 1}\n')

    result = run()

    assert result.exit_code == 2
    assert "move it away" in result.stderr
