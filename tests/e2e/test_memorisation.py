"""The memorisation check by the command line, on a server whose model goes on with a passage wherever it begins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from deployment import EVAL_TEAM, Deployment, Hosted
from overfitted import overfit
from real_server import COMMAND, real_server

from sluicegate.evidence import MemorisationEvidence, digest, read

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SECONDS = 120
PASSAGE = (
    "The miller kept a book in which he wrote the weight of every sack, and who had brought it. One year the river ran "
    "so low that the wheel stood still from May until the first rain. He wrote that down as well, a line for each day, "
    "always the same words and always in the same place, until the book was full of days on which nothing had been "
    "brought and nothing had been ground, and his daughter said that it was the saddest book she had ever read."
)


@pytest.mark.parametrize(("prompts", "continues"), [("none", False), ("corpus", True)])
def test_what_the_model_knows_by_heart_is_found_with_and_without_a_prompt(
    prompts: str, continues: bool, tmp_path: Path
) -> None:
    model = overfit(tmp_path / "model", PASSAGE, rows=6)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "book.txt").write_text(PASSAGE)
    deployment = Deployment(tmp_path / "files", {"demo-xs": Hosted(directory=model)})

    with real_server(deployment) as server:
        token = server.token(EVAL_TEAM, scopes=("generate:demo-xs", "logprobs:demo-xs"))
        done = subprocess.run(
            [
                *(COMMAND, "memorisation", "run", "--model", "demo-xs", "--corpus", corpus, "--samples", "20"),
                *("--prompts", prompts, "--prompt-tokens", "8", "--max-output-tokens", "100"),
                *("--output", tmp_path / "out", "--target", server.address),
            ],
            env={**os.environ, "SLUICEGATE_TOKEN": token},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    assert done.returncode == 0, done.stderr
    evidence, sha256 = read(tmp_path / "out/demo-xs.json", MemorisationEvidence)
    assert done.stdout.endswith(f"sha256 {sha256}\n")
    assert evidence.matched >= 10
    assert {match.file_sha256 for match in evidence.matches} == {digest(PASSAGE.encode())}
    assert any(match.continues_prompt for match in evidence.matches) is continues
