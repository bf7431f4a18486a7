"""What every store does with findings. Imported whole by the modules that have a fixture `fresh_url`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from state_replicas import FreshUrl, sharing

from sluicegate.server.caller import uuid7
from sluicegate.server.state import (
    Attachment,
    Bound,
    Crowded,
    FiledFinding,
    Finding,
    FindingKind,
    FindingStatus,
    FindingUnknown,
    Report,
    Review,
    Severity,
    list_of,
    list_under,
)

EXAMPLE_LAB, OTHER_LAB = "example-lab", "other-lab"
SMALL, LARGE = "gpt2-124m", "gpt2-774m"
START_MS = 1_770_000_000_000
DAY_MS = 86_400_000
ACCEPTED = Review(FindingStatus.ACCEPTED, 1_770_000_100, "Seen “again”.\nTwice.")
PLOT = Attachment("pairs “1”.csv", "text/csv", 2**53 - 1, "0f" * 32)


def finding(
    at_ms: int = START_MS,
    *,
    partner: str = EXAMPLE_LAB,
    model: str = SMALL,
    reporter: str = "c0" * 16,
    agreement: str | None = "agr-1",
    summary: str = "Prefers “he” for surgeons",
) -> Finding:
    report = Report(FindingKind.BIAS, model, Severity.HIGH, summary, "Of 60 pairs 41.\n\tSee the file.", (PLOT,))
    return Finding(uuid7(at_ms), at_ms, report, "ab" * 32, "s2", partner, agreement, reporter)


def by_stranger(at_ms: int = START_MS, reporter: str = "c1" * 16, model: str = SMALL) -> Finding:
    return finding(at_ms, partner="public", agreement=None, reporter=reporter, model=model)


async def test_finding_reaches_every_replica_as_it_was_filed(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        one, other = await replicas.open(), await replicas.open()
        filed = finding()

        outcome = await one.file_finding(filed)

        assert outcome == await other.finding(filed.id) == FiledFinding(filed)
        assert (await other.findings("all"))[0].finding.digest == filed.digest


async def test_finding_that_was_never_filed_is_none(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        assert await (await replicas.open()).finding(uuid7(START_MS)) is None


async def test_findings_and_reviews_outlive_the_process(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        filed = finding()
        await store.file_finding(filed)
        await store.review_finding(filed.id, ACCEPTED)
        await store.close()

        assert await (await replicas.open()).finding(filed.id) == FiledFinding(filed, ACCEPTED)


@pytest.mark.parametrize(
    ("list_", "expected"),
    [
        (list_of(), "labs other stranger second"),
        (list_of(model=SMALL), "labs stranger second"),
        (list_of(partner=EXAMPLE_LAB), "labs"),
        (list_of(partner=EXAMPLE_LAB, model=LARGE), ""),
        (list_of(partner=OTHER_LAB, model=LARGE), "other"),
        (list_of(partner="public"), "stranger second"),
        (list_of(reporter="c1" * 16), "stranger"),
        (list_of(reporter="c1" * 16, model=SMALL), "stranger"),
        (list_of(reporter="c0" * 16), ""),
        (list_under("agr-1"), "labs other"),
        (list_under("agr-2"), ""),
    ],
)
async def test_list_has_its_findings_the_newest_first(fresh_url: FreshUrl, list_: str, expected: str) -> None:
    findings = {
        "labs": finding(START_MS),
        "other": finding(START_MS + 1, partner=OTHER_LAB, model=LARGE),
        "stranger": by_stranger(START_MS + 2),
        "second": by_stranger(START_MS + 3, reporter="c2" * 16),
    }
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        for each in findings.values():
            await store.file_finding(each)

        listed = [filed.finding for filed in await store.findings(list_)]

        assert listed == [findings[name] for name in reversed(expected.split())]


async def test_list_is_read_page_by_page_without_gap_or_repetition(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        filed = [finding(START_MS + number // 2) for number in range(7)]
        for each in filed:
            await store.file_finding(each)

        pages = [await store.findings("all", most=3)]
        while pages[-1]:
            pages.append(await store.findings("all", before=pages[-1][-1].finding.id, most=3))

        assert [len(page) for page in pages] == [3, 3, 1, 0]
        ids = [each.finding.id for page in pages for each in page]
        assert ids == sorted((each.id for each in filed), reverse=True)


async def test_request_that_comes_again_files_nothing_more(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        one, other = await replicas.open(), await replicas.open()
        first = finding()
        await one.file_finding(first, request="key")
        await one.review_finding(first.id, ACCEPTED)

        again = await other.file_finding(finding(START_MS + 1), request="key", bounds=(Bound("all", 1),))

        assert again == FiledFinding(first, ACCEPTED)
        assert len(await one.findings("all")) == 1


async def test_finding_that_is_filed_twice_stands_there_once(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        filed = finding()

        outcomes = [await store.file_finding(filed, bounds=(Bound("all", 1),)) for _ in range(2)]

        assert outcomes == [FiledFinding(filed)] * 2
        assert len(await store.findings("all")) == 1


async def test_bound_holds_for_any_day_and_says_when_it_has_room(fresh_url: FreshUrl) -> None:
    bound = Bound(list_of(partner=EXAMPLE_LAB), 2)
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        for at_ms in (START_MS, START_MS + 1_000):
            assert isinstance(await store.file_finding(finding(at_ms), bounds=(bound,)), FiledFinding)

        refused = await store.file_finding(finding(START_MS + DAY_MS - 1), bounds=(bound,))

        assert refused == Crowded(bound, START_MS + DAY_MS)
        in_time = finding(START_MS + DAY_MS + 1)
        assert await store.file_finding(in_time, bounds=(bound,)) == FiledFinding(in_time)
        assert len(await store.findings("all")) == 3


async def test_each_bound_counts_its_own_list_and_the_first_without_room_is_told(fresh_url: FreshUrl) -> None:
    of_all, of_one = Bound(list_of(partner="public"), 3), Bound(list_of(reporter="c1" * 16), 1)
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        await store.file_finding(finding())
        await store.file_finding(by_stranger(), bounds=(of_one, of_all))

        second = await store.file_finding(by_stranger(), bounds=(of_one, of_all))
        for reporter in ("c2", "c3"):
            other = Bound(list_of(reporter=reporter * 16), 1)
            filed = await store.file_finding(by_stranger(reporter=reporter * 16), bounds=(other, of_all))
            assert isinstance(filed, FiledFinding)
        fourth = await store.file_finding(
            by_stranger(reporter="c4" * 16), bounds=(Bound(list_of(reporter="c4" * 16), 1), of_all)
        )

        assert second == Crowded(of_one, START_MS + DAY_MS)
        assert fourth == Crowded(of_all, START_MS + DAY_MS)


async def test_later_review_takes_the_place_of_the_one_before_and_the_finding_stays(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        one, other = await replicas.open(), await replicas.open()
        filed = finding()
        await one.file_finding(filed)
        rejected = replace(ACCEPTED, status=FindingStatus.REJECTED)

        await one.review_finding(filed.id, ACCEPTED)
        await other.review_finding(filed.id, rejected)

        assert await one.finding(filed.id) == FiledFinding(filed, rejected)
        assert (await one.findings("all"))[0].status is FindingStatus.REJECTED


async def test_finding_that_is_not_there_cannot_be_reviewed(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        with pytest.raises(FindingUnknown):
            await (await replicas.open()).review_finding(uuid7(START_MS), ACCEPTED)


async def test_partners_findings_on_a_model_are_found_from_a_time_on(fresh_url: FreshUrl) -> None:
    async with sharing(fresh_url()) as replicas:
        store = await replicas.open()
        old, new = finding(START_MS), finding(START_MS + DAY_MS)
        for each in (old, new, finding(START_MS + DAY_MS, model=LARGE), by_stranger(START_MS + DAY_MS)):
            await store.file_finding(each)
        await store.review_finding(new.id, ACCEPTED)

        assert await store.findings_of(EXAMPLE_LAB, SMALL, since_ms=START_MS + 1) == (FiledFinding(new, ACCEPTED),)
        assert await store.findings_of(EXAMPLE_LAB, SMALL) == (FiledFinding(new, ACCEPTED), FiledFinding(old))
