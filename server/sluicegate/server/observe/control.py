"""Is control in order? The policy in force and its evidence, keys, withdrawals, agreements, the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

from sluicegate.auth import Audience

AUDIT_CAUSES = ("disk_full", "read_only", "io_error", "timeout", "queue_full", "closed")
"""Values of audit.Cause."""
WITHDRAWAL_KINDS = ("token", "issued_before", "client", "subject", "key", "agreement", "model", "stage")
"""Names of state.KINDS."""
BIAS_SUITES = ("crows-pairs", "occupations", "winobias", "winogender")
"""Names of the suites that `sluicegate bias run` knows; others have no series."""


class ControlMetrics:
    """Figures of what access control stands on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.policy_info = Info("sluicegate_policy", "Revision and stage in force.", registry=registry)
        self.policy_signed = Gauge(
            "sluicegate_policy_signatures_required",
            "1 where policy changes need signatures, 0 where they are off.",
            registry=registry,
        )
        self.policy_reloads = Counter(
            "sluicegate_policy_reloads", "Attempts to load a changed policy.", ["result"], registry=registry
        )
        self.policy_refused = Gauge(
            "sluicegate_policy_refused",
            "1 while the policy's files are refused and another revision is in force, else 0.",
            registry=registry,
        )
        self.model_open = Gauge(
            "sluicegate_model_open",
            "1 while the model is open to the audience, else 0.",
            ["model", "audience"],
            registry=registry,
        )
        self.gate_passed = Gauge(
            "sluicegate_gate_passed",
            "1 while the model passes a gate that the stage in force rests on, 0 while it does not.",
            ["gate", "model"],
            registry=registry,
        )
        self.bias_score = Gauge(
            "sluicegate_bias_score",
            "Share of the suite's pairs in which the served weights prefer the stereotype, by the newest evidence.",
            ["suite", "model"],
            registry=registry,
        )
        self.agreement_expiry = Gauge(
            "sluicegate_agreement_expiry_timestamp_seconds",
            "Unix time at which the partner's next agreement ends.",
            ["partner"],
            registry=registry,
        )
        self.keys_age_seconds = Gauge(
            "sluicegate_jwks_age_seconds", "Age of the oldest issuer's key set in use.", registry=registry
        )
        self.withdrawals_age_seconds = Gauge(
            "sluicegate_withdrawals_age_seconds",
            "Time since the state store last confirmed the list of withdrawals.",
            registry=registry,
        )
        self.withdrawals_in_force = Gauge(
            "sluicegate_withdrawals_in_force", "What operators have closed, by its kind.", ["kind"], registry=registry
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
        self._expiring: frozenset[str] = frozenset()
        self._gates: frozenset[tuple[str, str]] = frozenset()
        self._measured: frozenset[tuple[str, str]] = frozenset()
        for cause in AUDIT_CAUSES:
            self.audit_failures.labels(cause)
        for result in ("loaded", "refused"):
            self.policy_reloads.labels(result)
        for kind in WITHDRAWAL_KINDS:
            self.withdrawals_in_force.labels(kind)

    def take_open(self, models: Iterable[str], opened: Mapping[str, Audience]) -> None:
        """Take to whom each of these models is open: to an audience and all above it; one not in `opened` to none."""
        for model in models:
            for audience in Audience:
                is_open = model in opened and opened[model] <= audience
                self.model_open.labels(model, audience.value).set(is_open)

    def take_bias_scores(self, scores: Mapping[tuple[str, str], float]) -> None:
        """Take the share of each suite and model; one that is not there has no series."""
        for pair in self._measured - scores.keys():
            self.bias_score.remove(*pair)
        for pair, share in scores.items():
            self.bias_score.labels(*pair).set(share)
        self._measured = frozenset(scores)

    def take_expiries(self, expiries: Mapping[str, float]) -> None:
        """Take when partners' agreements end, in Unix seconds; a partner that is not there has no series."""
        for partner in self._expiring - expiries.keys():
            self.agreement_expiry.remove(partner)
        for partner, end in expiries.items():
            self.agreement_expiry.labels(partner).set(end)
        self._expiring = frozenset(expiries)

    def take_gates(self, passed: Mapping[tuple[str, str], bool | None]) -> None:
        """Take which gates are passed, by gate and model. None: not known, so what it was; one that is not there has no
        series."""
        for labels in self._gates - passed.keys():
            self.gate_passed.remove(*labels)
        for labels, is_passed in passed.items():
            if is_passed is not None:
                self.gate_passed.labels(*labels).set(is_passed)
        self._gates = frozenset(labels for labels in passed if passed[labels] is not None or labels in self._gates)

    def take_withdrawals(self, counts: Mapping[str, int]) -> None:
        """Take how much of each kind is closed."""
        for kind in WITHDRAWAL_KINDS:
            self.withdrawals_in_force.labels(kind).set(counts[kind])

    def create(self, models: Iterable[str]) -> None:
        """Create the series of these models."""
        for model in models:
            for audience in Audience:
                self.model_open.labels(model, audience.value)
