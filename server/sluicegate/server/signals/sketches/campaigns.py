"""Which prompts come from one template: clusters of the last hour around the fingerprint of the first of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sluicegate.server.signals.sketches.windows import PARTS, Moment, Numbers

TEMPLATE_BITS = 15
"""Fingerprints from one template differ in so many bits at most; docs/signals.md has the measurement."""
CAMPAIGN_PROMPTS = 50
"""A cluster of more within the window is a campaign."""
CLUSTERS = 256
"""Beyond that, the smallest makes room, and of equal ones that which was longest not seen."""
LARGEST_COUNT = 2**16 - 1
"""Of a cluster in a part, as it is told to other replicas."""


@dataclass(frozen=True, slots=True)
class CampaignExtract:
    """What other replicas are told: `leaders` [≤ CLUSTERS] and `counts` [≤ CLUSTERS, parts], of the given `parts`."""

    parts: Numbers
    leaders: NDArray[np.uint64]
    counts: Numbers


class Campaigns:
    """The clusters of one partner's prompts. One thread only; the moment never goes back."""

    def __init__(self) -> None:
        self._leaders = np.zeros(CLUSTERS, np.uint64)
        self._counts = np.zeros((CLUSTERS, PARTS), np.uint32)
        self._totals = np.zeros(CLUSTERS, np.int64)  # over the window; 0 where there is no cluster
        self._touched = np.zeros(CLUSTERS, np.int64)  # the number of the prompt that came last
        self._parts = np.zeros(PARTS, np.uint32)
        self._prompts = 0

    def see(self, fingerprint: int, moment: Moment) -> None:
        """Count a prompt in the nearest cluster, or as the first of one."""
        self._slide(moment)
        distances = np.bitwise_count(self._leaders ^ np.uint64(fingerprint))
        distances[self._totals == 0] = 255
        place = int(distances.argmin())
        if distances[place] > TEMPLATE_BITS:
            smallest = np.flatnonzero(self._totals == self._totals.min())
            place = int(smallest[self._touched[smallest].argmin()])
            self._leaders[place], self._counts[place], self._totals[place] = fingerprint, 0, 0
        self._prompts += 1
        self._touched[place] = self._prompts
        self._counts[place, moment.part % PARTS] += 1
        self._totals[place] += 1

    def extract(self, moment: Moment) -> CampaignExtract:
        """What of the window other replicas are told. What has left it is forgotten."""
        self._slide(moment)
        columns = np.flatnonzero(self._counts.any(axis=0))
        counts = self._counts[:, columns]
        kept = counts.any(axis=1)
        return CampaignExtract(self._parts[columns], self._leaders[kept], np.minimum(counts[kept], LARGEST_COUNT))

    def _slide(self, moment: Moment) -> None:
        """Make room for the running part, and forget what has left the window."""
        column = moment.part % PARTS
        if self._parts[column] == moment.part:
            return
        self._parts[column] = moment.part
        self._counts[:, column] = 0
        self._counts[:, ~moment.has_part(self._parts)] = 0
        self._totals = self._counts.sum(axis=1, dtype=np.int64)
        self._leaders[self._totals == 0] = 0


def campaigns(extracts: list[CampaignExtract], moment: Moment) -> int:
    """How many clusters of the window have more than CAMPAIGN_PROMPTS, over all replicas.

    Clusters of different replicas are one where their leaders are near; the larger one's leads.
    """
    leaders = np.concatenate([each.leaders for each in extracts]) if extracts else np.empty(0, np.uint64)
    sums = [each.counts[:, moment.has_part(each.parts)].sum(axis=1, dtype=np.int64) for each in extracts]
    totals = np.concatenate(sums) if sums else np.empty(0, np.int64)
    found = 0
    # A cluster of one leads nothing, so that a flood of unlike prompts costs no comparisons.
    while len(totals) and totals[first := int(totals.argmax())] > 1:
        near = np.bitwise_count(leaders ^ leaders[first]) <= TEMPLATE_BITS
        found += int(totals[near].sum()) > CAMPAIGN_PROMPTS
        leaders, totals = leaders[~near], totals[~near]
    return found
