"""What a load came to, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sluicegate.client.commands.terminal import note, write, write_table

if TYPE_CHECKING:
    from sluicegate.client.load.report import Distribution, Results, Row
    from sluicegate.client.results import Model

_COLUMNS = (
    "p50/p90/p99",
    "requests",
    "answered",
    "cancelled",
    "refused",
    "first token ms",
    "between tokens ms",
    "each token ms",
    "whole answer s",
)
_SHOWN_DIGITS = 12
_LATE_SECONDS = 0.01
"""Where a tenth of the requests is sent later than this, the client's own machine is part of what was measured."""


def show(results: Results, models: Sequence[Model], *, is_open_loop: bool) -> None:
    """Write the tables."""
    rows = {"all": results.total}
    if len(results.by_model) > 1:
        rows |= results.by_model
    if len(results.by_caller) > 1:
        rows |= results.by_caller
    write_table(_COLUMNS, [_cells(name, row) for name, row in rows.items()])
    write(_throughput(results))
    if is_open_loop:
        write(f"sent later than due, ms p50/p90/p99: {_percentiles(results.sent_late_seconds, 1e3)}\n")
    if results.total.unfinished:
        write(f"{results.total.unfinished} requests were under way when the run was interrupted\n")
    if results.total.refused:
        write_table(("refused for", "requests"), [(name, str(count)) for name, count in results.total.refused.items()])
    dtypes = {model.id: model.dtype for model in models}
    write_table(
        ("model", "weights", "dtype", "stage", "policy", "agreement"),
        [
            (
                each.model,
                each.weights_sha256[:_SHOWN_DIGITS],
                dtypes.get(each.model, ""),
                each.stage,
                each.policy_revision[:_SHOWN_DIGITS],
                each.agreement or "",
            )
            for each in results.served_under
        ],
    )
    if is_open_loop and (results.sent_late_seconds.p90 or 0) > _LATE_SECONDS:
        note("a tenth of the requests or more was sent late: the client, or --concurrency, could not keep up")


def _throughput(results: Results) -> str:
    """A line, or nothing of a run that was interrupted in its warm-up."""
    if results.mean_output_tokens_per_second is None or results.requests_per_second is None:
        return ""
    per_second = results.output_tokens_per_second
    seconds = f"; of whole seconds p50 {per_second.p50:.0f}, least {per_second.least:.0f}" if per_second.count else ""
    return (
        f"{results.mean_output_tokens_per_second:.1f} output tokens/s{seconds}; "
        f"{results.requests_per_second:.2f} requests/s; over {results.seconds:.1f} s\n"
    )


def _cells(name: str, row: Row) -> list[str]:
    return [
        name,
        str(row.requests),
        str(row.answered),
        str(row.cancelled),
        str(sum(row.refused.values())),
        _percentiles(row.first_token_seconds, 1e3),
        _percentiles(row.inter_token_seconds, 1e3),
        _percentiles(row.per_output_token_seconds, 1e3),
        _percentiles(row.whole_seconds, 1),
    ]


def _percentiles(values: Distribution, scale: float) -> str:
    shown = (values.p50, values.p90, values.p99)
    return "/".join("-" if value is None else f"{value * scale:.3g}" for value in shown)
