"""How near are partners to their quotas, and whom do quotas stop?"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from sluicegate.server.observe.labels import INTERNAL, OTHER, PUBLIC

LIMITS = (
    "concurrent_streams",
    "requests_per_minute",
    "output_tokens_per_minute",
    "output_tokens_per_day",
    "scored_tokens_per_day",
)
"""Values of state.Quota."""
MANY_ACCOUNTS = frozenset({PUBLIC, INTERNAL, OTHER})
"""Partner labels behind which stand many callers, each with quotas of its own: no one ratio is theirs."""


class QuotaMetrics:
    """Figures of quotas by partner and limit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.used = Gauge(
            "sluicegate_quota_used_ratio",
            "Used share of a quota, the highest among the partner's agreements.",
            ["partner", "limit"],
            registry=registry,
        )
        self.refusals = Counter(
            "sluicegate_quota_refusals",
            "Calls refused because a quota had no room.",
            ["partner", "limit"],
            registry=registry,
        )

    def take_used(self, partner: str, ratios: Mapping[str, float]) -> None:
        """Take what share of each limit is used; of one that is not named, none."""
        for limit in LIMITS:
            self.used.labels(partner, limit).set(ratios.get(limit, 0.0))

    def create(self, partners: Collection[str]) -> None:
        """Create the series of these partners."""
        for partner in partners:
            for limit in LIMITS:
                self.refusals.labels(partner, limit)
                if partner not in MANY_ACCOUNTS:
                    self.used.labels(partner, limit)
