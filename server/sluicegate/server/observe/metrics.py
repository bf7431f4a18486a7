"""Every metric of the server, with its labels and buckets. The only home of prometheus_client, with exporter.py.

Label values come from closed sets (the policy's models and partners, enums); anything else is counted as `other`, so a
caller cannot create series. Children are made at start: a counter that is born at 1 never fires an `increase()` alert.
docs/metrics.md says which question each metric answers.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from sluicegate.auth import Reason
from sluicegate.server.engine.messages import Figures

OTHER = "other"
REQUEST_SECONDS = [0.01 * 2**n for n in range(14)]
FIRST_TOKEN_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10]
PER_TOKEN_SECONDS = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1]
STEP_SECONDS = PER_TOKEN_SECONDS
BATCH_ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
ACTIONS = ("generate", "score", "tokenize")
CANCELLED = "CANCELLED"
"""The cause of a stream that its client ended; every other cause is a Reason."""
NO_REASON = "NONE"
AUDIT_CAUSES = ("disk_full", "read_only", "io_error", "timeout", "queue_full", "closed")
"""Values of audit.Cause."""
GRPC_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "UNAUTHENTICATED",
)
"""The codes that this server answers with."""


class Metrics:
    """The registry and all its metrics. `models` and `partners` are the label values that a policy allows."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._models: frozenset[str] = frozenset()
        self._partners: frozenset[str] = frozenset()

        model = "gen_ai_request_model"
        self.request_seconds = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Time from a generation call's arrival to its end.",
            [model],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.first_token_seconds = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time from a generation call's arrival to its first token.",
            [model],
            buckets=FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self.per_token_seconds = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between two tokens of one call, after the first.",
            [model],
            buckets=PER_TOKEN_SECONDS,
            registry=registry,
        )
        rpc = ["grpc_service", "grpc_method"]
        self.rpcs_started = Counter("grpc_server_started", "RPCs begun.", rpc, registry=registry)
        self.rpcs_handled = Counter(
            "grpc_server_handled", "RPCs ended, by status code.", [*rpc, "grpc_code"], registry=registry
        )
        self.decisions = Counter(
            "sluicegate_decisions",
            "Access decisions, with the reason of a refusal.",
            ["decision", "reason", "model"],
            registry=registry,
        )
        self.requests = Counter(
            "sluicegate_requests",
            "Allowed requests.",
            ["partner", "model", "action"],
            registry=registry,
        )
        self.tokens = Counter(
            "sluicegate_tokens",
            "Tokens of prompts read (input) and of outputs generated (output).",
            ["partner", "model", "direction"],
            registry=registry,
        )
        self.streams_active = Gauge(
            "sluicegate_streams_active", "Generations under way.", ["partner", "model"], registry=registry
        )
        self.streams_terminated = Counter(
            "sluicegate_streams_terminated",
            "Generations that ended otherwise than by their own limits, by reason.",
            ["cause", "model"],
            registry=registry,
        )
        self.label_overflow = Counter(
            "sluicegate_label_overflow",
            "Label values outside the policy, counted as `other`.",
            ["label"],
            registry=registry,
        )
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
        self.model_ready = Gauge(
            "sluicegate_model_ready", "1 while the model answers, else 0.", ["model"], registry=registry
        )
        self.engine_restarts = Counter(
            "sluicegate_engine_restarts", "Engine processes that were lost and restarted.", registry=registry
        )
        self.policy_info = Info("sluicegate_policy", "Revision and stage in force.", registry=registry)
        self.policy_signed = Gauge(
            "sluicegate_policy_signatures_required",
            "1 where policy changes need signatures, 0 where they are off.",
            registry=registry,
        )
        self.policy_reloads = Counter(
            "sluicegate_policy_reloads", "Attempts to load a changed policy.", ["result"], registry=registry
        )
        self.keys_age_seconds = Gauge(
            "sluicegate_jwks_age_seconds",
            "Age of the oldest issuer's key set in use.",
            registry=registry,
        )
        self.withdrawals_age_seconds = Gauge(
            "sluicegate_withdrawals_age_seconds",
            "Time since the state store last confirmed the list of withdrawals.",
            registry=registry,
        )
        self.audit_enabled = Gauge(
            "sluicegate_audit_enabled", "1 where an audit log is kept, 0 where it is off.", registry=registry
        )
        self.audit_checkpoint_age_seconds = Gauge(
            "sluicegate_audit_checkpoint_age_seconds",
            "Time since the last checkpoint of the audit log was on the disk; 0 where there is no log.",
            registry=registry,
        )
        self.audit_failures = Counter(
            "sluicegate_audit_failures",
            "Failed writes of the audit log, and calls refused for want of room or time, by cause.",
            ["cause"],
            registry=registry,
        )
        self._create_fixed()

    def allow(self, models: Iterable[str], partners: Iterable[str]) -> None:
        """Take the label values of a new policy. Earlier ones stay allowed: their series exist already."""
        self._models |= set(models)
        self._partners |= {*partners, "public", "internal"}
        for model in (*self._models, OTHER):
            self._create_for(model)

    def expect_methods(self, paths: Iterable[str]) -> None:
        """Create the series of these RPCs (`/package.Service/Method`)."""
        for path in paths:
            service, _, method = path.removeprefix("/").rpartition("/")
            self.rpcs_started.labels(service, method)
            for code in GRPC_CODES:
                self.rpcs_handled.labels(service, method, code)

    def take_figures(self, figures: Figures) -> None:
        """Take what an engine says after a step."""
        model = self.model(figures.model)
        self.queue_length.labels(model).set(figures.queued)
        self.sequences_running.labels(model).set(figures.running)
        self.slots_used.labels(model).set(figures.running / figures.slots)
        if figures.batch_rows:
            self.step_seconds.labels(model).observe(figures.step_seconds)
            self.batch_rows.labels(model).observe(figures.batch_rows)
            self.prefill_tokens.labels(model).inc(figures.prefill_tokens)

    def take_state(self, name: str, *, is_ready: bool) -> None:
        """Take whether a model answers; one that does not has nothing queued and nothing running."""
        model = self.model(name)
        self.model_ready.labels(model).set(is_ready)
        if not is_ready:
            for gauge in (self.queue_length, self.sequences_running, self.slots_used):
                gauge.labels(model).set(0)

    def model(self, name: str) -> str:
        """The label for a model id that a caller may have made up."""
        return self._bounded("model", name, self._models)

    def partner(self, name: str) -> str:
        """The label for a partner."""
        return self._bounded("partner", name, self._partners)

    def _bounded(self, label: str, value: str, allowed: frozenset[str]) -> str:
        if value in allowed:
            return value
        self.label_overflow.labels(label).inc()
        return OTHER

    def _create_fixed(self) -> None:
        for label in ("model", "partner"):
            self.label_overflow.labels(label)
        for cause in AUDIT_CAUSES:
            self.audit_failures.labels(cause)
        for result in ("loaded", "refused"):
            self.policy_reloads.labels(result)
        self._create_for(OTHER)

    def _create_for(self, model: str) -> None:
        for histogram in (self.request_seconds, self.first_token_seconds, self.per_token_seconds):
            histogram.labels(model)
        self.decisions.labels("allowed", NO_REASON, model)
        for reason in Reason:
            self.decisions.labels("denied", reason.value, model)
            self.streams_terminated.labels(reason.value, model)
        self.streams_terminated.labels(CANCELLED, model)
        for partner in (*self._partners, OTHER):
            for action in ACTIONS:
                self.requests.labels(partner, model, action)
            for direction in ("input", "output"):
                self.tokens.labels(partner, model, direction)
            self.streams_active.labels(partner, model)
