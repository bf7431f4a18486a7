"""Single values of policy files: what is taken, and that a refusal says how to write it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from ipaddress import ip_network
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter, ValidationError

from sluicegate.auth import fields


def read(kind: Any, value: object) -> object:
    return TypeAdapter(kind).validate_python(value, strict=True)


def refusal(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        read(kind, value)
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (fields.Seconds, "900s", 900),
        (fields.Seconds, "15m", 900),
        (fields.Seconds, "8h", 28_800),
        (fields.Seconds, "90d", 7_776_000),
        (fields.Timestamp, "2026-01-20T00:00:00Z", datetime(2026, 1, 20, tzinfo=UTC)),
        (fields.Day, "2024-02-29", date(2024, 2, 29)),
        (fields.Network, "192.0.2.0/24", ip_network("192.0.2.0/24")),
        (fields.Network, "2001:db8::/32", ip_network("2001:db8::/32")),
        (fields.TimeZone, "America/New_York", ZoneInfo("America/New_York")),
        (fields.DayWindow, "07:00-22:00", (420, 1320)),
        (fields.DayWindow, "00:00-24:00", (0, 1440)),
        (fields.ModelId, "gpt2-1.5b", "gpt2-1.5b"),
        (fields.Names, ["a", "b"], ("a", "b")),
    ],
)
def test_a_value_is_read(kind: Any, written: object, value: object) -> None:
    assert read(kind, written) == value


@pytest.mark.parametrize(
    ("kind", "written", "text"),
    [
        *[
            (fields.Seconds, value, "write a duration")
            for value in (900, "900", "0s", "1.5h", "15 min", "1w", "-1s", "\uff11s", "", None, "99999999s")
        ],
        *[
            (fields.Timestamp, value, "write a time in UTC")
            for value in ("2026-01-20", "2026-01-20T00:00:00", "2026-01-20T00:00:00+01:00", "2026-01-20t00:00:00z", 0)
        ],
        (fields.Timestamp, "\uff12026-01-20T00:00:00Z", "write a time in UTC"),
        (fields.Timestamp, "2026-02-30T00:00:00Z", "2026-02-30T00:00:00Z is no time that there is"),
        (fields.Timestamp, "2026-01-20T24:00:00Z", "is no time that there is"),
        (fields.Day, "2026-99-99", "2026-99-99 is no day that there is"),
        (fields.Day, "12.01.2026", "write a day as 2026-01-20"),
        (fields.Network, "192.0.2.7", "write a network as 192.0.2.0/24"),
        (fields.Network, "192.0.2.7/24", "host bits set"),
        (fields.Network, "all/0", "does not appear to be"),
        *[(fields.TimeZone, value, "IANA database") for value in ("Mars/Base", "", "../etc/passwd", "/etc/passwd", 1)],
        *[(fields.DayWindow, value, "write hours of a day") for value in ("9-17", "24:00-25:00", "07:60-22:00", 7)],
        (fields.DayWindow, "22:00-07:00", "hours must end after they start"),
        (fields.DayWindow, "07:00-07:00", "hours must end after they start"),
        *[(fields.ModelId, value, "write a model id") for value in ("GPT2", "", "-a", "a b", "a\n", "a" * 64, "a/b")],
        *[(fields.PartnerName, value, "2 to 31") for value in ("a", "Lab", "1ab", "a" * 32, "a_b")],
        *[(fields.Slug, value, "a letter first") for value in ("", "1a", "A", "a" * 64, "a\n")],
        *[(fields.Sha256, value, "64 lower-case hex") for value in ("zz", "A" * 64, "0" * 63, "0" * 64 + "\n")],
        *[(fields.Name, value, "on one line") for value in ("", "a\nb", "a\x1b[31m", "a" * 256)],
        (fields.Names, ["a", "a"], "an entry stands here twice"),
    ],
)
def test_a_refusal_says_how_to_write_it(kind: Any, written: object, text: str) -> None:
    assert text in refusal(kind, written)


def test_terms_are_frozen_and_know_no_other_member() -> None:
    class Example(fields.Terms):
        count: int

    with pytest.raises(ValidationError):
        Example.model_validate({"count": 1, "more": 1})
    with pytest.raises(ValidationError):
        Example.model_validate({"count": "1"})
    with pytest.raises(ValidationError):
        Example.model_validate({"count": True})
    with pytest.raises(ValidationError):
        Example(count=1).count = 2


def test_a_table_cannot_be_changed_after_it_was_read() -> None:
    table: Any = read(fields.Table[int], {"gpt2-124m": 1})

    with pytest.raises(TypeError):
        table["gpt2-355m"] = 2
