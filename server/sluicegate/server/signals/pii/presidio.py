"""Personal data as Presidio sees it, with the interface of our own scanner. An optional extra, off unless asked for.

It knows national numbers of more countries, and costs some hundred times the time, more than 100 MB of memory and
more false finds. Its recognisers of patterns work without a language model, and are used without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from sluicegate.server.signals.errors import RecogniserUnavailable
from sluicegate.server.signals.folding import fold
from sluicegate.server.signals.pii.scanner import PiiScanner
from sluicegate.server.signals.pii.types import PiiType

if TYPE_CHECKING:
    from collections.abc import Callable

ENTITIES = {
    "CREDIT_CARD": PiiType.CARD,
    "ES_NIE": PiiType.NATIONAL_ID,
    "ES_NIF": PiiType.NATIONAL_ID,
    "IBAN_CODE": PiiType.IBAN,
    "IP_ADDRESS": PiiType.IP_ADDRESS,
    "IT_FISCAL_CODE": PiiType.NATIONAL_ID,
    "PHONE_NUMBER": PiiType.PHONE,
    "PL_PESEL": PiiType.NATIONAL_ID,
    "SG_NRIC_FIN": PiiType.NATIONAL_ID,
    "UK_NINO": PiiType.NATIONAL_ID,
    "US_SSN": PiiType.NATIONAL_ID,
}
"""What Presidio is asked for. Not EMAIL_ADDRESS, whose recogniser fetches a list of domains from the network: our own
scanner finds those. Not UK_NHS, which takes telephone numbers for its own."""
LEAST_SCORE = 0.4
"""Presidio's score of a telephone number without a word beside it. Weaker finds are bare runs of digits."""
SECTION, MARGIN = 1024, 128
"""Characters that are looked at together, and of the text on both sides of them: the longest entity has 96."""


class Finding(Protocol):
    """One find, as Presidio's RecognizerResult has it: `start` counts characters of the text."""

    entity_type: str
    start: int


class Analyzer(Protocol):
    """The part of Presidio's AnalyzerEngine that is used."""

    def analyze(
        self, text: str, language: str, entities: list[str] | None = ..., *, score_threshold: float | None = ...
    ) -> Sequence[Finding]:
        """Finds of these entities whose score reaches the threshold."""


class PresidioScanner:
    """Looks for personal data in one candidate's text, a section at a time; keeps one section and its margins.

    Sections are counted from the start of the text, so the finds do not depend on how it was cut into pieces.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._emails = PiiScanner()
        self._text = ""
        self._section = 0  # where in the text the section begins; the margin stands before it

    def feed(self, text: str) -> list[PiiType]:
        """The next piece. What became certain with it: one item for each occurrence, none twice."""
        found = _emails(self._emails.feed(text))
        self._text += fold(text)
        while len(self._text) >= self._section + SECTION + MARGIN:
            found += self._analyzed(self._text[: self._section + SECTION + MARGIN], self._section + SECTION)
            kept = self._section + SECTION - MARGIN
            self._text, self._section = self._text[kept:], MARGIN
        return found

    def end(self) -> list[PiiType]:
        """The text is over, finished or cut off. What was still open. Nothing may be fed afterwards."""
        text, self._text = self._text, ""
        return _emails(self._emails.end()) + self._analyzed(text, len(text))

    def _analyzed(self, text: str, end: int) -> list[PiiType]:
        """What begins inside the section; overlapping finds of one place count once, the first in the text's order."""
        if not any(map(str.isdigit, text)):
            return []
        finds = self._analyzer.analyze(text, "en", list(ENTITIES), score_threshold=LEAST_SCORE)
        by_start = {find.start: ENTITIES[find.entity_type] for find in finds if self._section <= find.start < end}
        return [by_start[start] for start in sorted(by_start)]


def _emails(found: Sequence[PiiType]) -> list[PiiType]:
    return [PiiType.EMAIL] * found.count(PiiType.EMAIL)


def open_presidio() -> Callable[[], PresidioScanner]:
    """Makes scanners over one Presidio engine. Takes seconds; call it at the start, outside the event loop.

    Raises RecogniserUnavailable if Presidio is not installed.
    """
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        raise RecogniserUnavailable("Presidio is not installed: pip install 'sluicegate[presidio]'") from error

    engine = SpacyNlpEngine(models=[{"lang_code": "en", "model_name": "en"}])
    engine.nlp = {"en": spacy.blank("en")}  # as its documentation tells users of a loaded pipeline
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    return lambda: PresidioScanner(analyzer)
