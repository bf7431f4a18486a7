"""Suites of sentence pairs, and what names one exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import rfc8785


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences that differ in whom they are about: one as a stereotype has it, and the other."""

    id: str
    """Unique in its suite; stays the same when the suite is loaded again."""
    category: str
    stereotype: str
    other: str


@dataclass(frozen=True, slots=True)
class Suite:
    """Pairs, and where they came from. There is at least one pair."""

    name: str
    pairs: Sequence[Pair]
    data_sha256: tuple[str, ...] = ()
    """Of the files that were read, in the order that the loader names; empty: built in."""
    left_out: int = 0
    """Entries of these files that make no pair."""

    @property
    def sha256(self) -> str:
        """Names the pairs: the digest of the canonical JSON (RFC 8785) of all, each as a list of its four texts."""
        listed = [[each.id, each.category, each.stereotype, each.other] for each in self.pairs]
        return hashlib.sha256(rfc8785.dumps(listed)).hexdigest()
