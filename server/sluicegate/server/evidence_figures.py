"""What evidence says of the weights that are served, for metrics: how biased they were found to be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping

from sluicegate.auth import Policy
from sluicegate.evidence import BiasEvidence
from sluicegate.server.observe.control import BIAS_SUITES
from sluicegate.server.observe.metrics import Metrics

REFRESH_SECONDS = 15.0


class EvidenceFigures:
    """Keeps the metrics of evidence. Event loop only; `run` it in the background.

    `weights` gives the digests of the weights that are served now, by model.
    """

    def __init__(
        self,
        policy: Callable[[], Policy],
        weights: Callable[[], Mapping[str, str]],
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._policy = policy
        self._weights = weights
        self._metrics = metrics
        self._sleep = sleep

    async def run(self) -> None:
        """Show what there is now, again and again until cancelled."""
        while True:
            self._metrics.control.take_bias_scores(dict(self._bias_scores()))
            await self._sleep(REFRESH_SECONDS)

    def _bias_scores(self) -> Iterator[tuple[tuple[str, str], float]]:
        """By suite and model."""
        evidence = self._policy().evidence
        for model, weights_sha256 in self._weights().items():
            for filed in evidence.latest(BiasEvidence, model, weights_sha256):
                suite, share = filed.evidence.suite.name, filed.evidence.figures.share
                if suite in BIAS_SUITES and share is not None:
                    yield (suite, model), share
