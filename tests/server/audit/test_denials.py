"""Strangers are counted, not listed."""

from __future__ import annotations

from sluicegate.auth import Reason
from sluicegate.server.audit.denials import DenialCounter
from sluicegate.server.audit.entries import Denials


def test_a_minutes_denials_are_one_entry() -> None:
    counter = DenialCounter()
    for n in range(1000):
        counter.count(Reason.TOKEN_MISSING if n % 4 else Reason.TOKEN_EXPIRED, 60.0 + n / 20)

    taken = counter.take()

    assert taken == Denials(
        since="1970-01-01T00:01:00.000Z",
        until="1970-01-01T00:02:00.000Z",
        counts={Reason.TOKEN_EXPIRED: 250, Reason.TOKEN_MISSING: 750},
    )
    assert counter.take() is None


def test_a_minute_is_over_when_another_begins() -> None:
    counter = DenialCounter()

    assert (counter.is_over(59.0), counter.seconds_left(59.0)) == (False, None)
    counter.count(Reason.TOKEN_MISSING, 59.0)

    assert (counter.is_over(59.9), counter.seconds_left(59.0)) == (False, 1.0)
    assert counter.is_over(60.0)


def test_minutes_that_could_not_be_taken_are_told_together() -> None:
    counter = DenialCounter()

    for now in (59.0, 130.0, 100.0):  # the clock was set back in between
        counter.count(Reason.TOKEN_MISSING, now)

    taken = counter.take()
    assert taken is not None
    assert (taken.since, taken.until) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:03:00.000Z")
