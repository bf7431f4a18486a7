"""The sets of instructions that kernels are tested with: the processor's own, and AMX in software where it has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sluicegate.server.gpt2.kernels.processor import TIERS, Tier, usable_tiers

MODEL = Path(__file__).with_name("amx_model.h")


def tiers_to_test() -> list[Tier]:
    """`usable_tiers`, behind them AMX in software where AMX is all that is missing."""
    usable = usable_tiers()
    amx, beside_it, *_ = TIERS
    if beside_it not in usable or amx in usable:
        return usable
    return [*usable, replace(amx, options=(*beside_it.options, "-include", str(MODEL)))]
