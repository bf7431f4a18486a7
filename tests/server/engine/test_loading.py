from __future__ import annotations

import threading

import pytest
from scripted_runner import ScriptedRunner, scripted_load

from sluicegate.server.engine.errors import ModelLoadError
from sluicegate.server.engine.loading import Start, in_loop, in_thread
from sluicegate.server.engine.runner import Runner


def test_in_the_loop_a_load_is_over_when_it_has_begun() -> None:
    runner = ScriptedRunner()

    future = in_loop(scripted_load(), lambda: runner)

    assert (future.done(), future.result()) == (True, runner)


def test_beside_the_loop_a_load_goes_on_by_itself() -> None:
    runner, may_end = ScriptedRunner(), threading.Event()

    def work() -> Runner:
        may_end.wait()
        return runner

    future = in_thread(scripted_load(), work)

    is_over = future.done()
    may_end.set()
    assert (is_over, future.result()) == (False, runner)


@pytest.mark.parametrize("start", [in_loop, in_thread])
def test_what_a_load_raises_is_told_to_who_takes_its_outcome(start: Start) -> None:
    def work() -> Runner:
        raise ModelLoadError("no such directory")

    with pytest.raises(ModelLoadError, match="no such directory"):
        start(scripted_load(), work).result()
