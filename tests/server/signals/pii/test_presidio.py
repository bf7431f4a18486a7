from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from text_cuts import CUTS, scanned, texts_with

from sluicegate.server.signals import RecogniserUnavailable, open_presidio
from sluicegate.server.signals.pii import PiiType, PresidioScanner
from sluicegate.server.signals.pii.presidio import ENTITIES, MARGIN, SECTION


@dataclass
class FakeFinding:
    entity_type: str
    start: int


class FakeAnalyzer:
    """Finds what stands in brackets, <IP_ADDRESS 1>, and keeps the lengths of what it was shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def analyze(
        self, text: str, language: str, entities: list[str] | None = None, *, score_threshold: float | None = None
    ) -> list[FakeFinding]:
        self.shown.append(len(text))
        assert entities is not None
        found = re.finditer(r"<([A-Z_]+) 1>", text)
        return [FakeFinding(match[1], match.start()) for match in found if match[1] in entities]


def scan(*pieces: str) -> list[PiiType]:
    return scanned(PresidioScanner(FakeAnalyzer()), pieces)


@pytest.mark.parametrize("entity", ENTITIES)
def test_what_presidio_finds_gets_our_name(entity: str) -> None:
    assert scan(f"words <{entity} 1> words") == [ENTITIES[entity]]


def test_presidio_is_not_asked_for_what_it_confuses_or_fetches() -> None:
    assert not {"EMAIL_ADDRESS", "URL", "UK_NHS"} & ENTITIES.keys()


def test_email_addresses_are_found_by_our_own_scanner() -> None:
    assert scan("anna@example.com <PHONE_NUMBER 1>") == [PiiType.EMAIL, PiiType.PHONE]


@pytest.mark.parametrize("offset", range(SECTION - MARGIN - 20, SECTION + MARGIN + 20, 9))
def test_find_at_the_border_of_sections_counts_once(offset: int) -> None:
    assert scan("x" * offset + "<IP_ADDRESS 1>" + "x" * 3 * SECTION) == [PiiType.IP_ADDRESS]


def test_presidio_sees_a_section_and_its_margins_at_most() -> None:
    analyzer = FakeAnalyzer()

    scanned(PresidioScanner(analyzer), "1 " * 5 * SECTION)

    assert max(analyzer.shown) <= MARGIN + SECTION + MARGIN


@settings(max_examples=50, deadline=None)
@given(texts_with("<IP_ADDRESS 1>", "<PHONE_NUMBER 1>", "anna@example.com"), CUTS)
def test_finds_are_the_same_however_the_text_is_cut(text: str, pieces: object) -> None:
    assert callable(pieces)

    assert sorted(scan(*pieces(text))) == sorted(scan(text))


def test_missing_presidio_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)

    with pytest.raises(RecogniserUnavailable, match=r"pip install 'sluicegate\[presidio\]'"):
        open_presidio()
