from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tour_fakes import FakeShell, guide

from sluicegate.server.demo.server import Addresses
from sluicegate.server.demo.shell import Outcome
from sluicegate.server.demo.steps import Advice, Command, Step
from sluicegate.server.demo.tour import Chapter, chapters, issue_token, own_turn, run_tour
from sluicegate.server.demo.world import CALLERS, World

ADDRESSES = Addresses("127.0.0.1:50051", "127.0.0.1:9464")


def steps(world: World, *, has_grpcurl: bool) -> list[Step]:
    return [step for chapter in chapters(world, ADDRESSES, has_grpcurl=has_grpcurl) for step in chapter.steps]


def test_a_tour_with_no_mismatch_has_no_problems() -> None:
    shell = FakeShell(Outcome(0, "one"), Outcome(4, "two"))
    tour = [Chapter("First", (Command(say="", line="a"), Command(say="", line="b", exit_code=4)))]

    assert run_tour(tour, guide(shell)) == []


def test_a_mismatch_is_told_and_the_tour_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    shell = FakeShell(Outcome(1, "one"), Outcome(0, "two"))
    tour = [Chapter("First", (Command(say="", line="a"),)), Chapter("Second", (Command(say="", line="b"),))]

    problems = run_tour(tour, guide(shell))

    assert problems == ["First: ended with exit code 1, not 0"]
    assert shell.lines == ["a", "b"]
    assert "NOT AS NARRATED: ended with exit code 1, not 0" in capsys.readouterr().out


def test_no_command_of_the_tour_has_a_token_in_it(world: World) -> None:
    tokens = [world.token(caller).read_text().strip() for caller in CALLERS]
    lines = [step.line for step in steps(world, has_grpcurl=True) if isinstance(step, Command)]

    shown = [line for line in lines if any(token in line for token in tokens)]

    assert lines
    assert shown == []


def test_every_token_file_that_a_command_names_exists(world: World) -> None:
    lines = [step.line for step in steps(world, has_grpcurl=True) if isinstance(step, Command)]

    files = {name for line in lines for name in re.findall(r"--token-file ([^\s)]+)", line)}

    assert {Path(name) for name in files} == {world.token(caller) for caller in CALLERS}
    assert all(Path(name).is_file() for name in files)


def test_without_grpcurl_its_commands_are_shown_and_not_run(world: World) -> None:
    with_it = [step.line for step in steps(world, has_grpcurl=True) if isinstance(step, Command)]

    (advice,) = [step for step in steps(world, has_grpcurl=False) if isinstance(step, Advice)]

    assert advice.lines == tuple(line for line in with_it if "grpcurl -plaintext" in line)
    assert len(advice.lines) == 3


def test_commands_keep_paths_with_spaces_in_one_word() -> None:
    world = World(Path("my demo"))

    lines = [*own_turn(world, ADDRESSES, Path("/opt/my venv/bin")), issue_token(world, CALLERS[0])]

    assert any("'my demo/tokens/visitor'" in line for line in lines)
    assert all("my demo" in shlex.split(line, comments=True)[-1] for line in lines if line.startswith("tail"))
    assert "PATH='/opt/my venv/bin':\"$PATH\"" in lines[0]
