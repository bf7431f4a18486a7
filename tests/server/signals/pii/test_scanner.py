from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from pii_examples import FOUND, NOT_FOUND
from text_cuts import CUTS, cut, scanned, texts_with

from sluicegate.server.signals.pii import PiiScanner, PiiType
from sluicegate.server.signals.pii.scanner import BLOCK, LOOKAHEAD

PROSE = "The committee met again in the autumn of 1921, and nothing was decided. "
TYPES = {kind: [example for found, example in FOUND if found is kind] for kind in PiiType}


def scan(*pieces: str) -> list[PiiType]:
    return scanned(PiiScanner(), pieces)


def test_the_table_is_long_enough_to_judge_by() -> None:
    assert len(FOUND) >= 60
    assert min(map(len, TYPES.values())) >= 8


@pytest.mark.parametrize(("kind", "example"), FOUND)
def test_well_formed_example_is_found_once(kind: PiiType, example: str) -> None:
    assert scan(example) == [kind]
    assert scan(f"{PROSE * 9}Write it down: {example}, she said. {PROSE * 9}") == [kind]
    assert scan(f"「{example}」") == [kind]


@pytest.mark.parametrize("example", NOT_FOUND)
def test_what_only_looks_like_it_is_not_found(example: str) -> None:
    assert scan(example) == []
    assert scan(f"{PROSE}It says {example}, and no more. {PROSE}") == []


@pytest.mark.parametrize(
    ("example", "found"),
    [
        ("a" * 64 + "@" + "b" * 23 + ".example", [PiiType.EMAIL]),  # 96 characters
        ("+" + "4 (4)" + "  2-0- 7-9-4-6-0-9-5-8", [PiiType.PHONE]),
        ("MT84 MALT 0110 0001 2345 MTLC AST0 01S", [PiiType.IBAN]),
        ("version 1.2.3.4", []),
        ("whatsapp number is  2125550123", [PiiType.PHONE]),
        ("x4111111111111111", []),
    ],
)
def test_what_is_found_does_not_depend_on_where_it_stands(example: str, found: list[PiiType]) -> None:
    for offset in range(0, BLOCK + LOOKAHEAD, 5):
        text = " " * offset + example + " and so on" * 90

        assert scan(text) == scan(*text) == found


@pytest.mark.parametrize(("kind", "example"), FOUND)
def test_entity_is_found_in_pieces_of_one_character(kind: PiiType, example: str) -> None:
    assert scan(*example) == [kind]


def test_entity_at_the_end_of_a_stream_that_was_cut_off_is_told_by_end() -> None:
    scanner = PiiScanner()

    told = scanner.feed("my number is +1 212 555 0123")

    assert told == []
    assert scanner.end() == [PiiType.PHONE]
    assert scanner.end() == []


def test_neighbours_are_counted_each() -> None:
    assert scan("a@example.com,b@example.com;192.0.2.1 192.0.2.1 212-555-0123/212-555-0124") == [
        *[PiiType.EMAIL] * 2,
        *[PiiType.IP_ADDRESS] * 2,
        *[PiiType.PHONE] * 2,
    ]
    assert scan("4111 1111 1111 1111 212-555-0123") == [PiiType.CARD, PiiType.PHONE]


@pytest.mark.parametrize("kind", PiiType)
def test_entity_longer_than_the_longest_is_not_found(kind: PiiType) -> None:
    longer = {
        PiiType.EMAIL: "a" * 60 + "@" + "b" * 40 + ".example.com",
        PiiType.PHONE: "+1" + "2125550123" * 10,
        PiiType.CARD: "4111111111111111" * 7,
        PiiType.IBAN: "GB82WEST12345698765432" * 5,
        PiiType.NATIONAL_ID: "12345678Z" * 11,
        PiiType.IP_ADDRESS: "192.0.2.7." * 10,
    }

    assert scan(longer[kind]) == []


@settings(max_examples=300, deadline=None)
@given(texts_with(*(example for _, example in FOUND), *NOT_FOUND), CUTS)
def test_finds_are_the_same_however_the_text_is_cut(text: str, pieces: object) -> None:
    assert callable(pieces)

    assert scan(*pieces(text)) == scan(text)


@pytest.mark.parametrize(
    "hostile",
    [
        "1",
        "@",
        "a.",
        "a@",
        "a.a@a.a@",
        "1 ",
        "1:",
        "+1",
        "(2",
        "999-555-0123 ",
        "+999 555 0123 ",
        "GB82 ",
        "4111 1111 1111 1112 ",
        "\u200b",
        "\u0301",
        "\ufdfa",
        "\uff11",
    ],
)
def test_a_hostile_run_is_read_with_little_memory(hostile: str) -> None:
    scanner = PiiScanner()
    text = (hostile * 6_000)[:6_000]
    scanner.feed(text[:3_000])  # imports and caches of the libraries

    tracemalloc.start()
    for character in text:
        scanner.feed(character)
    scanner.end()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 256 * 1024


def test_a_long_run_of_characters_that_fold_to_nothing_hides_no_entity() -> None:
    text = "212-555" + "\u200b" * 5_000 + "-0123"

    assert scan(text) == scan(*cut(text, range(0, 6_000, 11))) == [PiiType.PHONE]
