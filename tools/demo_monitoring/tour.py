"""Plays the acts, shows what comes of each as it comes, and ends with the table of all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sluicegate.server.demo.narrator import Narrator
from tools.demo_monitoring.acts import Act, Stage
from tools.demo_monitoring.configs import RUNBOOKS
from tools.demo_monitoring.lookout import Lookout
from tools.demo_monitoring.runbooks import first_advice
from tools.demo_monitoring.verdict import missing, rows

LIMIT_SECONDS = 45.0
"""For an act's alerts, from its last call on; on a free machine they take a third of it."""
QUIET_SECONDS = 7.0
"""How long an act is watched of which nothing must come: longer than any alert about misuse waits."""
_LOOK_SECONDS = 0.25


class Tour:
    """One walk through the acts."""

    def __init__(self, narrator: Narrator, lookout: Lookout, stage: Stage) -> None:
        self._narrator = narrator
        self._lookout = lookout
        self._stage = stage
        self._begun: list[float] = []

    async def give(self, acts: Sequence[Act]) -> list[str]:
        """All acts and the table. Gives everything that was not as narrated."""
        problems: list[str] = []
        for number, act in enumerate(acts, start=1):
            self._narrator.title(f"{number} of {len(acts)}: {act.title}")
            self._narrator.say(act.say)
            for problem in await self._play(act):
                self._narrator.bad(f"NOT AS NARRATED: {problem}")
                problems.append(f"{act.title}: {problem}")
            if act.advice is not None:
                self._narrator.say(f"The runbook, {RUNBOOKS / act.advice}.md, begins with:")
                self._narrator.aside(first_advice(act.advice))
            self._narrator.end_step()
        await self._watch(QUIET_SECONDS)
        return problems + self._conclude(acts)

    async def _play(self, act: Act) -> Sequence[str]:
        """Do it and see what comes of it; what does not come shows in the table."""
        loop = asyncio.get_running_loop()
        self._begun.append(loop.time())
        driving = asyncio.ensure_future(act.drive(self._stage))
        try:
            while not driving.done():
                await self._look()
            self._tell("the last call has ended")
            limit = loop.time() + LIMIT_SECONDS
            while missing(act.scenario, self._lookout.board) and loop.time() < limit:
                await self._look()
        finally:
            driving.cancel()
        if not act.scenario.expects:
            await self._watch(QUIET_SECONDS)
            if not self._lookout.board.told:
                self._tell("nobody was told anything")
        return driving.result()

    async def _watch(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() + seconds
        while loop.time() < limit:
            await self._look()

    async def _look(self) -> None:
        for sentence in await self._lookout.look():
            self._tell(sentence)
        await asyncio.sleep(_LOOK_SECONDS)

    def _tell(self, sentence: str) -> None:
        after = asyncio.get_running_loop().time() - self._begun[-1]
        self._narrator.aside(f"{after:5.1f} s  {sentence}")

    def _conclude(self, acts: Sequence[Act]) -> list[str]:
        found = rows([act.scenario for act in acts], self._begun, self._lookout.board)
        self._narrator.title("What was seen")
        self._narrator.table(
            ("scenario", "expected", "seen", "verdict"),
            [
                (row.scenario, row.expected, row.seen, "NOT AS NARRATED" if row.problems else "as narrated")
                for row in found
            ],
        )
        self._narrator.end_step()
        return [f"{row.scenario}: {problem}" for row in found for problem in row.problems]
