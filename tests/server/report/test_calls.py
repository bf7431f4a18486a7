from __future__ import annotations

import pytest
from audit_logs import closing, opening
from report_logs import DAY, at, log_report, record, tally_of

from sluicegate.auth import Audience, Reason
from sluicegate.server.audit import Decision
from sluicegate.server.audit.entries import Denials, Interrupted
from sluicegate.server.report import calls as counting
from sluicegate.server.report.calls import UNKNOWN_CALLERS, CallCounts, Cell, Refusal
from sluicegate.server.report.tally import Tally

CELL = Cell("partner", "example-lab", "gpt2-774m")


def counts(*entries: tuple[float, object]) -> CallCounts:
    return tally_of(entries).calls  # type: ignore[arg-type]


def test_requests_count_when_they_begin_and_tokens_when_they_end() -> None:
    found = counts(
        (-10, opening("before")),
        (10, closing("before", input_tokens=7, emitted_tokens=12)),
        (7 * DAY - 10, opening("after")),
        (7 * DAY + 10, closing("after", emitted_tokens=99)),
    )

    assert dict(found.requests) == {(6, CELL): 1}
    assert (dict(found.ended), found.input_tokens[CELL], found.output_tokens[CELL]) == ({CELL: 1}, 7, 12)


def test_cells_are_by_audience_partner_and_model() -> None:
    found = counts(
        (1, opening("a")),
        (2, opening("b", audience=Audience.PUBLIC, partner="public", model="gpt2-124m")),
        (3, opening("c", audience=None, model=None)),
    )

    assert {cell for _, cell in found.requests} == {
        CELL,
        Cell("public", "public", "gpt2-124m"),
        Cell("none", "example-lab", "other"),
    }


def test_an_interrupted_call_counts_with_what_it_may_have_emitted() -> None:
    found = counts((1, opening("a", reserved_tokens=64)), (2, Interrupted(call="a")))

    assert (found.interrupted[CELL], found.reserved_tokens[CELL], dict(found.ended)) == (1, 64, {})


def test_refusals_count_by_partner_and_reason() -> None:
    found = counts(
        (1, opening("a", decision=Decision.DENIED, reason=Reason.MODEL_NOT_RELEASED, code="PERMISSION_DENIED")),
        (2, opening("b", decision=Decision.DENIED, reason=None, code="INTERNAL")),
        (DAY, Denials(since=at(DAY - 60), until=at(DAY), counts={Reason.TOKEN_EXPIRED: 5})),
        (60, Denials(since=at(-60), until=at(0), counts={Reason.TOKEN_EXPIRED: 7})),
    )

    assert dict(found.refusals) == {
        (0, Refusal("example-lab", Reason.MODEL_NOT_RELEASED)): 1,
        (0, Refusal("example-lab", None)): 1,
        (0, Refusal(UNKNOWN_CALLERS, Reason.TOKEN_EXPIRED)): 5,
    }
    assert not found.requests


def test_an_end_without_a_beginning_is_noticed() -> None:
    assert counts((1, closing("lost")), (-5, closing("long ago"))).unattributed == 1


def test_calls_of_two_logs_with_one_id_are_two_calls() -> None:
    tally = Tally(tally_of([]).period)
    for replica, tokens in (("gate-0", 1), ("gate-1", 2)):
        tally.follow(log_report(replica), record(1, opening("same")))
        tally.follow(log_report(replica), record(2, closing("same", emitted_tokens=tokens)))

    assert (tally.calls.ended[CELL], tally.calls.output_tokens[CELL], tally.calls.unattributed) == (2, 3, 0)


def test_names_beyond_any_policy_become_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_NAMES", 2)

    found = counts(*((n, opening(f"c{n}", partner=f"partner-{n}")) for n in range(5)))

    assert {cell.partner for _, cell in found.requests} == {"partner-0", "partner-1", "other"}
