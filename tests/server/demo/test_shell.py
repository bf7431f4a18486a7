from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sluicegate.server.demo.errors import CommandStuck
from sluicegate.server.demo.shell import Outcome, Shell, environment


def shell(limit_seconds: float = 30.0) -> Shell:
    return Shell({"PATH": os.defpath, "GREETING": "good day"}, limit_seconds)


def state_of(process: int) -> str | None:
    """A process's state as Linux names it; None if there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def test_both_streams_are_shown_and_kept_in_order() -> None:
    shown: list[str] = []

    outcome = shell().run("echo one; echo two >&2; echo three; exit 4", shown.append)

    assert outcome == Outcome(4, "one\ntwo\nthree\n")
    assert "".join(shown) == outcome.output


def test_a_command_gets_the_variables_and_nothing_to_read() -> None:
    assert shell().run('cat; echo "$GREETING"', print) == Outcome(0, "good day\n")


def test_a_character_that_comes_in_two_pieces_is_whole() -> None:
    writer = "import os, time; os.write(1, b'\\xc3'); time.sleep(0.05); os.write(1, b'\\xa9\\xff')"

    outcome = shell().run(f'{sys.executable} -c "{writer}"', print)

    assert outcome.output == "é\N{REPLACEMENT CHARACTER}"


def test_output_comes_while_the_command_runs_and_an_interrupt_ends_it() -> None:
    program = "sleep 60 & echo begun; wait"
    asked: list[str] = []

    outcome = shell().run(f"trap 'echo caught; kill $!; exit 130' INT; {program}", asked.append, lambda: bool(asked))

    assert outcome == Outcome(130, "begun\ncaught\n")


def test_a_command_that_does_not_end_is_killed_with_all_that_it_started() -> None:
    shown: list[str] = []

    with pytest.raises(CommandStuck, match="did not end within"):
        shell(limit_seconds=0.5).run("sleep 60 & echo $!; wait", shown.append)

    (child,) = shown
    while state_of(int(child)) not in (None, "Z"):  # it is killed, which takes a moment, and then reaped by init
        pass


def test_a_failing_listener_ends_the_command() -> None:
    seen: list[int] = []

    def fail(piece: str) -> None:
        seen.append(int(piece))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shell().run("exec /bin/sh -c 'echo $$; sleep 60'", fail)

    assert state_of(seen[0]) is None


def test_the_environment_has_our_programs_first_and_no_foreign_settings() -> None:
    inherited = {"PATH": "/usr/bin", "LANG": "C.UTF-8", "SLUICEGATE_TOKEN": "secret", "SLUICEGATE_TLS": "1"}

    variables = environment(Path("/venv/bin"), "127.0.0.1:1", inherited)

    assert variables == {"PATH": "/venv/bin:/usr/bin", "LANG": "C.UTF-8", "SLUICEGATE_TARGET": "127.0.0.1:1"}
