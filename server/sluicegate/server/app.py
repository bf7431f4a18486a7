"""The composition root: builds the server in order, runs it, and takes it down in the opposite order.

Everything that opens something is entered into one exit stack as it opens, so that whatever fails half-way, and
whatever ends the server, closes exactly what was open.
"""

from __future__ import annotations

import asyncio
import functools
import math
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from sluicegate.auth import (
    JwksFile,
    JwksUrl,
    KeyRing,
    KeySetError,
    KeySetOrigin,
    OidcDiscovery,
    Policy,
    PolicyWatch,
    Problem,
    TokenVerifier,
    TrustedIssuer,
    TrustRoot,
    trust_root,
)
from sluicegate.server import config
from sluicegate.server.access import Access
from sluicegate.server.audit_setup import opened_auditing, recorded_calls
from sluicegate.server.background import Keep
from sluicegate.server.cancelling import Cancelling
from sluicegate.server.catalog import Catalog
from sluicegate.server.changes import Changes
from sluicegate.server.closing import Closing
from sluicegate.server.engine.engines import Engines
from sluicegate.server.engine.messages import Load
from sluicegate.server.engine.process import process_launcher
from sluicegate.server.engine.supervisor import Engine, Launch
from sluicegate.server.engine_setup import build_engines, model_loads, reload, worker_arguments
from sluicegate.server.errors import SettingsError
from sluicegate.server.evidence_figures import EvidenceFigures
from sluicegate.server.findings_setup import opened_findings, watched_duties
from sluicegate.server.gate import Gate
from sluicegate.server.generation import Generations
from sluicegate.server.hosting import Hosting
from sluicegate.server.judging import Judge
from sluicegate.server.limiters import DenialLimiter, Limiters, Networks, PeerLimiter
from sluicegate.server.live import LiveCalls
from sluicegate.server.metering import Meter
from sluicegate.server.metrics_setup import Endpoint
from sluicegate.server.models import Models
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.operating import Operating
from sluicegate.server.policy_figures import PolicyFigures
from sluicegate.server.queueing import Queue
from sluicegate.server.quota_figures import QuotaFigures
from sluicegate.server.requirements import watched_requirements
from sluicegate.server.rpc.access import AccessServicer
from sluicegate.server.rpc.authenticator import Authenticator
from sluicegate.server.rpc.drain import Draining
from sluicegate.server.rpc.engine import EngineServicer
from sluicegate.server.rpc.findings import FindingServicer
from sluicegate.server.rpc.generation import GenerationServicer
from sluicegate.server.rpc.health import HealthServicer
from sluicegate.server.rpc.listener import Build, add_services, bind, build_server
from sluicegate.server.rpc.methods import caller_services, operator_services
from sluicegate.server.rpc.models import ModelServicer
from sluicegate.server.rpc.operators import OperatorListener
from sluicegate.server.rpc.peer import Peers
from sluicegate.server.rpc.probes import ProbeListener
from sluicegate.server.rpc.provenance import ProvenanceServicer
from sluicegate.server.rpc.release import ReleaseServicer
from sluicegate.server.rpc.tls import server_credentials
from sluicegate.server.rpc.withdrawals import WithdrawalServicer
from sluicegate.server.scoring import Scoring
from sluicegate.server.serving import Serving
from sluicegate.server.signals import Lexicon
from sluicegate.server.signals_setup import lexicon_of, opened_signals
from sluicegate.server.simulating import Simulating
from sluicegate.server.stages import Stages
from sluicegate.server.state import Store, patiently
from sluicegate.server.state_setup import opened_store
from sluicegate.server.tokenizer import Tokenizer
from sluicegate.server.tokenizing import Tokenizing
from sluicegate.server.tracing_setup import opened_tracing
from sluicegate.server.watermark import Keyring
from sluicegate.server.watermark_setup import detecting_of, keyring_of
from sluicegate.server.withdrawing import PolicyInForce, WithdrawalWatch

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A server that takes calls. `failed` is set if a part of it that must not end has ended."""

    address: str
    metrics_address: str | None
    health_address: str | None
    operators_address: str | None
    draining: Draining
    failed: asyncio.Event


@asynccontextmanager
async def running(
    settings: config.Settings, launch: Launch | None = None, clock: Callable[[], float] = time.time
) -> AsyncIterator[Running]:
    """Start a server; it stops when the context is left, at once unless it was drained before.

    `launch` starts engines, by default each in a process of its own. Raises SettingsError, PolicyError,
    KeySetError, StateError, AuditError, CheckpointError, ModelLoadError and EngineLost, each with what to do, and
    leaves nothing behind.
    """
    async with AsyncExitStack() as stack:
        lexicon, keyring = await asyncio.to_thread(_read_files, settings)
        metrics, changes, failed = Metrics(flagged_categories=lexicon.categories), Changes(), asyncio.Event()
        instance = socket.gethostname() if settings.audit == "off" else settings.audit.replica
        tracing = await stack.enter_async_context(opened_tracing(settings.tracing, instance))
        metrics_address = stack.enter_context(Endpoint(settings.metrics).opened(metrics))

        def changed() -> None:
            """Another policy is in force: one was loaded, or the withdrawals narrow it otherwise than before."""
            policy_figures.show()
            changes.announce()

        watch = _watch_policy(settings.policy, metrics, changed)
        in_force = PolicyInForce(lambda: watch.current)
        policy_figures = PolicyFigures(in_force, metrics, clock)
        loads = model_loads(settings, watch.current, keyring)
        verifier = await _verifier(stack, settings.tokens, metrics, clock, failed)
        _keep(stack, watch.run, "policy", failed)
        store = await _open_store(stack, settings.state, clock)
        withdrawals = WithdrawalWatch(store, in_force, on_change=changed)
        await patiently(withdrawals.refresh)
        keep = functools.partial(_keep, stack, failed=failed)
        opened = opened_auditing(settings, store, in_force, metrics, clock=clock, keep=keep)
        auditing = await stack.enter_async_context(opened)
        _keep(stack, lambda: auditing.run(changes, lambda: withdrawals.version), "audit", failed)
        _keep(stack, withdrawals.run, "withdrawals", failed)
        metrics.control.withdrawals_age_seconds.set_function(lambda: withdrawals.age_seconds or 0.0)
        keep(policy_figures.run, "policy figures")
        meter = _open_meter(keep, store, in_force, metrics)

        authenticator = Authenticator(verifier, Peers(settings.trusted_proxies), in_force)
        limiters = _limiters(settings.limits, clock)
        build = functools.partial(build_server, settings, limiters, metrics=metrics, auditing=auditing, tracing=tracing)
        server, address = _callers(stack, settings, build, authenticator)
        probes = _probes(stack, settings.health.listen)
        operators = _operators(stack, settings, build, Authenticator(verifier, Peers(), in_force))

        monitor = await opened_signals(stack, settings, store, lexicon, metrics, clock=clock, keep=keep)
        launcher = launch or process_launcher(arguments=worker_arguments(settings))
        models = await _open_models(
            stack, loads, build_engines(settings.engine, loads, launcher, metrics, changes), in_force, keyring
        )
        gate = Gate(
            in_force,
            metrics,
            clock,
            withdrawals_age=lambda: withdrawals.age_seconds,
            on_allowed=monitor.allowed,
            keyring=keyring,
        )
        queue, live = Queue(settings.limits.queued_requests, settings.limits.queued_share), LiveCalls()
        judge, duties = _open_judge(keep, gate, changes), watched_duties(keep, store, in_force, metrics, clock)
        serving = Serving(
            gate, models, metrics, queue, live, judge, meter, monitor, lexicon, settings.limits.call_seconds
        )
        catalog = _open_catalog(keep, gate, models, changes, metrics)
        health = HealthServicer(
            tuple(service.full_name for service in caller_services()), authenticator, gate, models, changes
        )
        add_services(
            server,
            generation=GenerationServicer(
                Generations(serving),
                Scoring(serving),
                Tokenizing(serving),
                Cancelling(live),
                stalled_reader_seconds=settings.limits.stalled_reader_seconds,
            ),
            models=ModelServicer(catalog),
            access=AccessServicer(Access(gate, meter, duties)),
            provenance=ProvenanceServicer(detecting_of(settings, gate, models, keyring, metrics, clock=clock)),
            release=ReleaseServicer(
                Stages(
                    gate,
                    _trust(settings.policy),
                    watched_requirements(keep, store, in_force, metrics, changes),
                ),
                Simulating(
                    gate, _trust(settings.policy), watch.widening_problem, recorded_calls(settings.audit, auditing)
                ),
            ),
            withdrawals=WithdrawalServicer(
                Closing(
                    store,
                    withdrawals,
                    gate,
                    _trust(settings.policy),
                    auditing,
                    issuers=[each.issuer for each in settings.tokens.issuers],
                    clock=clock,
                ),
                max_lifetime_seconds=settings.tokens.max_lifetime_seconds,
                clock=clock,
            ),
            findings=FindingServicer(
                await opened_findings(
                    settings.findings, store, gate, models, auditing=auditing, metrics=metrics, clock=clock
                ),
                duties,
            ),
            health=health,
            with_reflection=settings.reflection,
        )
        await server.start()
        await probes.start(health)
        draining = Draining(server, health, catalog, live, settings.drain)
        await operators.start(
            EngineServicer(
                Operating(models, live, auditing, draining.ask),
                Hosting(
                    models,
                    live,
                    auditing,
                    in_force,
                    functools.partial(reload, settings, keyring),
                    grace_seconds=settings.drain.grace_seconds,
                ),
                settings.drain,
            )
        )
        log.info(
            "serving",
            address=address,
            metrics=metrics_address,
            health=probes.address,
            operators=operators.address,
            models=list(models.hosted),
            stage=in_force().stage.id,
        )
        yield Running(
            address,
            metrics_address,
            probes.address,
            operators.address,
            draining,
            failed,
        )


def _read_files(settings: config.Settings) -> tuple[Lexicon, Keyring]:
    """What is read once and kept. Blocks. Raises SettingsError."""
    return lexicon_of(settings.signals), keyring_of(settings.watermark)


def _probes(stack: AsyncExitStack, listen: str | None) -> ProbeListener:
    """Take the port of probes. It closes late: while the server drains, they hear that it does not serve."""
    probes = ProbeListener(listen)
    stack.push_async_callback(probes.stop)
    return probes


def _callers(
    stack: AsyncExitStack, settings: config.Settings, build: Build, authenticator: Authenticator
) -> tuple[grpc.aio.Server, str]:
    """A server at the callers' port, and its address."""
    server = build(authenticator, caller_services())
    stack.push_async_callback(server.stop, None)
    return server, bind(server, "listen", settings.listen, server_credentials("tls", settings.tls))


def _operators(
    stack: AsyncExitStack, settings: config.Settings, build: Build, authenticator: Authenticator
) -> OperatorListener:
    """Take the operators' port. It closes late: operators see a drain to its end."""
    listener = OperatorListener(build(authenticator, operator_services()), settings)
    stack.push_async_callback(listener.stop)
    return listener


def _watch_policy(settings: config.Policy, metrics: Metrics, changed: Callable[[], None]) -> PolicyWatch:
    """The policy with its hot reload, and which names each revision allows in metrics. Raises PolicyError."""
    trust = _trust(settings)

    def allow(policy: Policy) -> None:
        if policy.evidence.unusable:
            log.warning("evidence_unusable", files=dict(policy.evidence.unusable))
        metrics.allow(policy.models, {agreement.partner for agreement in policy.agreements.values()})

    def take(policy: Policy) -> None:
        log.info("policy_loaded", revision=policy.shown_revision, stage=policy.stage.id)
        allow(policy)
        metrics.control.policy_reloads.labels("loaded").inc()
        changed()

    def refuse(problems: Sequence[Problem]) -> None:
        log.error("policy_refused", problems=[str(problem) for problem in problems])
        metrics.control.policy_reloads.labels("refused").inc()

    watch = PolicyWatch(
        settings.directory, trust, on_change=take, on_failure=refuse, interval_seconds=settings.reload_seconds
    )
    allow(watch.current)
    metrics.control.policy_refused.set_function(lambda: float(bool(watch.problems)))
    metrics.control.policy_signed.set(trust is not None)
    if trust is None:
        log.warning("policy_signatures_off", advice="anyone who can write the policy can open a model")
    return watch


def _trust(settings: config.Policy) -> TrustRoot | None:
    """Who may sign. Raises ConfigurationError."""
    if settings.signatures == "off":
        return None
    root = settings.signatures
    return trust_root(root.deployment, {signer.id: signer.public_key for signer in root.signers}, root.threshold)


async def _open_store(stack: AsyncExitStack, state: config.State, clock: Callable[[], float]) -> Store:
    """The state store, by its own clock unless a test has another. Raises SettingsError and StateError."""
    store = await opened_store(state, None if clock is time.time else clock)
    stack.push_async_callback(store.close)
    return store


async def _open_models(
    stack: AsyncExitStack,
    loads: Sequence[Load],
    engines: Sequence[Engine],
    policy: Callable[[], Policy],
    keyring: Keyring,
) -> Models:
    """The models, once each of them answers. Raises CheckpointError, ModelLoadError and EngineLost."""
    tokenizers = {load.model: await asyncio.to_thread(Tokenizer.load, Path(load.directory)) for load in loads}
    return Models(await stack.enter_async_context(Engines(engines)), tokenizers, policy, keyring)


def _open_meter(keep: Keep, store: Store, policy: Callable[[], Policy], metrics: Metrics) -> Meter:
    """What keeps calls within their quotas, and shows how much of them is used."""
    figures = QuotaFigures(store, policy, metrics)
    meter = Meter(store, policy, on_call=figures.hear)
    keep(figures.run, "quota figures")
    keep(meter.run, "quotas")
    return meter


def _open_judge(keep: Keep, gate: Gate, changes: Changes) -> Judge:
    """What judges running calls again at each change."""
    judge = Judge(gate)
    keep(lambda: judge.run(changes), "judge")
    return judge


def _open_catalog(keep: Keep, gate: Gate, models: Models, changes: Changes, metrics: Metrics) -> Catalog:
    """What shows models; what evidence says of those that are served is kept in the metrics."""
    keep(EvidenceFigures(lambda: gate.policy, models.weights, metrics).run, "evidence figures")
    return Catalog(gate, models, changes)


def _limiters(limits: config.Limits, clock: Callable[[], float]) -> Limiters:
    networks = Networks(limits.peer_ipv4_prefix, limits.peer_ipv6_prefix)
    return Limiters(
        PeerLimiter(limits.peer_calls_per_minute, networks, clock),
        DenialLimiter(limits.denials_per_minute, networks, clock),
    )


async def _verifier(
    stack: AsyncExitStack,
    tokens: config.Tokens,
    metrics: Metrics,
    clock: Callable[[], float],
    failed: asyncio.Event,
) -> TokenVerifier:
    """The verifier over every issuer's keys, refreshed in the background.

    A key file must be good now. An issuer may be down: tokens are refused (KEYS_STALE) until it answers.
    """
    rings: list[KeyRing] = []
    trusted: list[TrustedIssuer] = []
    for index, issuer in enumerate(tokens.issuers):
        ring = KeyRing(_key_origin(issuer), on_failure=_warn_of_keys)
        try:
            await ring.refresh()
        except KeySetError as error:
            if issuer.keys.file is not None:
                raise SettingsError([f"tokens.issuers.{index}.keys.file: {error}"]) from error
            _warn_of_keys(error)
        rings.append(ring)
        algorithms = frozenset(algorithm.value for algorithm in issuer.algorithms)
        trusted.append(TrustedIssuer(issuer.issuer, issuer.audience, algorithms, ring))
        _keep(stack, ring.run, "keys", failed)
    metrics.control.keys_age_seconds.set_function(
        lambda: max(math.inf if ring.age_seconds is None else ring.age_seconds for ring in rings)
    )
    return TokenVerifier(trusted, clock=clock, max_lifetime_seconds=tokens.max_lifetime_seconds)


def _key_origin(issuer: config.Issuer) -> KeySetOrigin:
    """Where the issuer's keys come from. Raises ConfigurationError for a URL that must not be asked."""
    if issuer.keys.file is not None:
        return JwksFile(issuer.keys.file)
    if issuer.keys.url is not None:
        return JwksUrl(issuer.keys.url)
    return OidcDiscovery(issuer.issuer)


def _warn_of_keys(error: KeySetError) -> None:
    log.error("keys_not_refreshed", problem=str(error))


def _keep(
    stack: AsyncExitStack, work: Callable[[], Coroutine[object, object, None]], name: str, failed: asyncio.Event
) -> None:
    """Run a background task until the stack closes. If it ends before, `failed` is set: checks would go stale."""

    async def run() -> None:
        try:
            await work()
        except Exception:
            log.exception("background_task_failed", task=name)
            failed.set()

    task = asyncio.create_task(run(), name=name)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)
