"""The closed sets of label values. What a caller makes up becomes `other`, so nobody can create series."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

OTHER = "other"
PUBLIC, INTERNAL = "public", "internal"
"""Partner labels of callers without an agreement; no partner may be called so (auth/agreements.py)."""
BOUNDED_LABELS = ("model", "partner", "category", "type")


class ClosedSets:
    """The models and partners that policies have named so far, and how often anything else turned up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.models: frozenset[str] = frozenset()
        self.partners: frozenset[str] = frozenset({PUBLIC, INTERNAL})
        self.overflow = Counter(
            "sluicegate_label_overflow",
            "Label values outside the policy, counted as `other`.",
            ["label"],
            registry=registry,
        )
        for label in BOUNDED_LABELS:
            self.overflow.labels(label)

    def allow(self, models: Iterable[str], partners: Iterable[str]) -> None:
        """Add the names of a policy. Earlier ones stay allowed: their series exist already."""
        self.models |= set(models)
        self.partners |= set(partners)

    def model(self, name: str) -> str:
        """The label for a model id that a caller may have made up."""
        return self.bounded("model", name, self.models)

    def partner(self, name: str) -> str:
        """The label for a partner. `other` itself is one: that of callers of whom nothing is believed."""
        return name if name == OTHER else self.bounded("partner", name, self.partners)

    def bounded(self, label: str, value: str, allowed: frozenset[str]) -> str:
        """The value if it is allowed, else `other`, counted. `label`: one of BOUNDED_LABELS."""
        if value in allowed:
            return value
        self.overflow.labels(label).inc()
        return OTHER
