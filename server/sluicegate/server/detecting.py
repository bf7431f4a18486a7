"""The use case of detection: which of our models, if any, marked a text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from sluicegate.auth import Principal, Reason
from sluicegate.server.errors import CallRefused
from sluicegate.server.gate import Gate
from sluicegate.server.limiters import Budgets
from sluicegate.server.models import Models
from sluicegate.server.observe.metrics import Metrics
from sluicegate.server.watermark import Detector, Keyring, Measurement, WatermarkKey, corrected

MOST_DETECTORS = 32
"""Kept ready, each with 4 MiB; to make one takes a tenth of a second."""


class Verdict(Enum):
    """What is said of a text, from the word that counts most to the one that counts least."""

    WATERMARKED = "watermarked"
    NOT_FOUND = "not_found"
    INSUFFICIENT_TEXT = "insufficient_text"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class WatermarkCheck:
    """What one key says; `key` is None for a model without one, and with it the p-value."""

    model: str
    key: WatermarkKey | None
    verdict: Verdict
    p_value: float | None = None
    scored_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Detection:
    """What all keys say. `checks`: the smallest p-value first, models without keys last."""

    checks: Sequence[WatermarkCheck]
    false_positive_rate: float

    @property
    def verdict(self) -> Verdict:
        """The verdict that counts most."""
        found = {check.verdict for check in self.checks}
        return next((verdict for verdict in Verdict if verdict in found), Verdict.UNSUPPORTED)


class Detecting:
    """Looks for watermarks. One for the process; event loop only, the work itself is done in a thread, text by text,
    whether or not its caller stays.

    `false_positive_rate`: of a whole text, whatever the number of keys. `per_minute`: texts of one client.
    """

    def __init__(
        self,
        gate: Gate,
        models: Models,
        keyring: Keyring,
        metrics: Metrics,
        *,
        false_positive_rate: float,
        per_minute: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._gate = gate
        self._models = models
        self._keyring = keyring
        self._metrics = metrics
        self._false_positive_rate = false_positive_rate
        self._budgets = Budgets(per_minute, clock)
        self._per_minute = per_minute
        self._one_at_a_time = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detecting")
        self._detector = lru_cache(maxsize=MOST_DETECTORS)(lambda key: Detector(key.scheme()))

    async def detect(self, caller: Principal, text: str, model: str | None) -> Detection:
        """Look for the watermarks of one model, or of all that the caller may know of.

        Raises CallRefused: for a model that is closed to the caller, and for one that does not exist, alike.
        """
        visible = self._gate.policy.visible_models(caller, self._gate.now())
        if model is not None and model not in visible:
            raise CallRefused(Reason.MODEL_NOT_RELEASED, {"stage": self._gate.policy.stage.id})
        self._spend(caller)
        models = visible if model is None else (model,)
        checks = await asyncio.get_running_loop().run_in_executor(self._one_at_a_time, self._check, text, models)
        for check in checks:
            self._metrics.provenance.take_check(self._metrics.model(check.model), check.verdict.value)
        return Detection(checks, self._false_positive_rate)

    def _spend(self, caller: Principal) -> None:
        client = (caller.issuer, caller.client_id)
        if wait := self._budgets.wait_seconds(client):
            raise CallRefused(Reason.REQUEST_RATE_LIMIT, {"limit": str(self._per_minute)}, retry_after_seconds=wait)
        self._budgets.spend(client)

    def _check(self, text: str, models: Sequence[str]) -> list[WatermarkCheck]:
        measured: list[tuple[WatermarkKey, Measurement]] = []
        unsupported: list[WatermarkCheck] = []
        for model in models:
            keys, tokenizer = self._keyring.all(model), self._models.tokenizer(model)
            if not keys or tokenizer is None:
                unsupported.append(WatermarkCheck(model, None, Verdict.UNSUPPORTED))
                continue
            ids = tokenizer.encode(text)
            measured += [(key, self._detector(key).measure(ids)) for key in keys]
        p_values = corrected([measurement.p_value for _, measurement in measured], len(measured))
        checks = [
            WatermarkCheck(key.model, key, self._verdict(measurement, p_value), p_value, measurement.scored)
            for (key, measurement), p_value in zip(measured, p_values, strict=True)
        ]
        return [*sorted(checks, key=lambda check: check.p_value or 0.0), *unsupported]

    def _verdict(self, measurement: Measurement, p_value: float) -> Verdict:
        if not measurement.is_enough:
            return Verdict.INSUFFICIENT_TEXT
        return Verdict.WATERMARKED if p_value <= self._false_positive_rate else Verdict.NOT_FOUND
