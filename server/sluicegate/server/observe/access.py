"""Who uses what, and who is turned away? Decisions, requests, tokens, denials."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge

from sluicegate.auth import Reason
from sluicegate.server.observe.denials import DENIAL_CLASSES, DenialClass

ACTIONS = ("generate", "score", "tokenize")
DIRECTIONS = ("input", "output")
NO_REASON = "NONE"


class AccessMetrics:
    """Counters of what access control answered, and of what was used. Labels come from ClosedSets."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.decisions = Counter(
            "sluicegate_decisions",
            "Access decisions, with the reason of a refusal.",
            ["decision", "reason", "model"],
            registry=registry,
        )
        self.denials = Counter(
            "sluicegate_denials",
            "Calls refused for what their caller lacks, by its kind.",
            ["partner", "class"],
            registry=registry,
        )
        self.requests = Counter(
            "sluicegate_requests",
            "Allowed requests.",
            ["partner", "model", "action"],
            registry=registry,
        )
        self.offhours_requests = Counter(
            "sluicegate_offhours_requests",
            "Allowed requests outside the hours of an agreement that signals them.",
            ["partner"],
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

    def take_denial(self, reason: Reason, partner: str) -> None:
        """A call of this partner was refused before it began; counted if DENIAL_CLASSES has a class for it."""
        if (kind := DENIAL_CLASSES[reason]) is not None:
            self.denials.labels(partner, kind.value).inc()

    def create(self, models: Collection[str], partners: Collection[str]) -> None:
        """Create the series of these models and partners."""
        for model in models:
            self.decisions.labels("allowed", NO_REASON, model)
            for reason in Reason:
                self.decisions.labels("denied", reason.value, model)
            for partner in partners:
                for action in ACTIONS:
                    self.requests.labels(partner, model, action)
                for direction in DIRECTIONS:
                    self.tokens.labels(partner, model, direction)
                self.streams_active.labels(partner, model)
        for partner in partners:
            self.offhours_requests.labels(partner)
            for kind in DenialClass:
                self.denials.labels(partner, kind.value)
