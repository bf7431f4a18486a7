"""What settings and policy say of the engines: which models each loads, and within what limits. A part of app.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from msgspec import structs

from sluicegate.auth import Policy
from sluicegate.server import config
from sluicegate.server.changes import Changes
from sluicegate.server.checkpoints import checkpoint_bytes, locate
from sluicegate.server.engine.messages import Load, Speculation, WatermarkKey
from sluicegate.server.engine.supervisor import Engine, Launch, Limits, ModelState
from sluicegate.server.errors import SettingsError
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.watermark import Keyring

log = structlog.get_logger()


def model_loads(settings: config.Settings, policy: Policy, keyring: Keyring) -> list[Load]:
    """What the engines are to load, and mark by. Raises SettingsError, CheckpointError."""
    problems = [
        f"models.{model}: the policy has no such model; it has {', '.join(policy.models)}"
        for model in settings.models
        if model not in policy.models
    ]
    if problems:
        raise SettingsError(problems)
    return [model_load(settings, policy, keyring, model) for model in settings.load_order]


def model_load(settings: config.Settings, policy: Policy, keyring: Keyring, model: str) -> Load:
    """What an engine is to load as this model, which settings and policy have. Raises CheckpointError."""
    hosting = settings.models[model]
    entry, key = policy.models[model], keyring.marks(model)
    if entry.weights_sha256 is None:
        log.warning("weights_not_pinned", model=model, advice="give weights_sha256 in the policy")
    return Load(
        model=model,
        directory=str(locate(policy.weights_directory(model), entry.source)),
        weights_sha256=entry.weights_sha256,
        device=hosting.device,
        dtype=hosting.dtype,
        slots=None if hosting.slots == "auto" else hosting.slots,
        step_tokens=hosting.step_tokens,
        weight=hosting.weight,
        prefix_reuse=hosting.prefix_reuse,
        speculation=None
        if hosting.speculation is None
        else Speculation(draft=hosting.draft_model, tokens=hosting.speculation.tokens),
        watermark=None if key is None else WatermarkKey(key.layers, key.table_seed),
    )


def build_engines(
    settings: config.Engine, loads: Sequence[Load], launch: Launch, metrics: Metrics, changes: Changes
) -> list[Engine]:
    """One engine for each device; it hosts all models placed there."""

    def show(model: str, state: ModelState) -> None:
        metrics.engine.take_state(model, is_ready=state is ModelState.SERVING)
        changes.announce()

    return [
        Engine(
            share_memory([load for load in loads if load.device == device]),
            launch,
            limits=Limits(load_seconds=settings.load_seconds),
            on_figures=metrics.engine.take_figures,
            on_state=show,
            on_restart=metrics.engine.restarts.inc,
        )
        for device in dict.fromkeys(load.device for load in loads)
    ]


def share_memory(loads: Sequence[Load]) -> list[Load]:
    """The models of one device in an order, and with shares, that leave each of them room.

    First those whose slots are given. Each of the others then gets a part of what is free as large as its checkpoint
    is among those still to come: they need room for their weights, too.
    """
    given = [load for load in loads if load.slots is not None]
    counted = [load for load in loads if load.slots is None]
    sizes = [checkpoint_bytes(Path(load.directory)) for load in counted]
    shares = [size / (sum(sizes[place:]) or 1) for place, size in enumerate(sizes)]
    return [
        *given,
        *(structs.replace(load, memory_share=share) for load, share in zip(counted, shares, strict=True)),
    ]


def reload(settings: config.Settings, keyring: Keyring, policy: Policy, model: str, absent: Iterable[Load]) -> Load:
    """What is to be loaded as this model by settings and policy, which have it. Blocks. Raises CheckpointError.

    Of the free memory it gets a share that leaves room for the absent ones, which may come back to its engine.
    """
    load = model_load(settings, policy, keyring, model)
    shared = share_memory([load, *(other for other in absent if other.model != model)])
    return next(found for found in shared if found.model == model)


def worker_arguments(settings: config.Settings) -> list[str]:
    """What an engine process is told on its command line."""
    threads = [] if settings.engine.threads is None else ["--threads", str(settings.engine.threads)]
    paths = ["--kernels", settings.engine.kernels, "--graphs", settings.engine.graphs]
    return [*threads, *paths, "--log-level", settings.log.level, "--log-format", settings.log.format]
