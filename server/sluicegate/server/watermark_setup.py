"""The watermark keys that the settings name, and what looks for their marks. A part of app.py."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sluicegate.server import config
from sluicegate.server.detecting import Detecting
from sluicegate.server.errors import SettingsError
from sluicegate.server.gate import Gate
from sluicegate.server.models import Models
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.watermark import Keyring, WatermarkKeyError, read_keys

log = structlog.get_logger()


def keyring_of(settings: config.Watermark | None) -> Keyring:
    """Every key on file; none without the section. Raises SettingsError."""
    if settings is None:
        return Keyring()
    try:
        keys = read_keys(settings.keys)
    except WatermarkKeyError as error:
        raise SettingsError([f"watermark.keys: {error}"]) from error
    if not keys:
        raise SettingsError([f"watermark.keys: {settings.keys} holds no key; run: sluicegate watermark new-key"])
    for key in keys:
        log.info("watermark_key", model=key.model, epoch=key.epoch, id=key.id)
    return Keyring(keys)


def detecting_of(
    settings: config.Settings,
    gate: Gate,
    models: Models,
    keyring: Keyring,
    metrics: Metrics,
    *,
    clock: Callable[[], float],
) -> Detecting:
    """What looks for watermarks. Without the section it says of every model that it has no key."""
    return Detecting(
        gate,
        models,
        keyring,
        metrics,
        false_positive_rate=settings.watermark.false_positive_rate if settings.watermark is not None else 0.0,
        per_minute=settings.limits.detections_per_minute,
        clock=clock,
    )
