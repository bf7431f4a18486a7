"""A million steps of the scheduler under everything that can happen to it; what must hold is asserted after each."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from schedule_storm import Storm

from sluicegate.server.engine.messages import Finish

STEPS = 500_000

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3_600)]

Show = Callable[[str], None]


@pytest.mark.parametrize("speculates", [False, True], ids=["plain", "speculating"])
@pytest.mark.parametrize("has_rivals", [False, True], ids=["with calms", "with two that always wait"])
def test_half_a_million_steps(has_rivals: bool, speculates: bool, show: Show) -> None:
    storm = Storm(0, has_rivals=has_rivals, speculates=speculates)
    began = time.monotonic()

    storm.rage(STEPS)

    tally = storm.tally
    finishes = {finish.value: count for finish, count in tally.finishes.items() if finish is not None}
    show(
        f"{STEPS:,} steps in {time.monotonic() - began:.0f} s; {tally.requests:,} requests, ends {finishes}; "
        f"{tally.cached_tokens:,} tokens cached, {tally.steps_out_of_memory:,} steps out of memory, "
        f"{tally.accepted_tokens:,} guesses right"
    )
    if has_rivals:
        show(f"those that always wait got {dict(tally.served)} tokens, and differed by {tally.widest_lead} at most")
    assert set(tally.finishes) == {None, *Finish}
