"""Sketches of misuse signals, as replicas exchange them: what a store keeps of them, for how long, and how many.

A sketch is not the ledger: losing one costs a figure some of its past, so it need not reach the disk when it is put.
Each put gets the next number of the store's sequence, by which a reader finds what has changed since it last asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SALT_BYTES = 32
KEPT_SECONDS = 86_400
"""A sketch is forgotten so long after it was put, when the next one is put."""
LARGEST_BYTES = 64 * 1024
MOST = 1_024
"""Sketches in a store; beyond that, those that were put first make room."""
PAGE_BYTES = 128 * 1024
"""A put of more is split, and a reading ends before it: calls on quotas pass in between, and none waits for long."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """What a source, one life of a replica, has seen of a partner. `data` is whatever was put: check it."""

    source: str
    partner: str
    data: bytes


@dataclass(frozen=True, slots=True)
class SketchPage:
    """Sketches in the order in which they were put, and the number to ask for the next ones with."""

    sketches: tuple[Sketch, ...]
    after: int


def pages(sketches: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Sketches by partner, in parts of at most PAGE_BYTES."""
    page: dict[str, bytes] = {}
    size = 0
    for partner, data in sketches.items():
        assert len(data) <= LARGEST_BYTES
        if page and size + len(data) > PAGE_BYTES:
            yield page
            page, size = {}, 0
        page[partner] = data
        size += len(data)
    if page:
        yield page
