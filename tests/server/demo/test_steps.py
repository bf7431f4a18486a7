from __future__ import annotations

import pytest
from tour_fakes import FakeShell, guide

from sluicegate.server.demo.shell import Outcome
from sluicegate.server.demo.steps import Advice, Command, Count, Interruption, StageChange

STREAM = Outcome(130, "It was\na truth\n")


def metrics(*, running: int, active: int, cancelled: int) -> str:
    return (
        f'sluicegate_engine_sequences_running{{model="demo-l"}} {running}.0\n'
        f'sluicegate_streams_active{{model="demo-l",partner="internal"}} {active}.0\n'
        f'sluicegate_streams_terminated_total{{cause="CANCELLED",model="demo-l"}} {cancelled}.0\n'
    )


IDLE = metrics(running=0, active=0, cancelled=0)
BUSY = metrics(running=1, active=1, cancelled=0)
FREE = metrics(running=0, active=0, cancelled=1)
INTERRUPTION = Interruption(say="", line="generate", model="demo-l")


def stage(name: str) -> str:
    return f'sluicegate_policy_info{{revision="0123",stage="{name}"}} 1.0\n'


@pytest.mark.parametrize(
    ("outcome", "problems"),
    [
        (Outcome(4, "refused: MODEL_NOT_RELEASED"), []),
        (Outcome(0, "refused: MODEL_NOT_RELEASED"), ["ended with exit code 0, not 4"]),
        (Outcome(4, "refused"), ["does not show 'MODEL_NOT_RELEASED'"]),
        (Outcome(4, "refused: MODEL_NOT_RELEASED demo-l"), ["shows 'demo-l'"]),
        (Outcome(4, "\n"), ["wrote nothing", "does not show 'MODEL_NOT_RELEASED'"]),
    ],
)
def test_a_command_is_held_to_its_exit_code_and_output(outcome: Outcome, problems: list[str]) -> None:
    step = Command(say="", line="ask", exit_code=4, shows=("MODEL_NOT_RELEASED",), hides=("demo-l",))

    assert step.run(guide(FakeShell(outcome))) == problems


def test_a_command_is_shown_as_it_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    shell = FakeShell(Outcome(0, "good\n"))

    Command(say="", line="sluicegate models --token-file 'a b'").run(guide(shell))

    assert shell.lines == ["sluicegate models --token-file 'a b'"]
    assert capsys.readouterr().out == "$ sluicegate models --token-file 'a b'\n    good\n"


def test_a_stream_is_interrupted_only_once_it_is_seen_to_run() -> None:
    shell = FakeShell(STREAM)

    problems = INTERRUPTION.run(guide(shell, [IDLE, IDLE, BUSY, BUSY, FREE]))

    assert problems == []
    assert shell.interrupted == ["exec generate"]


def test_a_stream_that_ends_before_it_is_seen_to_run_is_no_proof() -> None:
    shell = FakeShell(Outcome(0, "It was\na truth\n"))

    problems = INTERRUPTION.run(guide(shell, [IDLE]))

    assert problems == ["the stream ended before the metrics showed it running"]
    assert shell.interrupted == []


@pytest.mark.parametrize("after", [BUSY, IDLE, metrics(running=1, active=0, cancelled=1)])
def test_a_slot_that_stays_taken_is_a_problem(after: str) -> None:
    problems = INTERRUPTION.run(guide(FakeShell(STREAM), [IDLE, BUSY, after]))

    assert problems == ["the metrics did not show the slot of demo-l free again"]


def test_a_client_that_takes_ctrl_c_for_an_end_is_a_problem() -> None:
    problems = INTERRUPTION.run(guide(FakeShell(Outcome(0, "It was\n")), [IDLE, BUSY, FREE]))

    assert problems == ["ended with exit code 0, not 130"]


def test_a_stage_change_waits_for_the_server_to_take_it() -> None:
    step = StageChange(say="", line="sed", stage="s3")

    assert step.run(guide(FakeShell(Outcome(0, "")), [stage("s2"), stage("s2"), stage("s3")])) == ()


@pytest.mark.parametrize(
    ("exit_code", "problem"), [(0, "the server did not come to stage s3"), (2, "ended with exit code 2")]
)
def test_a_stage_change_that_has_no_effect_is_a_problem(exit_code: int, problem: str) -> None:
    step = StageChange(say="", line="sed", stage="s3")

    assert step.run(guide(FakeShell(Outcome(exit_code, "")), [stage("s2")])) == [problem]


def test_a_count_shows_what_is_not_zero(capsys: pytest.CaptureFixture[str]) -> None:
    step = Count(say="", line="curl", name="decisions_total", shows=('reason="NONE"', 'reason="LATE"'))
    reading = 'decisions_total{reason="NONE"} 2.0\ndecisions_total{reason="LATE"} 0.0\nother{reason="LATE"} 1.0\n'

    problems = step.run(guide(FakeShell(), [reading]))

    assert problems == ["does not show 'reason=\"LATE\"'"]
    assert capsys.readouterr().out == '$ curl\n    decisions_total{reason="NONE"} 2.0\n'


def test_advice_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shell = FakeShell()

    problems = Advice(say="", lines=("grpcurl list", "grpcurl call"), why="not there").run(guide(shell))

    assert (problems, shell.lines) == ((), [])
    assert capsys.readouterr().out == "$ grpcurl list\n$ grpcurl call\n    not there\n"
