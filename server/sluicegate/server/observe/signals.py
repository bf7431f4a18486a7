"""Is it being misused? What the watcher of prompts and outputs has seen; no text of either gets here.

Counters are of this replica. The gauges by partner are over all replicas, which exchange sketches through the state
store; each exports the same figure, so rules and panels take `max by (partner)`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from sluicegate.server.observe.labels import OTHER, ClosedSets
from sluicegate.server.signals.sketches import Figures

PII_TYPES = ("email", "phone", "card", "iban", "national_id", "ip_address")
DROPPED_KINDS = ("prompt", "output", "token")


class SignalMetrics:
    """Signs of misuse by partner. Any thread."""

    def __init__(self, registry: CollectorRegistry, labels: ClosedSets, categories: Iterable[str]) -> None:
        self._labels = labels
        self._types = frozenset(PII_TYPES)
        self._categories = frozenset(categories)

        def counter(name: str, text: str, *names: str) -> Counter:
            return Counter(name, text, names, registry=registry)

        def gauge(name: str, text: str, *names: str) -> Gauge:
            return Gauge(name, text, names, registry=registry)

        partner = "partner"
        self.prompts_seen = counter("sluicegate_prompts_seen", "Prompts looked at.", partner)
        self.prompt_duplicates = counter("sluicegate_prompt_duplicates", "Prompts much like an earlier one.", partner)
        self.outputs_seen = counter("sluicegate_outputs_seen", "Outputs looked at.", partner)
        self.output_duplicates = counter("sluicegate_output_duplicates", "Outputs much like an earlier one.", partner)
        self.prompt_duplicate_ratio = gauge(
            "sluicegate_prompt_duplicate_ratio", "Share of duplicates among the last hour's prompts.", partner
        )
        self.output_duplicate_ratio = gauge(
            "sluicegate_output_duplicate_ratio", "Share of duplicates among the last hour's outputs.", partner
        )
        self.prompts_distinct = gauge(
            "sluicegate_prompts_distinct_estimate", "Different prompts of the last 24 hours, estimated.", partner
        )
        self.template_campaigns = gauge(
            "sluicegate_template_campaigns", "Clusters of more than 50 prompts alike in the last hour.", partner
        )
        self.networks_per_token = gauge(
            "sluicegate_networks_per_token_max",
            "Most networks from which one token was used in the last 24 hours.",
            partner,
        )
        self.pii_found = counter(
            "sluicegate_pii_found", "Personal data found in outputs, by its type.", partner, "type"
        )
        self.flagged_lexicon = counter(
            "sluicegate_flagged_lexicon",
            "Texts with a term of the flagged lexicon, by its category.",
            partner,
            "category",
        )
        self.memorisation_suspects = counter(
            "sluicegate_memorisation_suspects", "Outputs that look as if learnt by heart.", "model"
        )
        self.dropped = counter(
            "sluicegate_signals_dropped",
            "Texts, and uses of tokens, not looked at, since the watcher was behind.",
            "kind",
        )
        self.enabled = gauge("sluicegate_signals_enabled", "1 where misuse is looked for, 0 where it is off.")
        self.exchange_age_seconds = gauge(
            "sluicegate_signals_exchange_age_seconds", "Time since sketches were last exchanged with the state store."
        )
        for kind in DROPPED_KINDS:
            self.dropped.labels(kind)

    def take_prompt(self, partner: str, *, is_duplicate: bool) -> None:
        """A prompt was looked at."""
        label = self._labels.partner(partner)
        self.prompts_seen.labels(label).inc()
        if is_duplicate:
            self.prompt_duplicates.labels(label).inc()

    def take_output(self, partner: str, *, is_duplicate: bool) -> None:
        """An output was looked at."""
        label = self._labels.partner(partner)
        self.outputs_seen.labels(label).inc()
        if is_duplicate:
            self.output_duplicates.labels(label).inc()

    def take_figures(self, partner: str, figures: Figures) -> None:
        """Take a partner's windows as the replicas have them together."""
        label = self._labels.partner(partner)
        self.prompt_duplicate_ratio.labels(label).set(figures.prompt_duplicate_ratio)
        self.output_duplicate_ratio.labels(label).set(figures.output_duplicate_ratio)
        self.prompts_distinct.labels(label).set(figures.prompts_distinct)
        self.template_campaigns.labels(label).set(figures.template_campaigns)
        self.networks_per_token.labels(label).set(figures.networks_per_token_max)

    def take_pii(self, partner: str, type_: str, count: int = 1) -> None:
        """Personal data of one of PII_TYPES was found so many times."""
        kind = self._labels.bounded("type", type_, self._types)
        self.pii_found.labels(self._labels.partner(partner), kind).inc(count)

    def take_flagged(self, partner: str, category: str) -> None:
        """A text has a term of this category of the lexicon."""
        label = self._labels.bounded("category", category, self._categories)
        self.flagged_lexicon.labels(self._labels.partner(partner), label).inc()

    def take_memorisation_suspect(self, model: str) -> None:
        """An output of this model looks as if learnt by heart."""
        self.memorisation_suspects.labels(self._labels.model(model)).inc()

    def take_dropped(self, kind: str, count: int = 1) -> None:
        """So many were not looked at. `kind`: one of DROPPED_KINDS."""
        assert kind in DROPPED_KINDS
        self.dropped.labels(kind).inc(count)

    def create(self, models: Iterable[str], partners: Collection[str]) -> None:
        """Create the series of these models and partners."""
        for model in models:
            self.memorisation_suspects.labels(model)
        plain = (
            self.prompts_seen,
            self.prompt_duplicates,
            self.outputs_seen,
            self.output_duplicates,
            self.prompt_duplicate_ratio,
            self.output_duplicate_ratio,
            self.prompts_distinct,
            self.template_campaigns,
            self.networks_per_token,
        )
        for partner in partners:
            for metric in plain:
                metric.labels(partner)
            for type_ in (*PII_TYPES, OTHER):
                self.pii_found.labels(partner, type_)
            for category in (*sorted(self._categories), OTHER):
                self.flagged_lexicon.labels(partner, category)
