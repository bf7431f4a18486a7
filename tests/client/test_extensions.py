from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from client_terminal import sluicegate

from sluicegate.client.extensions import EXTENSIONS, GROUP

MODULE = "extension_of_a_test"
CODE = """
from typing import Annotated
import typer

keys_app = typer.Typer(help="The real help of keys.", no_args_is_help=True)

@keys_app.callback()
def _keys() -> None: ...

@keys_app.command()
def generate(private: Annotated[str, typer.Option()], rest: Annotated[list[str], typer.Argument()]) -> None:
    typer.echo(f"{private} {rest}")

def serve(port: Annotated[int, typer.Option(help="Port to listen on.")] = 50051) -> None:
    \"\"\"The real help of serve.\"\"\"
    typer.echo(f"serving on {port}")
    raise typer.Exit(7)

number = 5
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with commands, as another part of Sluicegate would be."""
    info = tmp_path / "an_extension-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: an-extension\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[sluicegate.commands]\n"
        f"keys = {MODULE}:keys_app\n"
        f"serve = {MODULE}:serve\n"
        "token = sluicegate_part_that_is_missing:token_app\n"
        f"policy = {MODULE}:number\n"
    )
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return tmp_path


def test_a_group_gets_all_arguments_as_they_stand(installed: Path) -> None:
    result = sluicegate("keys", "generate", "--private", "key.json", "--", "-x", "--help")

    assert (result.exit_code, result.stdout) == (0, "key.json ['-x', '--help']\n")


def test_a_function_becomes_a_command_and_keeps_its_exit_code(installed: Path) -> None:
    result = sluicegate("serve", "--port", "7")

    assert (result.exit_code, result.stdout) == (7, "serving on 7\n")


@pytest.mark.parametrize("name", ["keys", "serve"])
def test_the_help_of_a_command_is_its_own(installed: Path, name: str) -> None:
    result = sluicegate(name, "--help")

    assert result.exit_code == 0
    assert f"The real help of {name}." in result.stdout
    assert f"Usage: sluicegate {name} [OPTIONS]" in result.stdout


def test_wrong_usage_of_a_command_is_its_own_error(installed: Path) -> None:
    result = sluicegate("keys", "generate", "rest")

    assert result.exit_code == 2
    assert "--private" in result.stderr


def test_a_command_whose_extra_is_missing_says_what_to_install(installed: Path) -> None:
    result = sluicegate("token", "--help")

    assert result.exit_code == 2
    assert result.stderr == (
        "sluicegate: `token` needs sluicegate_part_that_is_missing: pip install 'sluicegate[server]'\n"
    )


def test_an_entry_point_that_is_no_command_is_a_defect(installed: Path) -> None:
    with pytest.raises(TypeError, match="neither a Typer app nor a function"):
        sluicegate("policy")


def test_a_command_that_nobody_brought_along_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])

    result = sluicegate("demo")

    assert result.exit_code == 2
    assert "pip install 'sluicegate[server]'" in result.stderr


def test_nothing_is_loaded_to_list_the_commands(installed: Path) -> None:
    result = sluicegate("--help")

    assert all(name in result.stdout for name in EXTENSIONS if " " not in name)
    assert MODULE not in sys.modules


def test_a_command_within_a_group_is_one_of_the_group() -> None:
    listed = sluicegate("release", "--help")
    missing = sluicegate("release", "advance", "--help", env={"COLUMNS": "200"})

    assert "advance" in listed.stdout
    assert "plan" in listed.stdout
    assert "advance" not in sluicegate("--help").stdout
    assert "--trust" in missing.stdout


def test_every_entry_point_is_an_extension_and_the_other_way_round() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())

    assert {name.replace(" ", ".") for name in EXTENSIONS} == set(project["project"]["entry-points"][GROUP])


def test_output_that_cannot_be_written_is_told_in_a_line() -> None:
    command = [str(Path(sys.executable).with_name("sluicegate")), "policy", "--help"]
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)

    assert (result.returncode, result.stderr) == (2, "sluicegate: input or output failed: No space left on device\n")
