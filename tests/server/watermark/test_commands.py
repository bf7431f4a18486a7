"""`sluicegate watermark new-key`."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sluicegate.server.watermark import read_keys
from sluicegate.server.watermark.commands import watermark_app


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and all that is printed."""
    result = CliRunner().invoke(watermark_app, ["new-key", *arguments])
    return result.exit_code, result.output


def test_a_key_is_made_in_a_directory_of_its_own_and_not_printed(tmp_path: Path) -> None:
    directory = tmp_path / "keys"

    code, printed = run("--model", "gpt2-774m", "--directory", str(directory))

    [key] = read_keys(directory)
    assert code == 0
    assert key.id in printed
    assert "epoch 1" in printed
    assert key.secret.hex() not in printed
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_next_key_is_told_as_json(tmp_path: Path) -> None:
    run("--model", "gpt2-774m", "--directory", str(tmp_path), "--epoch", "4")

    code, printed = run("--model", "gpt2-774m", "--directory", str(tmp_path), "--json")

    [_, key] = sorted(read_keys(tmp_path), key=lambda each: each.epoch)
    assert code == 0
    assert json.loads(printed) == {
        "id": key.id,
        "model": "gpt2-774m",
        "epoch": 5,
        "path": str(tmp_path / "gpt2-774m.5.json"),
    }


@pytest.mark.parametrize("wrong", [("--model", "GPT-2"), ("--model", "gpt2-774m", "--epoch", "0")])
def test_a_key_that_cannot_be_made_is_an_error_of_one_line(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    code, printed = run(*wrong, "--directory", str(tmp_path))

    assert code == 1
    assert "epoch from 1" in printed
    assert "Traceback" not in printed
    assert read_keys(tmp_path) == []


def test_a_directory_that_is_a_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    code, printed = run("--model", "gpt2-774m", "--directory", str(tmp_path / "file"))

    assert (code, "Traceback" in printed) == (1, False)
