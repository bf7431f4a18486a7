from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from audit_logs import closing, opening
from evidence_files import bias, memorisation, watermark
from policies import policy, release
from report_logs import PERIOD, log_report, record

from sluicegate.auth import Audience, Reason
from sluicegate.evidence import EvidenceSet, Filed
from sluicegate.server.audit import Decision, FindingFiled, PolicyChanged, Withdrawn
from sluicegate.server.audit.entries import Entry, Outage
from sluicegate.server.report.assembling import Logs, assemble
from sluicegate.server.report.evaluations import IntervalRow
from sluicegate.server.report.figures import AlertRow, Figures, SignalRow, Signals
from sluicegate.server.report.pages import (
    figure_text,
    html_page,
    interval_text,
    markdown_page,
    quoted,
    rate_text,
    seconds_text,
)
from sluicegate.server.report.suppression import Figure
from sluicegate.server.report.tally import Tally

HOSTILE = '<img src=x onerror="alert(1)">|[a](javascript:b)`{{ 7*7 }}'


def figures(name: str = "example-lab", *, title: str = "October", problems: int = 0) -> Figures:
    """A report with something in each of its parts; `name` stands wherever a log has a free name."""
    entries: list[Entry] = [
        PolicyChanged(
            revision="a" * 64, previous_revision=None, stage="s1", previous_stage=None, signatures_checked=True
        )
    ]
    for n in range(7):
        whose = {"partner": name, "model": name, "agreement": name}
        entries += [opening(f"c{n}", **whose), closing(f"c{n}", input_tokens=3)]
        entries.append(
            opening(f"d{n}", partner=name, decision=Decision.DENIED, reason=Reason.SCOPE_MISSING, code="X", model=name)
        )
    entries += [
        opening("small", audience=Audience.PUBLIC, partner="public", model=name),
        Withdrawn(id="w1", withdrawal="model", target=name, by=("a" * 32,), justification="Ann asked for it."),
        Withdrawn(id="w2", withdrawal="client", target="c" * 32, by=("a" * 32,), justification="Ann asked for it."),
        closing("small", reason=Reason.MODEL_WITHDRAWN, finish=None, code="PERMISSION_DENIED"),
        PolicyChanged(
            revision="b" * 64, previous_revision="a" * 64, stage=name, previous_stage="s1", signatures_checked=False
        ),
        Outage(since=PERIOD.since, cause=name, openings_lost=9),
        *(
            FindingFiled(
                id=f"f{n}",
                sha256="f" * 64,
                finding="bias",
                severity="high",
                model=name,
                stage="s1",
                partner=name,
                agreement=name,
                client="c" * 32,
            )
            for n in range(6)
        ),
    ]
    tally, log = Tally(PERIOD), log_report(name)
    for number, entry in enumerate(entries):
        tally.follow(log, record(number, entry, number))
    signals = Signals(
        gaps=(f"A gap: {name}.",),
        alerts=(AlertRow(name, "misuse", "page", 2, 30),),
        prompt_duplicates=(SignalRow(name, Figure(12)), SignalRow("public", Figure(0, 1))),
        output_duplicates=(),
        personal_data=(SignalRow(name, Figure(5)),),
        flagged_lexicon=(),
        memorisation=(),
    )
    evidence = EvidenceSet(
        tuple(
            Filed(each, f"{at}" * 64, f"{at}.json")
            for at, each in enumerate((bias(name, suite=name), watermark(name), memorisation(name, matched=3)))
        )
    )
    return assemble(tally, Logs([log], problems), title=title, evidence=evidence, signals=signals)


class Page(HTMLParser):
    """Its elements with their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))


def test_a_page_lets_nothing_in_and_has_no_script() -> None:
    text = html_page(figures())

    page = Page(text)
    [policy] = [
        each["content"] or "" for tag, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"
    ]
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "a", "form", "base"})
    attributes = {name for _, each in page.elements for name in each}
    assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "href", "xlink:href")]
    assert not re.search(r"url\(|@import", style)


def test_names_of_a_log_are_texts_on_the_page() -> None:
    plain, hostile = Page(html_page(figures())), Page(html_page(figures(HOSTILE, title=HOSTILE)))

    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in hostile.elements]
    assert HOSTILE in hostile.texts


def test_names_of_a_log_stay_in_their_cells_of_markdown() -> None:
    plain, hostile = markdown_page(figures()), markdown_page(figures(HOSTILE, title=HOSTILE))

    unquoted = re.sub(r"\\.", "", hostile)
    assert [line.count("|") for line in plain.splitlines()] == [line.count("|") for line in unquoted.splitlines()]
    assert "<img" not in unquoted
    assert "](" not in unquoted


def test_both_pages_have_the_same_figures_and_the_page_needs_no_plots() -> None:
    told = figures()
    html, markdown = Page(html_page(told)), markdown_page(told)
    without_plots = Page(re.sub(r"<svg.*?</svg>", "", html_page(told), flags=re.DOTALL))

    for text in (
        "example-lab",
        "SCOPE_MISSING",
        "withheld",
        "no call met",
        "s1 → example-lab",
        "aaaaaaaaaaaa → bbbbbbbbbbbb",
        "bias",
        "42.87 to 57.1",
        "000000000000",
        "2026-01-10",
    ):
        assert any(text in each for each in without_plots.texts), text
        assert text.replace("_", r"\_").replace("-", r"\-") in markdown or text in markdown
    assert len([tag for tag, _ in html.elements if tag == "svg"]) == 4


def test_nothing_personal_is_on_a_page() -> None:
    for text in (html_page(figures()), markdown_page(figures())):
        for personal in ("c" * 32, "d" * 32, "e" * 32, "a" * 32 + "<", "Ann"):
            assert personal not in text


def test_a_report_on_logs_that_do_not_verify_begins_with_that() -> None:
    told = figures(problems=3)

    html, markdown = Page(html_page(told)), markdown_page(told)

    first = next(text for text in html.texts if text != "October" and not text.startswith(":root"))  # title and style
    assert first.startswith("NOT VERIFIED: ")
    assert markdown.startswith("**NOT VERIFIED: ")
    assert told.is_verified is False


def test_what_a_reader_must_know_stands_before_the_figures() -> None:
    texts = Page(html_page(figures())).texts

    assert texts.index("Read first") < texts.index("Use")
    assert any("has no entry" in text for text in texts[: texts.index("Use")])
    assert "A gap: example-lab." in texts


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(1_234_567), "1\u202f234\u202f567"),
        (Figure(0), "0"),
        (Figure(0, 2), "withheld"),
        (Figure(7, 1), "7\u202f+"),
    ],
)
def test_figures_say_what_they_lack(figure: Figure, text: str) -> None:
    assert figure_text(figure) == text


def test_seconds_have_three_places() -> None:
    assert (seconds_text(0.7), seconds_text(None), seconds_text(1234.0)) == (
        "0.700\u202fs",
        "",
        "1\u202f234.000\u202fs",
    )


def test_rates_are_in_per_cent_with_four_digits() -> None:
    assert [rate_text(each) for each in (None, 0.0, 0.0009, 0.985, 0.58123)] == [
        "",
        "0\u202f%",
        "0.09\u202f%",
        "98.5\u202f%",
        "58.12\u202f%",
    ]
    assert interval_text(IntervalRow(0.95, 0.4, 0.6)) == "40 to 60\u202f% (95\u202f%)"
    assert interval_text(None) == ""


def test_markdown_is_quoted() -> None:
    assert quoted("a|b\n*c*_<d>`") == r"a\|b \*c\*\_\<d\>\`"


def test_a_policy_adds_its_stages_what_they_require_and_the_steps_with_their_evidence() -> None:
    steps = [{"from": "s1", "to": "s2", "at": "2026-10-02T00:00:00Z", "evidence_sha256": ["0" * 64, "1" * 64]}]
    evidence = EvidenceSet((Filed(bias("gpt2-774m"), "0" * 64, "bias.json"),))

    told = assemble(
        Tally(PERIOD), Logs([], 0), title="Release", policy=policy(release(transitions=steps)), evidence=evidence
    )
    html, markdown = Page(html_page(told)).texts, markdown_page(told)

    assert "s2: medium (active)" in html
    assert "000000000000, bias of gpt2-774m, occupations; 111111111111, not given" in html
    assert "| model | s1: small | s2: medium (active) | s3: large |\n|---|---|---|---|\n| gpt2\\-124m |" in markdown
    assert "| s3 | finding:example\\-lab | gpt2\\-774m | no evidence |  |" in markdown


def test_an_empty_period_makes_a_page_too() -> None:
    empty = assemble(Tally(PERIOD), Logs([], 0), title="Nothing")

    assert "None." in Page(html_page(empty)).texts
    assert "None." in markdown_page(empty)
    for text in ("None were filed.", "Not in this report: no evidence was given."):
        assert text in Page(html_page(empty)).texts
        assert text in markdown_page(empty)


def test_few_findings_are_not_told_apart() -> None:
    filed = FindingFiled(
        id="f",
        sha256="f" * 64,
        finding="misuse",
        severity="critical",
        model="gpt2-774m",
        stage="s1",
        partner="public",
        agreement=None,
        client="c" * 32,
    )
    tally = Tally(PERIOD)
    tally.follow(log_report(), record(1, filed))

    told = assemble(tally, Logs([], 0), title="October")

    assert "Too few were filed to tell more." in Page(html_page(told)).texts
    assert "- withheld findings filed" in markdown_page(told)
    for text in (html_page(told), markdown_page(told)):
        assert "critical" not in text
        assert "misuse" not in text
