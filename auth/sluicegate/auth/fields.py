"""Types of single values in policy files, with the texts that say what is wrong with one."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, date, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import MappingProxyType
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainValidator

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)", re.ASCII)


class Terms(BaseModel):
    """A part of a policy file: frozen, exact types, and no member that we do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=False)


def parse_duration(value: object) -> int:
    """Seconds of `900s`, `15m`, `8h` or `90d`. Raises ValueError."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write a duration as a number and s, m, h or d, as 900s or 8h")
    return int(match[1]) * _SECONDS[match[2]]


def parse_timestamp(value: object) -> datetime:
    """The moment of `2026-01-20T00:00:00Z`; always UTC. Raises ValueError."""
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        raise ValueError("write a time in UTC, as 2026-01-20T00:00:00Z")
    try:
        return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"{value} is no time that there is; write one as 2026-01-20T00:00:00Z") from error


def _day(value: object) -> date:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError("write a day as 2026-01-20")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"{value} is no day that there is; write one as 2026-01-20") from error


def _network(value: object) -> IPv4Network | IPv6Network:
    if not isinstance(value, str) or "/" not in value:
        raise ValueError("write a network as 192.0.2.0/24 or 2001:db8::/32")
    return ip_network(value)


def _zone(value: object) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(value if isinstance(value, str) else "")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("write a time zone of the IANA database, as America/New_York") from error


def _window(value: object) -> tuple[int, int]:
    match = _WINDOW.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write hours of a day as "07:00-22:00"')
    start = int(match[1]) * 60 + int(match[2])
    end = int(match[3]) * 60 + int(match[4]) if match[3] else 24 * 60
    if start >= end:
        raise ValueError("hours must end after they start, on the same day")
    return start, end


def _no_duplicates(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise ValueError("an entry stands here twice")
    return value


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def matching(pattern: str, text: str) -> AfterValidator:
    """Refuses a string that does not match as a whole, with a text that says how to write it."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(text)
        return value

    return AfterValidator(check)


_Value = TypeVar("_Value")

ModelId = Annotated[
    str,
    matching(r"[a-z0-9][a-z0-9.-]{0,62}", "write a model id of lower-case letters, digits, `.` and `-`, as gpt2-124m"),
]
"""Fits into a scope, a health name and a metric label."""
Slug = Annotated[
    str,
    matching(r"[a-z][a-z0-9-]{0,62}", "write at most 63 lower-case letters, digits and `-`, a letter first"),
]
PartnerName = Annotated[
    str,
    matching(r"[a-z][a-z0-9-]{1,30}", "write 2 to 31 lower-case letters, digits and `-`, a letter first"),
]
Name = Annotated[str, matching(r"[^\x00-\x1f\x7f]{1,255}", "write 1 to 255 characters on one line")]
Acr = Annotated[str, matching(r"[!-~]{1,255}", "write an acr as 1 to 255 ASCII characters without spaces")]
"""What stands between spaces in `acr_values` (RFC 9470, section 4)."""
Text = Annotated[str, matching(r"(?s).{1,4000}", "write 1 to 4000 characters")]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "write a SHA-256 digest as 64 lower-case hex digits")]
Day = Annotated[date, PlainValidator(_day)]
Seconds = Annotated[int, PlainValidator(parse_duration)]
Timestamp = Annotated[datetime, PlainValidator(parse_timestamp)]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(_network)]
TimeZone = Annotated[zoneinfo.ZoneInfo, PlainValidator(_zone)]
DayWindow = Annotated[tuple[int, int], PlainValidator(_window)]
"""First and end minute of a day; the end is not part of it."""
Listing = Annotated[tuple[_Value, ...], BeforeValidator(_tuple)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_tuple), AfterValidator(_no_duplicates)]
Acrs = Annotated[tuple[Acr, ...], BeforeValidator(_tuple), AfterValidator(_no_duplicates)]
ModelIds = Annotated[tuple[ModelId, ...], BeforeValidator(_tuple), AfterValidator(_no_duplicates)]
Table = Annotated[Mapping[ModelId, _Value], AfterValidator(MappingProxyType)]
