from __future__ import annotations

import pytest

from sluicegate.server.report.period import Period, duration_text, up_to_now

OCTOBER = Period("2026-10-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z")


def test_its_end_is_not_part_of_it() -> None:
    assert "2026-10-01T00:00:00.000Z" in OCTOBER
    assert "2026-10-31T23:59:59.999Z" in OCTOBER
    assert "2026-11-01T00:00:00.000Z" not in OCTOBER
    assert "2026-09-30T23:59:59.999Z" not in OCTOBER


def test_a_month_has_a_span_for_each_day() -> None:
    assert (OCTOBER.spans, OCTOBER.span_days) == (31, 1)
    assert OCTOBER.span_of("2026-10-02T00:00:00.000Z") == 1
    assert OCTOBER.span_starts(1) == "2026-10-02T00:00:00.000Z"
    assert OCTOBER.span_starts(31) == OCTOBER.until


@pytest.mark.parametrize(
    ("until", "days", "spans"),
    [("2026-10-01T06:00:00.000Z", 1, 1), ("2026-10-02T06:00:00.000Z", 1, 2), ("2027-10-01T00:00:00.000Z", 6, 61)],
)
def test_there_are_few_enough_spans_and_the_last_may_be_short(until: str, days: int, spans: int) -> None:
    period = Period(OCTOBER.since, until)

    assert (period.span_days, period.spans) == (days, spans)
    assert period.span_starts(spans) == until


def test_whole_days_are_told_from_others() -> None:
    assert OCTOBER.has_whole_days
    assert not Period(OCTOBER.since, "2026-10-02T06:00:00.000Z").has_whole_days


def test_a_period_that_is_not_over_is_cut_at_now() -> None:
    now = "2026-10-05T10:00:00.000Z"

    assert up_to_now(OCTOBER.since, OCTOBER.until, OCTOBER.until) == OCTOBER
    assert up_to_now(OCTOBER.since, OCTOBER.until, now) == Period(OCTOBER.since, now, asked_until=OCTOBER.until)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (3_599.0, "59 min"),
        (7_500.0, "2 h 5 min"),
        (86_400.0, "1 d"),
        (90_061.0, "1 d 1 h"),
    ],
)
def test_a_duration_is_told_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
