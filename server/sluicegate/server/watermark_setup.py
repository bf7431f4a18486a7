"""The watermark keys that the settings name. A part of app.py."""

from __future__ import annotations

import structlog

from sluicegate.server import config
from sluicegate.server.errors import SettingsError
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
