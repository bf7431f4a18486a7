"""From how many networks one token is used within a day."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sluicegate.server.signals.sketches.windows import HOURS, Moment, Numbers

TOKENS = 512
"""Of a partner; beyond that, the one with the fewest networks makes room, and of equal ones the longest unused."""
NETWORKS = 16
"""Of a token: the newest. So a figure of 16 means 16 or more."""
SHARED = 512
"""Pairs of token and network told to other replicas: those of the tokens with the most networks first."""


@dataclass(frozen=True, slots=True)
class SharingExtract:
    """What other replicas are told: pairs [≤ SHARED] of token and network, and the hour in which each was seen last."""

    tokens: NDArray[np.uint64]
    networks: Numbers
    hours: Numbers


class Sharing:
    """The networks of one partner's tokens. One thread only; the moment never goes back."""

    def __init__(self) -> None:
        self._networks: dict[int, dict[int, int]] = {}
        """Token → network → the hour in which it was seen last; both from the longest unused to the newest."""
        self._pruned = 0  # in this hour

    def see(self, token: int, network: int, moment: Moment) -> None:
        """Count a use of a token, named by hashes."""
        networks = self._networks.pop(token, {})
        if not networks and len(self._networks) >= TOKENS:
            self._make_room(moment)
        self._networks[token] = networks
        networks.pop(network, None)
        networks[network] = moment.hour
        if len(networks) > NETWORKS:
            del networks[next(iter(networks))]

    def extract(self, moment: Moment) -> SharingExtract:
        """What of the window other replicas are told; what has left it is forgotten."""
        self._prune(moment)
        newest_first = reversed(list(self._networks.items()))
        pairs = [
            (token, network, hour)
            for token, networks in sorted(newest_first, key=lambda entry: -len(entry[1]))
            for network, hour in reversed(networks.items())
        ][:SHARED]
        tokens, networks, hours = zip(*pairs, strict=True) if pairs else ((), (), ())
        return SharingExtract(np.array(tokens, np.uint64), np.array(networks, np.uint32), np.array(hours, np.uint32))

    def _make_room(self, moment: Moment) -> None:
        self._prune(moment)
        if len(self._networks) >= TOKENS:
            del self._networks[min(self._networks, key=lambda token: len(self._networks[token]))]

    def _prune(self, moment: Moment) -> None:
        if self._pruned == moment.hour:
            return
        self._pruned = moment.hour
        for token, networks in list(self._networks.items()):
            kept = {network: hour for network, hour in networks.items() if hour + HOURS > moment.hour}
            if kept:
                self._networks[token] = kept
            else:
                del self._networks[token]


def most_networks(extracts: list[SharingExtract], moment: Moment) -> int:
    """The most networks that one token was used from within the window, over all replicas; at most NETWORKS."""
    found: dict[int, set[int]] = defaultdict(set)
    for each in extracts:
        kept = moment.has_hour(each.hours)
        for token, network in zip(each.tokens[kept].tolist(), each.networks[kept].tolist(), strict=True):
            found[token].add(network)
    return min(NETWORKS, max(map(len, found.values()), default=0))
