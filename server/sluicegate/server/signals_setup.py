"""Puts the signals of misuse together: the thread, the sketches with their exchange, and what is looked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import structlog

from sluicegate.server import config
from sluicegate.server.background import Keep
from sluicegate.server.errors import SettingsError
from sluicegate.server.exchanging import Exchanging
from sluicegate.server.limiters import Networks
from sluicegate.server.looking import Looking
from sluicegate.server.monitoring import Monitor, Monitoring, Unwatched
from sluicegate.server.observe.labels import OTHER
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.signals import (
    Lexicon,
    LexiconError,
    PiiScanner,
    RecogniserUnavailable,
    Scanner,
    load_lexicon,
    open_presidio,
)
from sluicegate.server.signals.sketches import Figures, Sketches
from sluicegate.server.signals.watcher import Watcher
from sluicegate.server.state import Store, patiently

NOTHING = Figures(0.0, 0.0, 0, 0, 0)
CLOSE_SECONDS = 5.0
"""For what is still to be looked at when the server stops."""

log = structlog.get_logger()


def lexicon_of(settings: config.Signals) -> Lexicon:
    """The lexicon of the settings, else the built-in one. Blocks. Raises SettingsError with all that is wrong in it."""
    try:
        return load_lexicon(settings.lexicon)
    except LexiconError as error:
        raise SettingsError([f"signals.lexicon: {problem}" for problem in error.problems]) from error


async def opened_signals(
    stack: AsyncExitStack,
    settings: config.Settings,
    store: Store,
    lexicon: Lexicon,
    metrics: Metrics,
    *,
    clock: Callable[[], float],
    keep: Keep,
) -> Monitor:
    """What watches calls until the stack closes; the thread ends after the exchange, whose last word needs it.

    Raises SettingsError and StateError.
    """
    metrics.signals.enabled.set(settings.signals.enabled)
    if not settings.signals.enabled:
        log.warning("signals_off", advice="misuse is not looked for in prompts and outputs")
        return Unwatched()
    personal_data = await _recogniser(settings.signals)
    sketches, watcher = Sketches(await patiently(store.salt)), Watcher()
    stack.push_async_callback(_close, watcher)
    looking = Looking(sketches, metrics, lexicon, personal_data, settings.signals.memorisation, clock)
    exchanging = Exchanging(
        store, sketches, watcher.run, on_figures=lambda figures: _show(metrics, figures), clock=clock
    )
    metrics.signals.exchange_age_seconds.set_function(
        lambda: math.inf if exchanging.age_seconds is None else exchanging.age_seconds
    )
    keep(exchanging.run, "signals")
    networks = Networks(settings.limits.peer_ipv4_prefix, settings.limits.peer_ipv6_prefix)
    return Monitoring(watcher, sketches, looking, metrics, networks=networks, clock=clock)


async def _close(watcher: Watcher) -> None:
    if not await watcher.close(CLOSE_SECONDS):
        log.warning("signals_unfinished", advice="some of the last texts were not looked at")


async def _recogniser(settings: config.Signals) -> Callable[[], Scanner]:
    if settings.recognisers == "builtin":
        return PiiScanner
    try:
        return await asyncio.to_thread(open_presidio)
    except RecogniserUnavailable as error:
        raise SettingsError([f"signals.recognisers: {error}"]) from error


def _show(metrics: Metrics, figures: Mapping[str, Figures]) -> None:
    """Show the merged windows; a partner of whom nothing is left in them goes back to nothing."""
    for partner in (*metrics.labels.partners, OTHER):
        metrics.signals.take_figures(partner, figures.get(partner, NOTHING))
