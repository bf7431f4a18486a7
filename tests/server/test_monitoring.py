from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
import pytest_asyncio
from harness import SMALL, TOKENIZER
from issuer import FakeClock

from sluicegate.auth import Audience, Grant, Peer, Quotas, anonymous
from sluicegate.server.caller import Caller
from sluicegate.server.limiters import Networks
from sluicegate.server.looking import Looking
from sluicegate.server.monitoring import TOLD_SECONDS, Monitoring
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.signals import PiiScanner, load_lexicon
from sluicegate.server.signals.sketches import Sketches
from sluicegate.server.signals.watcher import Watcher

GRANT = Grant(
    action="generate",
    model=SMALL,
    audience=Audience.PARTNER,
    stage="s1",
    policy_revision="1",
    agreement="agr-lab",
    partner="lab",
    max_output_tokens=None,
    watermark=False,
    redaction=None,
    stop_flagged=False,
    outside_hours=False,
    expires_at=0,
    quotas=Quotas(),
)
TEXT = "Write to jane.doe@example.org today, please."


@dataclass(slots=True)
class Watched:
    """A Monitoring of which everything is at hand; `held` keeps its thread until it is set."""

    monitoring: Monitoring
    metrics: Metrics
    watcher: Watcher
    clock: FakeClock
    held: threading.Event
    sketches: Sketches

    def hold(self, places: int) -> None:
        """Fill all places of the queue but so many."""
        for _ in range(8 - places):
            assert self.watcher.put(self.held.wait)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"sluicegate_{name}", labels)

    async def networks(self) -> int:
        figures = await self.watcher.run(lambda: self.sketches.figures(self.clock.now))
        return figures["lab"].networks_per_token_max if "lab" in figures else 0


@pytest_asyncio.fixture
async def watched() -> AsyncIterator[Watched]:
    lexicon, clock = load_lexicon(), FakeClock()
    metrics, watcher = Metrics(flagged_categories=lexicon.categories), Watcher(most_waiting=8)
    sketches = Sketches(bytes(32))
    metrics.allow([SMALL], ["lab"])
    looking = Looking(sketches, metrics, lexicon, PiiScanner, with_memorisation=True, clock=clock)
    monitoring = Monitoring(watcher, sketches, looking, metrics, networks=Networks(32, 64), clock=clock)
    held = threading.Event()
    yield Watched(monitoring, metrics, watcher, clock, held, sketches)
    held.set()
    await watcher.close(20)


def caller(address: str | None, token: str = "one") -> Caller:
    principal = replace(anonymous(), issuer="https://issuer.example", token_id=token, anonymous=False)
    return Caller(principal, Peer(None if address is None else ip_address(address)))


async def test_an_output_whose_prompt_was_left_out_is_looked_at(watched: Watched) -> None:
    watched.hold(places=0)
    with watched.monitoring.generation(GRANT, "A prompt.", TOKENIZER, 1) as observation:
        observation.begin()
        watched.held.set()
        await watched.watcher.run(lambda: None)
        observation.add(0, TEXT, -1.0)
    await watched.watcher.run(lambda: None)

    assert watched.value("signals_dropped_total", kind="prompt") == 1
    assert watched.value("prompts_seen_total", partner="lab") == 0
    assert watched.value("outputs_seen_total", partner="lab") == 1
    assert watched.value("pii_found_total", partner="lab", type="email") == 1


async def test_what_is_left_out_of_an_output_is_counted(watched: Watched) -> None:
    with watched.monitoring.generation(GRANT, "A prompt.", TOKENIZER, 2) as observation:
        observation.begin()
        await watched.watcher.run(lambda: None)
        watched.hold(places=1)
        observation.add(0, TEXT, None)
    watched.held.set()
    await watched.watcher.run(lambda: None)

    assert watched.value("signals_dropped_total", kind="output") == 2


async def test_a_call_that_was_not_served_leaves_nothing(watched: Watched) -> None:
    with watched.monitoring.generation(GRANT, "A prompt.", TOKENIZER, 1):
        pass
    await watched.watcher.run(lambda: None)

    assert watched.value("prompts_seen_total", partner="lab") == 0
    assert watched.value("outputs_seen_total", partner="lab") == 0


async def test_an_output_without_a_character_is_none(watched: Watched) -> None:
    with watched.monitoring.generation(GRANT, "A prompt.", TOKENIZER, 1) as observation:
        observation.begin()
    await watched.watcher.run(lambda: None)

    assert watched.value("prompts_seen_total", partner="lab") == 1
    assert watched.value("outputs_seen_total", partner="lab") == 0


async def test_networks_of_a_token_are_counted_once_each(watched: Watched) -> None:
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
        watched.monitoring.allowed(caller(address), GRANT)
    watched.monitoring.allowed(caller("192.0.2.3", token="two"), GRANT)

    assert await watched.networks() == 3


@pytest.mark.parametrize("who", [caller(None), Caller(anonymous(), Peer(ip_address("192.0.2.1")))])
async def test_who_has_no_token_or_no_address_has_no_network(watched: Watched, who: Caller) -> None:
    watched.monitoring.allowed(who, GRANT)

    assert await watched.networks() == 0


async def test_a_use_is_told_again_only_after_a_while(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[float]()
    monkeypatch.setattr(watched.sketches, "see_token", lambda _partner, _token, _network, now: told.append(now))
    begun = watched.clock.now
    for seconds in (0.0, 1.0, TOLD_SECONDS - 1, TOLD_SECONDS):
        watched.clock.now = begun + seconds
        watched.monitoring.allowed(caller("192.0.2.1"), GRANT)
    await watched.watcher.run(lambda: None)

    assert told == [begun, begun + TOLD_SECONDS]


async def test_a_use_that_is_left_out_is_counted_and_told_the_next_time(watched: Watched) -> None:
    watched.hold(places=0)
    watched.monitoring.allowed(caller("192.0.2.1"), GRANT)
    watched.held.set()
    await watched.watcher.run(lambda: None)

    assert watched.value("signals_dropped_total", kind="token") == 1
    assert await watched.networks() == 0
    watched.monitoring.allowed(caller("192.0.2.1"), GRANT)
    assert await watched.networks() == 1
