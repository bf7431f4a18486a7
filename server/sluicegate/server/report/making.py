"""Makes the figures of a report out of what was counted: here small cells are withheld."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sluicegate.server.observe.denials import DENIAL_CLASSES, DenialClass
from sluicegate.server.report.calls import CallCounts, Cell, Refusal
from sluicegate.server.report.events import EventBook, LogOutage
from sluicegate.server.report.figures import (
    ChangeRow,
    ModelUse,
    OutageRow,
    PartnerDenials,
    PartnerUse,
    ReasonRow,
    SpanRow,
    UseRow,
    WithdrawalRow,
)
from sluicegate.server.report.period import Period, seconds_of
from sluicegate.server.report.suppression import Figure, is_small, merged, told, total
from sluicegate.server.report.withdrawals import NAMES_NOBODY, Withdrawal, WithdrawalBook

AUDIENCES = ("public", "partner", "internal")
OTHER_CLASS = "other"
CLASSES = (*(each.value for each in DenialClass), OTHER_CLASS)

Key = TypeVar("Key", str, tuple[str, str], tuple[int, str], Cell, Refusal)
_NO_USE = UseRow("", Figure(), Figure(), Figure())


class Use:
    """Calls by cell, the small ones withheld."""

    def __init__(self, calls: CallCounts, period: Period) -> None:
        self._requests = requests = _over_spans(calls.requests)
        cells = sorted({*requests, *calls.ended})
        self._period = period
        self._rows = {
            cell: UseRow(
                cell.model,
                told(requests[cell]),
                # Tokens are told of no cell whose calls are not, and of none in which too few calls ended.
                *(
                    Figure(withheld=1) if is_small(requests[cell]) else told(tokens[cell], calls.ended[cell])
                    for tokens in (calls.input_tokens, calls.output_tokens)
                ),
            )
            for cell in cells
        }
        self._spans = _spans(calls.requests, (cell for cell in cells if self._is_told(cell)), period)
        self.audiences = (*AUDIENCES, *sorted({cell.audience for cell in cells} - set(AUDIENCES)))

    @property
    def whole(self) -> Figure:
        return total(row.requests for row in self._rows.values())

    def by_model(self) -> tuple[ModelUse, ...]:
        by_both = self._grouped(lambda cell: (cell.model, cell.audience))
        return tuple(
            ModelUse(
                model,
                tuple((each, by_both.get((model, each), _NO_USE).requests) for each in self.audiences),
                replace(whole, label=model),
            )
            for model, whole in self._grouped(lambda cell: cell.model).items()
        )

    def by_audience(self) -> tuple[UseRow, ...]:
        found = self._grouped(lambda cell: cell.audience)
        return tuple(replace(found.get(each, _NO_USE), label=each) for each in self.audiences)

    def by_partner(self) -> tuple[PartnerUse, ...]:
        by_model: defaultdict[str, list[UseRow]] = defaultdict(list)
        for (partner, model), row in self._grouped(lambda cell: (cell.partner, cell.model)).items():
            by_model[partner].append(replace(row, label=model))
        return tuple(
            PartnerUse(partner, tuple(by_model[partner]), replace(whole, label=partner))
            for partner, whole in self._grouped(lambda cell: cell.partner).items()
        )

    def over_time(self) -> tuple[SpanRow, ...] | None:
        return _span_rows(self._spans, self._period)

    def told_of(self, counts: Mapping[Cell, int]) -> int:
        """A sum over the cells that are told."""
        return sum(count for cell, count in counts.items() if self._is_told(cell))

    def _is_told(self, cell: Cell) -> bool:
        return not is_small(self._requests[cell])

    def _grouped(self, key_of: Callable[[Cell], Key]) -> dict[Key, UseRow]:
        """Rows summed up by a key, sorted by it."""
        groups: defaultdict[Key, list[UseRow]] = defaultdict(list)
        for cell, row in self._rows.items():
            groups[key_of(cell)].append(row)
        return {key: _summed(groups[key]) for key in sorted(groups)}


class Refusals:
    """Refusals by partner and reason, the small ones withheld."""

    def __init__(self, calls: CallCounts, period: Period) -> None:
        self._figures = {refusal: told(count) for refusal, count in _over_spans(calls.refusals).items()}
        self._period = period
        told_ = (refusal for refusal, figure in self._figures.items() if not figure.withheld and _is_denial(refusal))
        self._spans = _spans(calls.refusals, told_, period)

    @property
    def denials(self) -> Figure:
        return total(figure for refusal, figure in self._figures.items() if _is_denial(refusal))

    def by_class(self) -> tuple[tuple[str, Figure], ...]:
        found = self._grouped(_class)
        return tuple((each, found.get(each, Figure())) for each in CLASSES)

    def by_reason(self) -> tuple[ReasonRow, ...]:
        found = self._grouped(lambda refusal: (CLASSES.index(_class(refusal)), _name(refusal)))
        return tuple(ReasonRow(name, CLASSES[index], figure) for (index, name), figure in found.items())

    def by_partner(self) -> tuple[PartnerDenials, ...]:
        found = self._grouped(lambda refusal: (refusal.partner, _class(refusal)))
        partners = sorted({partner for partner, _ in found})
        rows = [(partner, tuple(found.get((partner, each), Figure()) for each in CLASSES)) for partner in partners]
        return tuple(PartnerDenials(partner, figures, total(figures)) for partner, figures in rows)

    def over_time(self) -> tuple[SpanRow, ...] | None:
        return _span_rows(self._spans, self._period)

    def _grouped(self, key_of: Callable[[Refusal], Key]) -> dict[Key, Figure]:
        groups: defaultdict[Key, list[Figure]] = defaultdict(list)
        for refusal, figure in self._figures.items():
            groups[key_of(refusal)].append(figure)
        return {key: total(groups[key]) for key in sorted(groups)}


def withdrawal_rows(book: WithdrawalBook, use: Use) -> tuple[WithdrawalRow, ...]:
    return tuple(_withdrawal(each, use) for each in book.withdrawals)


def change_rows(book: EventBook) -> tuple[ChangeRow, ...]:
    return tuple(
        ChangeRow(
            each.at,
            each.until,
            each.revision,
            each.previous_revision,
            each.stage,
            each.previous_stage,
            each.signatures_checked,
            len(each.replicas),
            each.changes_stage,
        )
        for each in book.changes
    )


def outage_rows(outages: Sequence[LogOutage]) -> tuple[OutageRow, ...]:
    return tuple(
        OutageRow(each.replica, each.since, each.until, each.cause, told(each.openings_lost))
        for each in sorted(outages, key=lambda each: (each.since, each.replica))
    )


def _withdrawal(order: Withdrawal, use: Use) -> WithdrawalRow:
    effective = order.effective_at
    return WithdrawalRow(
        at=order.at,
        kind=order.kind,
        target=order.target if order.kind in NAMES_NOBODY else None,
        is_lifting=order.is_lifting,
        signers=order.signers,
        ended_calls=told(use.told_of(order.ended)),
        effect_seconds=None if effective is None else round(seconds_of(effective) - seconds_of(order.at), 3),
    )


def _summed(rows: Sequence[UseRow]) -> UseRow:
    return UseRow(
        "",
        total(row.requests for row in rows),
        total(row.input_tokens for row in rows),
        total(row.output_tokens for row in rows),
    )


def _name(refusal: Refusal) -> str:
    return "NONE" if refusal.reason is None else refusal.reason.value


def _class(refusal: Refusal) -> str:
    found = None if refusal.reason is None else DENIAL_CLASSES[refusal.reason]
    return OTHER_CLASS if found is None else found.value


def _is_denial(refusal: Refusal) -> bool:
    return _class(refusal) != OTHER_CLASS


def _over_spans(counts: Mapping[tuple[int, Key], int]) -> Counter[Key]:
    summed: Counter[Key] = Counter()
    for (_, key), count in counts.items():
        summed[key] += count
    return summed


def _spans(counts: Mapping[tuple[int, Key], int], chosen: Iterable[Key], period: Period) -> list[int]:
    keys, found = frozenset(chosen), [0] * period.spans
    for (span, key), count in counts.items():
        if key in keys:
            found[span] += count
    return found


def _span_rows(counts: Sequence[int], period: Period) -> tuple[SpanRow, ...] | None:
    runs = merged(counts)
    if runs is None:
        return None
    return tuple(SpanRow(period.span_starts(run.first), period.span_starts(run.last + 1), run.count) for run in runs)
