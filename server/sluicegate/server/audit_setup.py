"""Opens the audit log that the settings describe, with its head anchored in the state store. A part of app.py."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import structlog

from sluicegate.auth import Policy
from sluicegate.server import config
from sluicegate.server.anchoring import Anchoring
from sluicegate.server.audit import (
    Cause,
    Clock,
    Head,
    Hooks,
    Identity,
    Limits,
    OwnCalls,
    Pseudonyms,
    WithdrawalsInForce,
    has_forgotten,
    open_audit_log,
    read_key,
    read_secret,
)
from sluicegate.server.auditing import Auditing, NoLog
from sluicegate.server.background import Keep
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.state import Store, StoreUnsuitable

TRIAL = "trial"
"""The deployment's name where signatures are off, and with them its name."""

CLOSE_SECONDS = 5.0
"""For what the listener has cancelled to come to its end."""

log = structlog.get_logger()


def _hooks(metrics: Metrics, anchoring: Anchoring) -> Hooks:
    """Failures are counted, and logged once until the log is written again; heads are kept."""
    failing: set[Cause] = set()

    def on_failure(cause: Cause) -> None:
        metrics.control.audit_failures.labels(cause).inc()
        if cause not in failing:
            failing.add(cause)
            log.error("audit_log_not_written", cause=cause.value)

    def on_checkpoint(head: Head) -> None:
        if failing:
            failing.clear()
            log.info("audit_log_written_again")
        anchoring.keep(head)

    return Hooks(on_failure=on_failure, anchor=on_checkpoint)


def recorded_calls(terms: config.Audit | Literal["off"], auditing: Auditing) -> OwnCalls | None:
    """The calls that this replica has on record, to be replayed; None where there is no log."""
    return None if terms == "off" else OwnCalls(terms.directory, auditing.names)


async def _require(store: Store, told: WithdrawalsInForce) -> None:
    """Raise StoreUnsuitable for a store that lacks the withdrawals that this replica went by, StateUnavailable."""
    if await has_forgotten(store, told):
        raise StoreUnsuitable(
            f"the state store has forgotten withdrawals: this replica went by change {told.change} of the withdrawals "
            f"in store {told.store}, which it does not know. Was it restored from an older copy? Look for the newer "
            "one. If there is none, make the withdrawals again that the audit logs of all replicas show since, where "
            "callers do not reach this server, and start with `--new-state` once"
        )


@asynccontextmanager
async def opened_auditing(
    settings: config.Settings,
    store: Store,
    policy: Callable[[], Policy],
    metrics: Metrics,
    *,
    clock: Callable[[], float],
    keep: Keep,
) -> AsyncIterator[Auditing]:
    """What tells the log, which is closed with the context. Raises AuditError, SettingsError, StateError."""
    trust, limit = settings.policy.signatures, settings.limits.denials_per_minute
    metrics.control.audit_enabled.set(settings.audit != "off")
    if settings.audit == "off":
        log.warning("audit_off", advice="nothing will prove who was served what")
        yield Auditing(
            NoLog(), Pseudonyms(os.urandom(32)), policy, signatures_checked=trust != "off", denials_per_minute=limit
        )
        return
    terms = settings.audit
    names = Pseudonyms(read_secret(terms.secret))
    anchoring = Anchoring(store, terms.replica)
    anchored, others = await anchoring.kept()
    keep(anchoring.run, "audit anchors")
    async with open_audit_log(
        terms.directory,
        Identity(TRIAL if trust == "off" else trust.deployment, terms.replica),
        read_key(terms.key),
        limits=Limits(checkpoint_seconds=terms.checkpoint_seconds, file_bytes=terms.file_bytes),
        hooks=_hooks(metrics, anchoring),
        clock=Clock(unix=clock),
        anchored=anchored,
        others=others,
        must_be_anchored=not settings.state.is_new,
    ) as opened:
        if opened.last_withdrawals is not None and not settings.state.is_new:
            await _require(store, opened.last_withdrawals)
        metrics.control.audit_checkpoint_age_seconds.set_function(lambda: opened.last_checkpoint_age)
        auditing = Auditing(opened, names, policy, signatures_checked=trust != "off", denials_per_minute=limit)
        try:
            yield auditing
        finally:
            if not await auditing.ended(CLOSE_SECONDS):
                log.error("calls_left_open", advice="the next start writes them as interrupted")
