from __future__ import annotations

import asyncio

import pytest
from engine_lives import Answer, Lives, failed, loaded, settle, silent
from engine_streams import submission
from scripted_runner import scripted_load

from sluicegate.server.engine.engines import Engines
from sluicegate.server.engine.errors import EngineUnavailable, ModelLoadError
from sluicegate.server.engine.messages import Figures, Score, Scored, Submit
from sluicegate.server.engine.supervisor import Engine, ModelState


def hosting(*models: str, lives: Lives) -> Engine:
    return Engine([scripted_load(model) for model in models], lives.launch)


class Bench:
    """Two engines: the first hosts `one` and `two`, the second `three`."""

    def __init__(self, first: Answer = loaded, second: Answer = loaded) -> None:
        self.first, self.second = Lives(first), Lives(second)
        self.engines = Engines([hosting("one", "two", lives=self.first), hosting("three", lives=self.second)])


async def test_requests_go_to_the_engine_that_hosts_their_model() -> None:
    bench = Bench()
    async with bench.engines as engines:
        await engines.submit(submission("a", model="three"))
        scored = await engines.score(Score(request="b", model="two", ids=[1, 2]))

        assert [command.model for command in bench.second.last.sent if isinstance(command, Submit)] == ["three"]
        assert [command.model for command in bench.first.last.sent if isinstance(command, Score)] == ["two"]
        assert scored == Scored(request="b", logprobs=[-0.5], top=[()])


async def test_a_model_that_no_engine_hosts_is_unavailable_and_not_ready() -> None:
    bench = Bench()
    async with bench.engines as engines:
        with pytest.raises(EngineUnavailable, match="four"):
            await engines.submit(submission(model="four"))
        with pytest.raises(EngineUnavailable, match="four"):
            await engines.score(Score(request="a", model="four", ids=[1, 2]))
        assert not engines.ready("four")
        assert engines.facts("four") is None


async def test_an_engine_that_dies_takes_only_its_own_models_with_it() -> None:
    bench = Bench()
    async with bench.engines as engines:
        bench.first.last.die()
        await settle()

        assert engines.states == {
            "one": ModelState.NOT_SERVING,
            "two": ModelState.NOT_SERVING,
            "three": ModelState.SERVING,
        }
        assert engines.ready("three")
        assert not engines.ready("one")


async def test_the_figures_are_those_of_all_engines() -> None:
    bench = Bench()
    one, three = (
        Figures(
            model=model, queued=0, running=1, slots=4, batch_rows=1, prefill_tokens=0, cached_tokens=0, step_seconds=0.5
        )
        for model in ("one", "three")
    )
    async with bench.engines as engines:
        bench.first.last.tell(one)
        bench.second.last.tell(three)

        assert engines.figures == {"one": one, "three": three}
        assert engines.models == ("one", "two", "three")


async def test_a_model_that_is_hosted_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="hosted twice"):
        Engines([hosting("one", lives=Lives()), hosting("one", lives=Lives())])


async def test_an_engine_that_cannot_start_stops_the_others_and_its_error_is_raised() -> None:
    bench = Bench(first=loaded, second=failed)

    with pytest.raises(ModelLoadError, match="three: no such directory"):
        await bench.engines.start()

    assert len(bench.first.last.stops) == 1
    assert len(bench.second.last.stops) == 1


async def test_an_engine_that_cannot_start_ends_the_loads_of_the_others() -> None:
    bench = Bench(first=silent, second=failed)

    with pytest.raises(ModelLoadError, match="three: no such directory"):
        await bench.engines.start()

    assert bench.first.last.stops == [0]


async def test_a_cancelled_start_leaves_nothing_running() -> None:
    bench = Bench(first=loaded, second=silent)
    starting = asyncio.create_task(bench.engines.start())
    await settle()

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert len(bench.first.last.stops) == 1
    assert len(bench.second.last.stops) == 1


async def test_closing_stops_every_engine_even_if_one_fails_to() -> None:
    bench = Bench()
    await bench.engines.start()
    bench.first.last.fault = OSError("cannot be removed")
    bench.second.last.may_stop.clear()
    closing = asyncio.create_task(bench.engines.aclose())
    await settle()
    assert not closing.done()

    bench.second.last.may_stop.set()
    with pytest.raises(OSError, match="cannot be removed"):
        await closing

    assert not bench.engines.ready("one")
    assert not bench.engines.ready("three")
