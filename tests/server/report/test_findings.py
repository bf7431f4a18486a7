from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_logs import DAY, PERIOD, at

from sluicegate.server.audit import FindingFiled, FindingReviewed
from sluicegate.server.observe.findings import FINDING_KINDS
from sluicegate.server.report import findings as module
from sluicegate.server.report.figures import FindingRow
from sluicegate.server.report.findings import SEVERITIES, STATUSES, Finding, FindingBook, finding_figures
from sluicegate.server.report.suppression import Figure, is_small
from sluicegate.server.state import FindingStatus, Severity


def filed(id_: str, *, kind: str = "bias", severity: str = "low", model: str = "gpt2-124m") -> FindingFiled:
    return FindingFiled(
        id=id_,
        sha256="f" * 64,
        finding=kind,
        severity=severity,
        model=model,
        stage="s1",
        partner="example-lab",
        agreement=None,
        client=None,
    )


def reviewed(id_: str, status: str) -> FindingReviewed:
    return FindingReviewed(id=id_, sha256="f" * 64, status=status, by=("a" * 32,), justification="It holds.")


def book_of(*entries: tuple[float, FindingFiled | FindingReviewed]) -> FindingBook:
    """What was followed, with times in seconds after the period's start."""
    book = FindingBook(PERIOD)
    for seconds, entry in entries:
        if isinstance(entry, FindingFiled):
            book.filed(at(seconds), entry)
        else:
            book.reviewed(at(seconds), entry)
    return book


def test_our_words_are_those_of_the_state_store() -> None:
    assert list(SEVERITIES) == [each.value for each in Severity]
    assert list(STATUSES) == [each.value for each in FindingStatus]


def test_findings_of_the_period_count_with_the_last_review_in_it() -> None:
    book = book_of(
        (-5, filed("before")),
        (1, filed("a")),
        (2, filed("b")),
        (3, filed("c")),
        (4, reviewed("before", "accepted")),
        (5, reviewed("a", "rejected")),
        (6, reviewed("a", "accepted")),
        (7, reviewed("b", "rejected")),
        (7 * DAY, filed("after")),
        (7 * DAY + 1, reviewed("c", "accepted")),
    )

    assert {id_: each.status for id_, each in book.findings.items()} == {"a": "accepted", "b": "rejected", "c": "open"}


def test_words_that_nobody_knows_are_other() -> None:
    book = book_of((1, filed("a", kind="new", severity="grave")), (2, reviewed("a", "postponed")))

    assert book.findings == {"a": Finding("other", "other", "gpt2-124m", "open")}


def test_a_book_is_bounded_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FINDINGS", 4)
    monkeypatch.setattr(module, "MAX_NAMES", 2)

    book = book_of(*((n, filed(f"f{n}", model=f"m{n}")) for n in range(6)))

    assert [each.model for each in book.findings.values()] == ["m0", "m1", "other", "other"]
    assert book.left_out == 2


def test_small_rows_are_told_with_their_neighbours_and_no_finding_is_left_out() -> None:
    of = [("bias", "high", "accepted")] * 6 + [("misuse", "low", "open")] * 2 + [("other", "low", "open")] * 7
    book = book_of(
        *((n, filed(f"f{n}", kind=kind, severity=severity)) for n, (kind, severity, _) in enumerate(of)),
        *((n + 0.5, reviewed(f"f{n}", status)) for n, (_, _, status) in enumerate(of) if status != "open"),
    )

    told = finding_figures(book)

    assert told.filed == Figure(15)
    assert told.by_kind == (
        FindingRow(("bias",), 6),
        FindingRow(("misuse", "detectability", "memorisation", "other"), 9),
    )
    assert told.by_severity == (
        FindingRow(("low",), 9),
        FindingRow(("medium",), 0),
        FindingRow(("high",), 6),
        FindingRow(("critical",), 0),
    )
    assert told.by_status == (FindingRow(("open",), 9), FindingRow(("accepted",), 6), FindingRow(("rejected",), 0))
    assert told.by_model == (FindingRow(("gpt2-124m",), 15),)


def test_of_few_findings_nothing_is_told() -> None:
    told = finding_figures(book_of(*((n, filed(f"f{n}")) for n in range(4))))

    assert told.filed == Figure(withheld=1)
    assert (told.by_kind, told.by_severity, told.by_status, told.by_model) == (None, None, None, None)


def test_without_findings_all_rows_are_zero() -> None:
    told = finding_figures(book_of())

    assert (told.filed, told.by_model) == (Figure(0), ())
    assert {row.count for row in told.by_kind or ()} == {0}


@given(
    st.lists(
        st.builds(
            Finding,
            kind=st.sampled_from(FINDING_KINDS),
            severity=st.sampled_from(SEVERITIES),
            model=st.sampled_from(("a", "b", "c")),
            status=st.sampled_from(STATUSES),
        ),
        max_size=40,
    )
)
def test_every_table_has_all_findings_and_no_small_row(found: list[Finding]) -> None:
    book = FindingBook(PERIOD)
    book.findings = {str(n): each for n, each in enumerate(found)}

    told = finding_figures(book)

    tables: Iterable[tuple[FindingRow, ...] | None] = (told.by_kind, told.by_severity, told.by_status, told.by_model)
    for table in tables:
        assert (table is None) == is_small(len(found))
        if table is not None:
            assert sum(row.count for row in table) == len(found) == told.filed.value
            assert not any(is_small(row.count) for row in table)
