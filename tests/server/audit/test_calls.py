"""The verifier's book of calls stays small, whatever a log says."""

from __future__ import annotations

import pytest
from audit_logs import closing, opening

from sluicegate.server.audit import calls
from sluicegate.server.audit.calls import CallBook


def test_no_more_calls_are_remembered_than_a_server_can_have_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_OPEN_CALLS", 3)
    book = CallBook()

    found = [kind for n in range(5) for kind, _ in book.follow(opening(f"call-{n}"))]

    assert found == ["too_many_open_calls"] * 2
    assert len(book.open) == 3


def test_a_second_closing_long_after_the_first_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "REMEMBERED_ENDS", 2)
    book = CallBook()
    for n in range(4):
        assert list(book.follow(opening(f"call-{n}"))) == []
        assert list(book.follow(closing(f"call-{n}"))) == []

    [(late, _)] = book.follow(closing("call-0"))
    [(early, _)] = book.follow(closing("call-3"))

    assert (late, early) == ("tokens_without_opening", "call_closed_twice")
