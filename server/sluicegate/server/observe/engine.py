"""Has the engine room? Figures that an engine sends after each step, and whether its models answer."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluicegate.server.engine.messages import Figures
from sluicegate.server.observe.labels import ClosedSets
from sluicegate.server.observe.latency import PER_TOKEN_SECONDS

STEP_SECONDS = PER_TOKEN_SECONDS
ACCEPTED, REJECTED = "accepted", "rejected"
BATCH_ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256]


class EngineMetrics:
    """Figures of the engines by model."""

    def __init__(self, registry: CollectorRegistry, labels: ClosedSets) -> None:
        self._labels = labels
        self.queue_length = Gauge(
            "sluicegate_engine_queue_length", "Requests that wait for slots.", ["model"], registry=registry
        )
        self.sequences_running = Gauge(
            "sluicegate_engine_sequences_running", "Sequences that hold a slot.", ["model"], registry=registry
        )
        self.slots_used = Gauge(
            "sluicegate_engine_slots_used_ratio", "Share of the slots in use.", ["model"], registry=registry
        )
        self.step_seconds = Histogram(
            "sluicegate_engine_step_duration_seconds",
            "Time of one forward pass with its sampling.",
            ["model"],
            buckets=STEP_SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "sluicegate_engine_batch_size",
            "Sequences in one forward pass.",
            ["model"],
            buckets=BATCH_ROWS,
            registry=registry,
        )
        self.prefill_tokens = Counter(
            "sluicegate_engine_prefill_tokens", "Prompt tokens fed.", ["model"], registry=registry
        )
        self.cached_tokens = Counter(
            "sluicegate_prefix_cached_tokens",
            "Prompt tokens that were not fed, since an earlier prompt had begun with them.",
            ["model"],
            registry=registry,
        )
        self.steps_out_of_memory = Counter(
            "sluicegate_engine_steps_out_of_memory",
            "Steps that were given up for want of memory, and run again in smaller ones.",
            ["model"],
            registry=registry,
        )
        self.speculative_tokens = Counter(
            "sluicegate_speculative_tokens",
            "Tokens that a drafter guessed, by what became of them.",
            ["model", "outcome"],
            registry=registry,
        )
        self.model_ready = Gauge(
            "sluicegate_model_ready", "1 while the model answers, else 0.", ["model"], registry=registry
        )
        self.restarts = Counter(
            "sluicegate_engine_restarts", "Engine processes that were lost and restarted.", registry=registry
        )

    def take_figures(self, figures: Figures) -> None:
        """Take what an engine says after a step."""
        model = self._labels.model(figures.model)
        self.queue_length.labels(model).set(figures.queued)
        self.sequences_running.labels(model).set(figures.running)
        self.slots_used.labels(model).set(figures.running / figures.slots)
        self.steps_out_of_memory.labels(model).inc(figures.out_of_memory)
        if figures.batch_rows:
            self.step_seconds.labels(model).observe(figures.step_seconds)
            self.batch_rows.labels(model).observe(figures.batch_rows)
            self.prefill_tokens.labels(model).inc(figures.prefill_tokens)
            self.cached_tokens.labels(model).inc(figures.cached_tokens)
            rejected = figures.drafted_tokens - figures.accepted_tokens
            self.speculative_tokens.labels(model, ACCEPTED).inc(figures.accepted_tokens)
            self.speculative_tokens.labels(model, REJECTED).inc(rejected)

    def take_state(self, name: str, *, is_ready: bool) -> None:
        """Take whether a model answers; one that does not has nothing queued and nothing running."""
        model = self._labels.model(name)
        self.model_ready.labels(model).set(is_ready)
        if not is_ready:
            for gauge in (self.queue_length, self.sequences_running, self.slots_used):
                gauge.labels(model).set(0)

    def create(self, models: Iterable[str]) -> None:
        """Create the series of these models."""
        for model in models:
            for gauge in (self.queue_length, self.sequences_running, self.slots_used, self.model_ready):
                gauge.labels(model)
            self.step_seconds.labels(model)
            self.batch_rows.labels(model)
            self.prefill_tokens.labels(model)
            self.cached_tokens.labels(model)
            self.steps_out_of_memory.labels(model)
            for outcome in (ACCEPTED, REJECTED):
                self.speculative_tokens.labels(model, outcome)
