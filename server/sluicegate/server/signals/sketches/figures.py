"""The figures of one partner, over all replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sluicegate.server.signals.sketches.campaigns import campaigns
from sluicegate.server.signals.sketches.distinct import distinct_count
from sluicegate.server.signals.sketches.extracts import Extract
from sluicegate.server.signals.sketches.recent import repeated_across, repeated_ratio
from sluicegate.server.signals.sketches.sharing import most_networks
from sluicegate.server.signals.sketches.windows import Moment


@dataclass(frozen=True, slots=True)
class Figures:
    """One partner's figures; docs/signals.md says what each means."""

    prompt_duplicate_ratio: float
    """Of the last hour, 0 to 1; 0 where there was none. So is the next."""
    output_duplicate_ratio: float
    prompts_distinct: int
    """Of the last day, about."""
    template_campaigns: int
    """Of the last hour."""
    networks_per_token_max: int
    """Of the last day; 16 means 16 or more."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """How many prompts and outputs were new to their replica alone: the dear part of the figures, apart from them."""

    prompts: int = 0
    outputs: int = 0


def crossing(extracts: Sequence[Extract], moment: Moment) -> Crossing:
    """What repeats across the replicas; the time that takes grows with the square of their number."""
    return Crossing(
        repeated_across([each.prompts for each in extracts], moment),
        repeated_across([each.outputs for each in extracts], moment),
    )


def figures(extracts: Sequence[Extract], crossed: Crossing, moment: Moment) -> Figures:
    """The figures of what all replicas have seen of one partner. Each replica's extract must come once."""
    return Figures(
        repeated_ratio([each.prompts for each in extracts], crossed.prompts, moment),
        repeated_ratio([each.outputs for each in extracts], crossed.outputs, moment),
        distinct_count([each.distinct for each in extracts], moment),
        campaigns([each.campaigns for each in extracts], moment),
        most_networks([each.sharing for each in extracts], moment),
    )
