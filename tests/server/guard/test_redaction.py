from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import assume, given, settings
from pii_examples import FOUND, NOT_FOUND
from text_cuts import CUTS, cut, texts_with

from sluicegate.server.guard import Redaction
from sluicegate.server.guard.redaction import HOLD_BACK
from sluicegate.server.signals.pii import PiiScanner, PiiType, encoded, next_entity
from sluicegate.server.signals.pii.entities import NUMBERS

LONG_EMAIL = "a" * 60 + "@" + "b" * 40 + ".example.com"
SAID = "Write it down: {}, she said."


def redacted(pieces: Iterable[str]) -> tuple[str, Counter[PiiType]]:
    redaction = Redaction()
    return "".join([*map(redaction.feed, pieces), redaction.end()]), redaction.counts


def by_definition(text: str) -> str:
    """The same from the whole text at once, place by place."""
    window = encoded(text)
    address = re.compile(rb"\b[0-9A-Za-z_][0-9A-Za-z._%+'-]{0,63}@(?:[0-9A-Za-z][0-9A-Za-z.-]*)?")
    run = re.compile(rb"[0-9A-Za-z._%+'@-]+")
    marks: dict[int, str] = {}
    taken: set[int] = set()

    def take(kind: PiiType, start: int, end: int) -> None:
        if not taken.issuperset(range(start, end)):
            marks[start] = f"[{kind.name}]"
            taken.update(range(start, end))

    place = 0
    while place < len(window):
        begun = address.match(window, place)
        entity = next_entity(window, place, place + 1)
        if begun and begun.end() - place > HOLD_BACK:
            found = run.match(window, place)
            assert found is not None
            take(PiiType.EMAIL, place, found.end())
            place += 1
        elif entity is not None:
            take(entity.kind, entity.start, entity.end)
            place = entity.end
        else:
            place += 1

    out, place, is_taken = "", 0, False
    for character in text:
        span = range(place, place + len(encoded(character)))
        out += "".join(marks.get(byte, "") for byte in span)
        is_taken = not taken.isdisjoint(span) if span else is_taken
        out += "" if is_taken else character
        place = span.stop
    return out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail jane.doe@example.org today.", "Mail [EMAIL] today."),
        ("Call +44 20 7946 0958 or (212) 555-0123.", "Call [PHONE] or [PHONE]."),
        ("Tel: 08001111234", "Tel: [PHONE]"),
        ("4111 1111 1111 1111", "[CARD]"),
        ("to GB82 WEST 1234 5698 7654 32, please", "to [IBAN], please"),
        ("SSN 536-90-4399!", "SSN [NATIONAL_ID]!"),
        ("from [2001:db8::1] and http://192.0.2.7:8080/", "from [[IP_ADDRESS]] and http://[IP_ADDRESS]:8080/"),
        ("+44 20 7946 0958 2019", "[PHONE] 2019"),
        ("a@example.com,b@example.com;192.0.2.1 192.0.2.1", "[EMAIL],[EMAIL];[IP_ADDRESS] [IP_ADDRESS]"),
        ("a@b.com@c.com", "a@[EMAIL]"),
        ("jörg@exämple.de hat 4111\u200b1111\u200b1111\u200b1111", "[EMAIL] hat [CARD]"),
        ("\u200banna\uff20example\uff0ecom\u200b!", "\u200b[EMAIL]!"),
        ("\u2100@example.com", "[EMAIL]"),  # the character folds to a/c
        ("x@y.example\u2100\u200b", "[EMAIL]"),
        ("4111 1111\n1111 1111", "4111 1111\n1111 1111"),
        ("", ""),
    ],
)
def test_personal_data_gives_way_to_its_type(text: str, expected: str) -> None:
    assert redacted([text])[0] == redacted(text)[0] == by_definition(text) == expected


@pytest.mark.parametrize(
    "text", [*NOT_FOUND, "e\u0301te\u0301, 👩\u200d👧\u200d👦, \u2028中文。\u200b", "\u200b\ufeff", "a" * 5_000]
)
def test_other_text_passes_as_it_is(text: str) -> None:
    assert redacted([text]) == redacted(text) == (text, Counter())


@pytest.mark.parametrize(("kind", "example"), FOUND)
def test_nothing_of_an_entity_passes_wherever_the_text_is_cut(kind: PiiType, example: str) -> None:
    text = SAID.format(example)
    whole = redacted([text])
    assert whole == (by_definition(text), Counter([kind]))

    for border in range(len(text) + 1):
        assert redacted([text[:border], text[border:]]) == whole
        for later in range(border, len(text) + 1, 7):
            assert redacted([text[:border], text[border:later], text[later:]]) == whole
    assert redacted(text) == whole


@pytest.mark.parametrize(("kind", "example"), FOUND)
def test_entity_at_the_end_of_the_text_is_taken_out(kind: PiiType, example: str) -> None:
    assert redacted(example) == redacted([example]) == (by_definition(example), Counter([kind]))


@settings(max_examples=400, deadline=None)
@given(
    texts_with(
        *(example for _, example in FOUND), *NOT_FOUND, LONG_EMAIL, "@b.example", "\u2100", "\u33c2", longest=20
    ),
    CUTS,
)
def test_what_passes_does_not_depend_on_how_the_text_is_cut(text: str, pieces: object) -> None:
    assert callable(pieces)

    assert redacted(pieces(text))[0] == by_definition(text)


@settings(max_examples=200, deadline=None)
@given(texts_with(*(example for _, example in FOUND), *NOT_FOUND, longest=20), CUTS)
def test_all_that_the_scanner_finds_is_taken_out(text: str, pieces: object) -> None:
    assert callable(pieces)
    scanner = PiiScanner()

    found = Counter([*scanner.feed(text), *scanner.end()])

    out, counts = redacted(pieces(text))
    if "@" not in text:  # a run that is too long for an e-mail address may have several entities in it
        assert counts == found
    assert (out == text) == (not counts)


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("It is a truth univ", "It is a truth "),
        ("It is a truth, ", "It is a truth, "),
        ("in 1812 he", "in 1812 "),
        ("in 1812, he had 4,000 pounds. ", "in 1812, he had 4,000 pounds. "),
        ("“Why”, he said.”", "“Why”, he said.”"),
        ("call (212) 555-01", "call "),
        ("call (212) 555-01 x", "call (212) 555-01 "),
        ("4111 1111 1111 1112 x", "4111 1111 1111 1112 "),
        ("4111 1111 1111 1111", ""),
        ("4111 1111 1111 1111,", ""),
        ("4111 1111 1111 1111, ", "[CARD], "),
        ("jane.doe@example.org", ""),
        ("jane.doe@example.org.", ""),
        ("jane.doe@example.org. ", "[EMAIL]. "),
        ("jane.doe at example.org. ", "jane.doe at example.org. "),
    ],
)
def test_text_waits_only_where_an_entity_may_begin(text: str, passed: str) -> None:
    assert Redaction().feed(text) == passed


@settings(max_examples=200, deadline=None)
@given(texts_with(*NOT_FOUND, "jane@example ", "4111 1111 1111 111", "GB82 WEST 1234 5698 ", longest=20))
def test_text_never_waits_for_more_than_the_hold_back(text: str) -> None:
    assume(by_definition(text) == text)
    redaction, waiting = Redaction(), 0

    for character in text:
        waiting += len(encoded(character)) - len(encoded(redaction.feed(character)))
        assert 0 <= waiting <= HOLD_BACK

    assert waiting == len(encoded(redaction.end()))


def test_no_other_shape_than_an_e_mail_address_fills_the_hold_back() -> None:
    widths = [re._parser.parse(shape.decode()).getwidth()[1] for shape in NUMBERS]  # type: ignore[attr-defined]

    assert max(widths) < HOLD_BACK


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"to {LONG_EMAIL} now", "to [EMAIL] now"),
        (f"to {LONG_EMAIL}", "to [EMAIL]"),
        ("a@" + "b" * 95 + " x", "[EMAIL] x"),
        ("a@" + "b" * 94 + " x", "a@" + "b" * 94 + " x"),
        ("a@" + "b.c-" * 2_000 + "!", "[EMAIL]!"),
        (f"{LONG_EMAIL} {LONG_EMAIL}", "[EMAIL] [EMAIL]"),
        (f"{LONG_EMAIL}-4111 1111 1111 1111.", "[EMAIL][CARD]."),  # it begins in the run, and goes on behind it
        (f"{LONG_EMAIL}-192.0.2.7-x y", "[EMAIL] y"),  # it is in the run
        (f"{LONG_EMAIL}\u200b.\u200bx\u200b y", "[EMAIL] y"),
        (f"{LONG_EMAIL}\u2100y", "[EMAIL]y"),
        ("1" * 200, "1" * 200),
        ("GB82 " * 40, "GB82 " * 40),
        ("x" * 200 + "@example.com", "x" * 200 + "@example.com"),  # no address: RFC 5321, 4.5.3.1.1
    ],
)
def test_what_could_be_an_address_beyond_the_hold_back_is_taken_out_whole(text: str, expected: str) -> None:
    pieces = [cut(text, range(0, len(text), step)) for step in (1, 2, 7, 96, 97, 98)]

    assert [redacted(each)[0] for each in pieces] == [expected] * 6
    assert redacted([text])[0] == by_definition(text) == expected


def test_a_long_run_is_taken_out_in_little_memory() -> None:
    redaction = Redaction()

    passed = redaction.feed("a@") + "".join(redaction.feed("b.c-" * 8) for _ in range(2_000))

    assert passed == "[EMAIL]"
    assert len(redaction._window) < 3 * HOLD_BACK
    assert redaction.counts == {PiiType.EMAIL: 1}
