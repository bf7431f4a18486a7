"""A short load by the command line, on two demo models of a server process."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deployment import EVAL_TEAM
from real_server import COMMAND, RealServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def bench(server: RealServer, folder: Path, *arguments: str) -> dict[str, Any]:
    """The object that the command prints."""
    token = folder / "token"
    token.write_text(server.token(EVAL_TEAM, scopes=("generate:demo-xs", "generate:demo-s")))
    models = ("--model", "demo-xs=3", "--model", "demo-s=1")
    done = subprocess.run(
        [COMMAND, "bench", "--json", "--target", server.address, "--token-file", token, *models, *arguments],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("mode", [("--mode", "closed"), ("--mode", "open", "--rate", "20")])
def test_every_request_of_a_mix_is_answered_or_cancelled_with_all_of_its_tokens(
    server: RealServer, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    lengths = ("--prompt-tokens", "4-40", "--output-tokens", "12", "--requests", "24")

    found = bench(server, tmp_path, *lengths, "--cancel-share", "0.3", *mode)

    total = found["results"]["total"]
    assert (total["requests"], total["refused"], total["unfinished"]) == (24, {}, 0)
    assert total["answered"] + total["cancelled"] == 24
    assert total["cancelled"] > 0
    assert total["finish_reasons"] == {"MAX_OUTPUT_TOKENS": total["answered"]}
    assert total["output_tokens"] >= 12 * total["answered"]
    assert total["first_token_seconds"]["count"] == 24
    assert {each["model"] for each in found["results"]["served_under"]} == {"demo-xs", "demo-s"}
    stated = {(each["model"], each["weights_sha256"]) for each in found["results"]["served_under"]}
    assert stated == {(each["id"], each["weights_sha256"]) for each in found["models"]}
