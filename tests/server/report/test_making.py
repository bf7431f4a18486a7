from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from audit_logs import closing, opening
from hypothesis import given, settings
from hypothesis import strategies as st
from report_logs import DAY, PERIOD, at, log_report, tally_of

from sluicegate.auth import Audience, Reason
from sluicegate.server.audit import Decision, Withdrawn
from sluicegate.server.audit.entries import Denials, Entry, Interrupted
from sluicegate.server.report.assembling import Logs, assemble
from sluicegate.server.report.calls import Cell
from sluicegate.server.report.figures import Figures
from sluicegate.server.report.making import CLASSES, Refusals, Use
from sluicegate.server.report.suppression import Figure, is_small
from sluicegate.server.report.tally import Tally

LAB, UNI = Cell("partner", "example-lab", "gpt2-774m"), Cell("partner", "example-uni", "gpt2-774m")
PUBLIC = Cell("public", "public", "gpt2-774m")


def of_cells(requests: Mapping[Cell, int], tokens: int = 10) -> list[tuple[float, Entry]]:
    """Calls of each cell, all on the first day, ended at once."""
    found: list[tuple[float, Entry]] = []
    for cell, count in requests.items():
        for n in range(count):
            call = f"{cell.partner}-{cell.model}-{n}"
            whose = {"audience": Audience(cell.audience), "partner": cell.partner, "model": cell.model}
            found += [(1, opening(call, **whose)), (2, closing(call, input_tokens=1, emitted_tokens=tokens))]
    return found


def use_of(requests: Mapping[Cell, int]) -> Use:
    return Use(tally_of(of_cells(requests)).calls, PERIOD)


def figures_of(tally: Tally) -> Figures:
    return assemble(tally, Logs([log_report()], 0), title="October")


def test_sums_leave_small_cells_out_and_count_them() -> None:
    use = use_of({LAB: 20, UNI: 3, PUBLIC: 7})

    [model] = use.by_model()
    assert dict(model.by_audience) == {"public": Figure(7), "partner": Figure(20, 1), "internal": Figure(0)}
    assert (model.whole.requests, model.whole.output_tokens) == (Figure(27, 1), Figure(270, 1))
    assert use.whole == Figure(27, 1)
    partners = {row.partner: row.whole.requests for row in use.by_partner()}
    assert partners == {"example-lab": Figure(20), "example-uni": Figure(0, 1), "public": Figure(7)}
    assert [row.requests for row in use.by_audience()] == [Figure(7), Figure(20, 1), Figure(0)]


def test_over_time_only_what_is_told_elsewhere_is_told() -> None:
    [run, *rest] = use_of({LAB: 20, UNI: 3}).over_time() or ()

    assert (run.count, {each.count for each in rest}) == (20, {0})


def test_tokens_of_a_cell_in_which_few_calls_ended_are_withheld() -> None:
    entries: list[tuple[float, Entry]] = [(1, opening(f"c{n}")) for n in range(9)]
    entries += [(2, closing(f"c{n}")) for n in range(3)]

    [row] = Use(tally_of(entries).calls, PERIOD).by_audience()[1:2]

    assert (row.requests, row.output_tokens) == (Figure(9), Figure(0, 1))


def test_denials_are_in_classes_and_what_is_none_is_apart() -> None:
    entries: list[tuple[float, Entry]] = [
        (1, opening(f"d{n}", decision=Decision.DENIED, reason=Reason.MODEL_NOT_RELEASED, code="X")) for n in range(6)
    ]
    entries += [
        (1, opening(f"q{n}", decision=Decision.DENIED, reason=Reason.TOKEN_RATE_LIMIT, code="X")) for n in range(2)
    ]
    entries.append(
        (DAY, Denials(since=at(0), until=at(60), counts={Reason.TOKEN_EXPIRED: 9, Reason.PEER_RATE_LIMIT: 50}))
    )

    refusals = Refusals(tally_of(entries).calls, PERIOD)

    assert dict(refusals.by_class()) == {
        "authn": Figure(9),
        "scope": Figure(0),
        "stage": Figure(6),
        "agreement": Figure(0),
        "quota": Figure(0, 1),
        "withdrawn": Figure(0),
        "other": Figure(50),
    }
    assert refusals.denials == Figure(15, 1)
    assert [(row.class_, row.reason, row.refusals) for row in refusals.by_reason()] == [
        ("authn", "TOKEN_EXPIRED", Figure(9)),
        ("stage", "MODEL_NOT_RELEASED", Figure(6)),
        ("quota", "TOKEN_RATE_LIMIT", Figure(0, 1)),
        ("other", "PEER_RATE_LIMIT", Figure(50)),
    ]
    [lab, unknown] = refusals.by_partner()
    assert (lab.partner, lab.whole, unknown.partner, unknown.whole) == (
        "example-lab",
        Figure(6, 1),
        "unknown callers",
        Figure(59),
    )
    assert len(lab.by_class) == len(CLASSES)
    assert sum(row.count for row in refusals.over_time() or ()) == 15


CELLS = [Cell(a, p, m) for a, p in (("public", "public"), ("partner", "lab"), ("partner", "uni")) for m in ("s", "xl")]
REASONS = (Reason.MODEL_NOT_RELEASED, Reason.SCOPE_MISSING, Reason.SERVER_OVERLOADED)


def month(
    requests: Mapping[Cell, int], refusals: Mapping[tuple[str, Reason], int], days: st.DataObject
) -> list[tuple[float, Entry]]:
    """Calls at times that are drawn: some ended, some interrupted, some ended by a withdrawal; and refusals."""
    entries: list[tuple[float, Entry]] = []
    for cell, count in requests.items():
        for n in range(count):
            call, day = f"{cell.partner}-{cell.model}-{n}", days.draw(st.integers(0, 6))
            ends: list[Entry] = [
                closing(call, emitted_tokens=n),
                Interrupted(call=call),
                closing(call, reason=Reason.MODEL_WITHDRAWN, finish=None, code="PERMISSION_DENIED"),
            ]
            end = ends[days.draw(st.integers(0, 2))]
            whose = {"audience": Audience(cell.audience), "partner": cell.partner, "model": cell.model}
            entries += [(day * DAY + 1, opening(call, **whose)), (day * DAY + 2, end)]
    for (partner, reason), count in refusals.items():
        for n in range(count):
            refused = opening(
                f"{partner}-{reason}-{n}", partner=partner, decision=Decision.DENIED, reason=reason, code="X"
            )
            entries.append((days.draw(st.integers(0, 6)) * DAY, refused))
    return entries


@settings(max_examples=60)
@given(st.data())
def test_no_figure_depends_on_how_great_a_withheld_cell_is(data: st.DataObject) -> None:
    """The calls of withheld cells are replaced by others, 1 to 4 of them: nobody who reads the report can tell."""
    counts = st.integers(0, 9)
    requests = {cell: data.draw(counts) for cell in CELLS}
    refusals = {(partner, reason): data.draw(counts) for partner in ("lab", "uni") for reason in REASONS}
    small = {cell for cell, count in requests.items() if is_small(count)}
    few = {each for each, count in refusals.items() if is_small(count)}
    told = month(
        {cell: count for cell, count in requests.items() if cell not in small},
        {each: count for each, count in refusals.items() if each not in few},
        data,
    )

    def whole() -> dict[str, object]:
        withheld = month(
            {cell: data.draw(st.integers(1, 4)) for cell in CELLS if cell in small},
            {each: data.draw(st.integers(1, 4)) for each in refusals if each in few},
            data,
        )
        order = Withdrawn(id="w", withdrawal="model", target="xl", by=("a" * 32,), justification="x")
        entries = sorted([*told, (DAY, order), *withheld], key=lambda pair: pair[0])
        figures = asdict(figures_of(tally_of(entries)))
        # When an order took effect is a fact of the servers, whoever was served.
        for row in figures["withdrawals"]:
            del row["effect_seconds"]
        del figures["logs"], figures["reservations"]
        return figures

    assert whole() == whole()


def test_interrupted_calls_tell_what_they_may_have_emitted_if_there_are_enough() -> None:
    def interrupted(count: int) -> Figures:
        entries: list[tuple[float, Entry]] = [(1, opening(f"c{n}", reserved_tokens=64)) for n in range(9)]
        return figures_of(tally_of([*entries, *((2, Interrupted(call=f"c{n}")) for n in range(count))]))

    many, few = interrupted(6), interrupted(3)

    assert (many.interrupted, many.interrupted_tokens) == (Figure(6), Figure(384))
    assert (few.interrupted, few.interrupted_tokens) == (Figure(0, 1), Figure(0, 1))
