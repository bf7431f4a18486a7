"""A comparison as tables, for people."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.figures import Spread
from bench.peers.results import Case, Findings, Row
from bench.terminal import headline, table

HEADER = (
    "engine",
    "all",
    "decode",
    "prefill",
    "first ms",
    "gap p50/p99 ms",
    "ours/it",
    "against",
    "agrees",
    "disturbed",
)


def page(options: argparse.Namespace, cases: Sequence[Case], found: Findings) -> str:
    """For people."""
    lines = [
        headline(),
        f"GPT-2 {options.shape}, random weights, greedy, {options.threads} threads, {options.rounds} rounds",
    ]
    for case in cases:
        lines += ["", f"batch {case.batch}, {case.lengths} lengths, tokens/s: median (lowest-highest)"]
        rows = [each for each in found.rows if (each.batch, each.lengths) == (case.batch, case.lengths)]
        lines.append(table(HEADER, [cells(each) for each in rows]))
    lines += [
        "",
        table(
            ["engine", "form", "logit error", "peak MiB", "idle cores"],
            [
                [
                    each.name,
                    each.form,
                    "-" if each.logit_error is None else f"{each.logit_error:.1e}",
                    str(each.peak_mib),
                    f"{each.idle_cores:.2f}",
                ]
                for each in found.facts.values()
            ],
        ),
    ]
    lines += [f"no logits of {each.name}: {each.note}" for each in found.facts.values() if each.note]
    lines += [f"not measured: {name}: {cause}" for name, cause in found.missing.items()]
    return "\n".join(lines)


def cells(each: Row) -> list[str]:
    gap = "-"
    if each.gap_p50_ms is not None and each.gap_p99_ms is not None:
        gap = f"{each.gap_p50_ms.median:.1f}/{each.gap_p99_ms.median:.1f}"
    return [
        each.name,
        f"{each.tokens_per_second:.0f}",
        _or_dash(each.decode_tokens_per_second, ".0f"),
        f"{each.prefill_tokens_per_second:.0f}",
        f"{each.first_ms.median:.0f}",
        gap,
        _or_dash(each.ours_over_it, ".2f"),
        each.against or "-",
        f"{each.agreement:.1%}",
        str(each.disturbed_rounds or "-"),
    ]


def _or_dash(found: Spread | None, spec: str) -> str:
    return "-" if found is None else format(found, spec)
