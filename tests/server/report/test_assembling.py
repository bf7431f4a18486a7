from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from audit_logs import closing, opening
from evidence_files import bias, watermark
from policies import policy, release
from report_logs import DAY, PERIOD, log_report, record, tally_of

from sluicegate.auth import Policy
from sluicegate.evidence import EvidenceSet, Filed
from sluicegate.server.audit import FindingFiled, FindingReviewed, PolicyChanged
from sluicegate.server.audit.entries import Entry
from sluicegate.server.report.assembling import Logs, assemble
from sluicegate.server.report.figures import Figures
from sluicegate.server.report.period import Period
from sluicegate.server.report.suppression import Figure
from sluicegate.server.report.tally import Tally

LATER = datetime(2026, 2, 1, tzinfo=UTC)
JANUARY = Period("2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z")


def told(*entries: tuple[float, Entry], period: Period = PERIOD, plan: Policy | None = None) -> Figures:
    """The figures of one log with these entries, which was compared with a key and a head."""
    log, tally = log_report(), Tally(period)
    log.is_key_given = log.is_anchored = True
    for number, (seconds, entry) in enumerate(entries):
        tally.follow(log, record(seconds, entry, number))
    return assemble(tally, Logs([log], 0), title="Title", policy=plan)


def has(figures: Figures, text: str) -> bool:
    return any(text in each for each in figures.reservations)


def test_a_log_that_covers_the_period_needs_no_reservation() -> None:
    figures = told(*((n * 300.0, opening(f"c{n}")) for n in range(-1, round(7 * DAY / 300) + 1)))

    assert figures.reservations == (
        "No Prometheus was asked: alerts, duplicates, personal data and flagged content are not in this report.",
    )


def test_a_log_that_covers_a_part_only_is_told_with_its_ends() -> None:
    figures = told((DAY, opening("a")), (2 * DAY, opening("b")))

    assert has(figures, "The log of replica gate-0 begins at 2026-10-02T00:00:00.000Z, after the period does.")
    assert has(figures, "has no entry since 2026-10-03T00:00:00.000Z; the figures go up to 5 d later")
    assert not has(figures, "did not run")


def test_a_silence_between_entries_is_told_in_words() -> None:
    figures = told((-1, opening("a")), (7_500, opening("b")), (7 * DAY, opening("c")), period=PERIOD)

    assert has(figures, "has no entry for 6 d 21 h from 2026-10-01T02:05:00.000Z on: its server did not run, or could")


def test_an_end_shortly_before_the_period_ends_is_told_without_a_guess() -> None:
    figures = told(*((n * 300.0, opening(f"c{n}")) for n in range(-1, round(7 * DAY / 300))))

    assert has(figures, "The log of replica gate-0 ends at 2026-10-07T23:55:00.000Z, before the period does.")
    assert not has(figures, "has no entry")


def test_a_period_that_is_not_over_is_told_first_and_the_next_entry_is_not_missed() -> None:
    now = "2026-10-01T06:01:00.000Z"
    period = Period(PERIOD.since, now, asked_until=PERIOD.until)

    figures = told(*((n * 300.0, opening(f"c{n}")) for n in range(-1, 73)), period=period)

    assert figures.reservations[0] == (
        f"The period is not over: figures up to {now}, of a period that ends at {PERIOD.until}."
    )
    assert figures.until == now
    assert not any("The log of" in each or "whole days" in each for each in figures.reservations)


def test_a_period_that_is_not_whole_days_is_told() -> None:
    assert has(told(period=Period(PERIOD.since, "2026-10-01T06:00:00.000Z")), "not made of whole days")
    assert has(told(), "has no entries")


def test_keys_and_anchors_that_were_not_given_are_told() -> None:
    figures = assemble(tally_of([]), Logs([log_report()], 0), title="Title")

    assert has(figures, "No key was given")
    assert has(figures, "Not every log was compared with a head kept elsewhere")


def test_ends_without_a_beginning_are_told() -> None:
    assert has(told((1, closing("a"))), "Some calls ended whose beginnings are not in the logs")


def test_a_policy_directory_adds_its_record_and_what_is_open() -> None:
    plan = policy()
    tally, log = Tally(JANUARY), log_report()
    change = PolicyChanged(
        revision=plan.revision, previous_revision="0", stage="s2", previous_stage="s1", signatures_checked=True
    )
    for number, (revision, stage) in enumerate((("0", "s1"), (plan.revision, "s2"))):
        entry = PolicyChanged(
            revision=revision,
            previous_revision=change.previous_revision if number else None,
            stage=stage,
            previous_stage="s1" if number else None,
            signatures_checked=True,
        )
        tally.follow(log, record(-270 * DAY + number, entry, number))

    figures = assemble(tally, Logs([log], 0), title="Title", policy=plan)

    [step] = figures.planned
    assert (step.at, step.from_stage, step.to_stage, step.is_in_logs) == ("2026-01-03T16:00:00.000Z", "s1", "s2", True)
    [active] = [stage for stage in figures.stages if stage.is_active]
    assert (active.id, dict(active.open_to)["gpt2-124m"], len(figures.stages)) == ("s2", "public", 3)
    assert {model for model, _ in active.open_to} == set(plan.models)
    assert not has(figures, "not the policy last put in force")


def test_another_policy_than_the_one_in_force_is_told() -> None:
    change = PolicyChanged(
        revision="else", previous_revision=None, stage="s2", previous_stage=None, signatures_checked=True
    )

    assert has(told((1, change), plan=policy(release())), "is not the policy last put in force in the period")


def test_findings_are_followed_to_what_operators_made_of_them() -> None:
    filed = FindingFiled(
        id="f0",
        sha256="f" * 64,
        finding="bias",
        severity="low",
        model="gpt2-124m",
        stage="s2",
        partner="example-lab",
        agreement=None,
        client=None,
    )
    review = FindingReviewed(id="f0", sha256="f" * 64, status="accepted", by=("a" * 32,), justification="It holds.")

    figures = told(
        *((n, replace(filed, id=f"f{n}")) for n in range(5)), *((9 + n, replace(review, id=f"f{n}")) for n in range(5))
    )

    assert figures.findings.filed == Figure(5)
    assert [(row.names, row.count) for row in figures.findings.by_status or ()] == [
        (("open",), 0),
        (("accepted",), 5),
        (("rejected",), 0),
    ]


def test_what_was_measured_after_the_period_is_not_told() -> None:
    evidence = EvidenceSet(tuple(Filed(each, "0" * 64, "a.json") for each in (bias("m"), watermark("m", ended=LATER))))

    figures = assemble(Tally(JANUARY), Logs([], 0), title="Title", evidence=evidence)

    assert figures.evaluations is not None
    assert (len(figures.evaluations.bias), figures.evaluations.watermark) == (1, ())
