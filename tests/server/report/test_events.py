from __future__ import annotations

from report_logs import DAY, PERIOD, log_report, record

from sluicegate.server.audit.entries import Checkpoint, Entry, Outage, PolicyChanged
from sluicegate.server.audit.problems import Report
from sluicegate.server.report.events import EventBook

CHECKPOINT = Checkpoint(head="0" * 64, signature="A" * 86)


def changed(revision: str, stage: str, before: tuple[str, str] | None = None) -> PolicyChanged:
    previous = before or (None, None)
    return PolicyChanged(
        revision=revision,
        previous_revision=previous[0],
        stage=stage,
        previous_stage=previous[1],
        signatures_checked=True,
    )


def book_of(*entries: tuple[float, Report, Entry]) -> EventBook:
    book = EventBook(PERIOD)
    for number, (seconds, log, entry) in enumerate(entries):
        book.follow(log, record(seconds, entry, number))
    book.finish()
    return book


def test_a_change_on_all_replicas_is_one() -> None:
    one, two = log_report("gate-0"), log_report("gate-1")

    book = book_of(
        (-10, one, changed("r1", "s1")),
        (-9, two, changed("r1", "s1")),
        (10, one, changed("r2", "s2", ("r1", "s1"))),
        (12, two, changed("r2", "s2", ("r1", "s1"))),
    )

    [change] = book.changes
    assert (change.at, change.until) == ("2026-10-01T00:00:10.000Z", "2026-10-01T00:00:12.000Z")
    assert (change.previous_revision, change.previous_stage, change.changes_stage) == ("r1", "s1", True)
    assert change.replicas == {"gate-0", "gate-1"}


def test_a_start_with_the_policy_of_before_is_no_change_and_with_another_it_is() -> None:
    log = log_report()

    book = book_of((-10, log, changed("r1", "s1")), (10, log, changed("r1", "s1")), (20, log, changed("r2", "s1")))

    [change] = book.changes
    assert (change.previous_revision, change.revision, change.changes_stage) == ("r1", "r2", False)
    assert book.coverage[id(log)].starts == 2


def test_there_and_back_again_are_two_changes() -> None:
    log = log_report()

    book = book_of(
        (-1, log, changed("r1", "s1")),
        (1, log, changed("r2", "s2", ("r1", "s1"))),
        (2, log, changed("r1", "s1", ("r2", "s2"))),
        (3, log, changed("r2", "s2", ("r1", "s1"))),
    )

    assert [change.stage for change in book.changes] == ["s2", "s1", "s2"]


def test_an_outage_ends_with_its_entry() -> None:
    book = book_of((50, log_report(), Outage(since="2026-10-01T00:00:09.000Z", cause="disk_full", openings_lost=7)))

    [outage] = book.outages
    assert (outage.since, outage.until, outage.cause) == (
        "2026-10-01T00:00:09.000Z",
        "2026-10-01T00:00:50.000Z",
        "disk_full",
    )


def test_the_longest_silence_counts_inside_the_period_only() -> None:
    log = log_report()

    book = book_of(
        (-50 * DAY, log, CHECKPOINT), (DAY, log, CHECKPOINT), (3 * DAY, log, CHECKPOINT), (20 * DAY, log, CHECKPOINT)
    )

    coverage = book.coverage[id(log)]
    assert (coverage.silent_seconds, coverage.silent_since) == (4 * DAY, "2026-10-04T00:00:00.000Z")
    assert coverage.checkpoints == 2


def test_a_log_that_ends_early_is_silent_from_then_on() -> None:
    log = log_report()

    coverage = book_of((0, log, CHECKPOINT), (DAY, log, CHECKPOINT)).coverage[id(log)]

    assert (coverage.silent_seconds, coverage.silent_since) == (6 * DAY, "2026-10-02T00:00:00.000Z")


def test_the_head_is_that_of_the_last_checkpoint_whose_signature_holds() -> None:
    log, book = log_report(), EventBook(PERIOD)
    log.signed_to = 3
    book.follow(log, record(1, CHECKPOINT, 4))
    first = book.heads[id(log)]
    book.follow(log, record(2, CHECKPOINT, 9))

    assert book.heads[id(log)] == first
    assert (first.log, first.entry) == (log.log, 4)
