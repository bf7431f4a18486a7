"""How fast is it for callers? The names are those of OpenTelemetry's conventions for generative AI."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram

REQUEST_SECONDS = [0.01 * 2**n for n in range(14)]
FIRST_TOKEN_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10]
PER_TOKEN_SECONDS = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1]


class LatencyMetrics:
    """Histograms in seconds, measured in the server, from a call's arrival on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        model = ["gen_ai_request_model"]
        self.request_seconds = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from a generation call's arrival to its end.",
            model,
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from a generation call's arrival to its first token.",
            model,
            buckets=FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self.per_token_seconds = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between two tokens of one call, after the first.",
            model,
            buckets=PER_TOKEN_SECONDS,
            registry=registry,
        )

    def create(self, models: Iterable[str]) -> None:
        """Create the series of these models."""
        for model in models:
            for histogram in (self.request_seconds, self.first_token_seconds, self.per_token_seconds):
                histogram.labels(model)
