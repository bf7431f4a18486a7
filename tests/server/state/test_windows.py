"""Windows tile time, in every time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.server.state.windows import Window, day_of, minute_of

HOUR_MS = 3_600_000
ZONES = [
    "UTC",
    "America/New_York",
    "America/Havana",  # goes back from 1 to 0 o'clock: midnight comes twice
    "America/Sao_Paulo",  # until 2018 went forward at midnight: there was none
    "America/St_Johns",  # until 2011 went back at 0:01: a date came back
    "Pacific/Apia",  # 30 December 2011 never was
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@given(now_ms=st.integers(0, ms("2040-01-01T00:00")))
def test_minute_is_the_whole_minute_around_a_moment(now_ms: int) -> None:
    window = minute_of(now_ms)

    assert window.start_ms <= now_ms < window.end_ms
    assert window.start_ms % 60_000 == 0
    assert window.end_ms - window.start_ms == 60_000


@settings(derandomize=True, max_examples=500)
@given(zone=st.sampled_from(ZONES).map(ZoneInfo), now_ms=st.integers(ms("2005-01-01T00:00"), ms("2036-01-01T00:00")))
def test_days_follow_each_other_without_gap_and_without_overlap(zone: ZoneInfo, now_ms: int) -> None:
    day = day_of(now_ms, zone)

    assert day.start_ms <= now_ms < day.end_ms
    assert day == day_of(day.start_ms, zone) == day_of(day.end_ms - 1, zone)
    assert day_of(day.end_ms, zone).start_ms == day.end_ms
    assert day_of(day.start_ms - 1, zone).end_ms == day.start_ms


@pytest.mark.parametrize(
    ("zone", "noon", "start", "hours"),
    [
        ("America/New_York", "2026-02-02T17:00", "2026-02-02T05:00", 24),
        ("America/New_York", "2026-03-08T17:00", "2026-03-08T05:00", 23),
        ("America/New_York", "2026-11-01T17:00", "2026-11-01T04:00", 25),
        ("America/Havana", "2026-11-01T17:00", "2026-11-01T04:00", 25),
        ("America/Sao_Paulo", "2018-11-04T15:00", "2018-11-04T03:00", 23),
        ("America/St_Johns", "2006-10-29T15:00", "2006-10-29T02:30", 25),
        ("Pacific/Apia", "2011-12-29T22:00", "2011-12-29T10:00", 24),
        ("Pacific/Apia", "2011-12-30T22:00", "2011-12-30T10:00", 24),
        ("Asia/Kathmandu", "2026-02-02T06:00", "2026-02-01T18:15", 24),
    ],
)
def test_day_begins_at_its_first_midnight(zone: str, noon: str, start: str, hours: int) -> None:
    day = day_of(ms(noon), ZoneInfo(zone))

    assert day == Window(ms(start), ms(start) + hours * HOUR_MS)
