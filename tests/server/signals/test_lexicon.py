from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from text_cuts import CUTS, scanned, texts_with

from sluicegate.server.signals import Lexicon, LexiconError, LexiconScanner, load_lexicon
from sluicegate.server.signals.lexicon import (
    MAX_CATEGORIES,
    MAX_ENTRIES,
    MAX_ENTRY_CHARACTERS,
    MAX_FILE_BYTES,
    MAX_PROBLEMS,
)

OURS = Lexicon(
    {
        "phishing": ("verify your account", "account", "Your PIN"),
        "threat": ("verify your", "bombe à retardement", "e-mail bomb", "STRASSE"),
    }
)


def scan(*pieces: str, at_once: bool = False, lexicon: Lexicon = OURS) -> list[str]:
    return scanned(LexiconScanner(lexicon, at_once=at_once), pieces)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lexicon.yaml"


def problems(file: Path) -> tuple[str, ...]:
    with pytest.raises(LexiconError) as caught:
        load_lexicon(file)
    return caught.value.problems


def test_built_in_lexicon_has_categories_that_fit_a_label() -> None:
    lexicon = load_lexicon()

    assert lexicon.categories == tuple(sorted(lexicon.categories))
    assert {"phishing", "fraud", "malware", "spam", "violent_extremism", "self_harm", "harassment"} == {
        *lexicon.categories
    }


def test_own_lexicon_replaces_the_built_in_one(file: Path) -> None:
    file.write_text("categories:\n  weapons:\n    - pipe bomb\n    - '419'\n", encoding="utf-8")

    lexicon = load_lexicon(file)

    assert lexicon.categories == ("weapons",)
    assert scan("a 419 scam, a Pipe Bomb", lexicon=lexicon) == ["weapons", "weapons"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("categories: {}\n", "have at least one"),
        ("categories: [a]\n", "must map"),
        ("- a\n", "must be a mapping"),
        ("categories:\n  a: [b]\nother: 1\n", "'other' is not known"),
        ("categories:\n  Bad Name: [b]\n", "'Bad Name': write at most 31"),
        ("categories:\n  a: b\n", "a: must be a list"),
        ("categories:\n  a: []\n", "a: must be a list"),
        ("categories:\n  a: [good, 419]\n", "a, entry 2: is not text; put it in quotes"),
        ("categories:\n  a: ['---']\n", "a, entry 1: has no letter"),
        ("categories:\n  a: ['one. two']\n", "a, entry 1: has ."),
        ("categories:\n  a: [One two]\n  b: ['one  TWO']\n", "b, entry 1: is the same as a, entry 1"),
        (f"categories:\n  a: [{'x' * (MAX_ENTRY_CHARACTERS + 1)}]\n", "a, entry 1: has 97 characters"),
        ("categories:\n  a: &x [b]\n  c: *x\n", "aliases are not used here"),
        ("categories:\n  a: [b]\n  a: [c]\n", "line 3: 'a' stands here twice"),
        ("categories:\n  a: [!!python/name:os.system b]\n", "line 2: tags"),
        ("categories: {" + ", ".join(f"a{n}: [w{n}]" for n in range(MAX_CATEGORIES + 1)) + "}\n", "33 categories"),
        ("categories:\n  a:\n" + "  - x\n" * (MAX_ENTRIES + 1), "10001 entries; at most 10000"),
        ("#" * (MAX_FILE_BYTES + 1), "is larger than 1048576 bytes"),
        ("[" * 2_000, "nested more than 12 levels deep"),
    ],
)
def test_bad_file_is_refused_with_its_name_the_place_and_what_to_do(file: Path, content: str, problem: str) -> None:
    file.write_text(content, encoding="utf-8")

    found = problems(file)

    assert any(problem in each for each in found)
    assert all(each.startswith(f"{file}: ") for each in found)


def test_file_that_is_missing_or_no_text_is_refused(file: Path) -> None:
    assert problems(file) == (f"{file}: cannot be read: No such file or directory",)

    file.write_bytes(b"\xff\xfe")

    assert problems(file) == (f"{file}: is not UTF-8",)


def test_all_problems_are_told_up_to_a_number(file: Path) -> None:
    file.write_text("categories:\n  a:\n" + "  - 1\n" * 100, encoding="utf-8")

    found = problems(file)

    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == f"{file}: and 80 more"


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("Please VERIFY  your\naccount.", ["threat", "phishing", "phishing"]),
        ("verify_your-account", ["threat", "phishing", "phishing"]),
        ("ver\u200bify y\u00adour \uff41\uff43\uff43\uff4f\uff55\uff4e\uff54", ["threat", "phishing", "phishing"]),
        ("accounts, accounting, unaccountable, account5", []),
        ("verify. Your account", ["phishing"]),
        ("une bombe à retardement; une bombe a\u0300 retardement", ["threat", "threat"]),
        ("E-Mail Bomb", ["threat"]),
        ("Straße", ["threat"]),
        ("account account", ["phishing", "phishing"]),
        ("verify verify your pin", ["threat", "phishing"]),
        ("", []),
    ],
)
def test_phrases_are_met_as_whole_words_without_regard_to_case_or_spelling_tricks(text: str, met: list[str]) -> None:
    assert sorted(scan(text)) == sorted(met)


def test_at_once_the_character_after_the_word_tells() -> None:
    scanner = LexiconScanner(OURS, at_once=True)

    told = [scanner.feed(piece) for piece in ("your", " p", "in", "s, your", " pin", ",", " account")]

    assert told == [[], [], [], [], [], ["phishing"], []]
    assert scanner.end() == ["phishing"]
    assert scanner.end() == []


@settings(max_examples=200, deadline=None)
@given(texts_with("verify", " your", " account", "bombe à retardement", "e-mail bomb", "straße", "pin"), CUTS)
def test_finds_are_the_same_at_once_or_later_and_however_the_text_is_cut(text: str, pieces: object) -> None:
    assert callable(pieces)
    whole = scan(text)

    assert scan(*pieces(text)) == whole
    assert scan(*pieces(text), at_once=True) == whole


def test_a_word_without_end_is_not_kept() -> None:
    scanner = LexiconScanner(OURS, at_once=True)

    for _ in range(10_000):
        scanner.feed("account")

    assert sum(len(value) for value in vars(scanner).values() if isinstance(value, str)) < 100
    assert scanner.end() == []
