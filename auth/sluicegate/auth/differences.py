"""One difference between two revisions of a policy, and which way it goes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import get_args

from pydantic import BaseModel

from sluicegate.auth.grant import WatermarkTerm


class Effect(StrEnum):
    """What a difference does for callers."""

    OPENS = "opens"
    """Somebody may do something, or more of it, that nobody in that place could before."""
    CLOSES = "closes"
    CHANGES = "changes"
    """Other than before, and not for sure narrower."""
    RECORDS = "records"
    """Nothing: it is written down only, or not in force."""


class Signing(StrEnum):
    """Whose signatures a difference needs, where signatures are checked."""

    NONE = "none"
    TRANSITION = "transition"
    """As many signers as the trust root says, over a transition."""
    ONE = "one"
    """One signer, over the agreement or the internal client."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in both revisions. `before` and `after`: as people read it; None: not there."""

    subject: str
    """`stage in force`, `model gpt2-774m`, `agreement agr-example-lab`, …"""
    field: str
    """Dotted path in the subject; empty for the subject as a whole."""
    before: str | None
    after: str | None
    effect: Effect
    signing: Signing = Signing.NONE


def limit_effect(before: float | None, after: float | None) -> Effect:
    """Of an upper limit; None: there is no limit."""
    if before is not None and (after is None or after > before):
        return Effect.OPENS
    return Effect.CLOSES


def watermark_effect(before: WatermarkTerm, after: WatermarkTerm) -> Effect:
    """Of a term for watermarks: less of a mark opens."""
    order = get_args(WatermarkTerm)
    return Effect.OPENS if order.index(after) < order.index(before) else Effect.CLOSES


def listing_differences(before: Collection[str], after: Collection[str]) -> Iterator[tuple[str | None, str | None]]:
    """What was taken out of a list, as (entry, None), then what was added, as (None, entry)."""
    old, new = frozenset(before), frozenset(after)
    yield from ((entry, None) for entry in before if entry not in new)
    yield from ((None, entry) for entry in after if entry not in old)


def written(value: object) -> str | None:
    """A value in a few words; None stays None."""
    match value:
        case None:
            return None
        case tuple():
            return ", ".join(str(each) for each in value)
        case BaseModel():
            members = {name: written(getattr(value, name)) for name in sorted(value.model_fields_set)}
            return "; ".join(f"{name}: {text}" for name, text in members.items() if text is not None)
        case _:
            return str(value)
