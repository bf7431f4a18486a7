from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.server.signals.folding import fold


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\uff14\uff11\uff11\uff11", "4111"),
        ("٠١٢", "012"),
        ("\U0001d7d9\U0001d7da \u2460", "12 1"),
        ("a\u200bb\u00adc\u2060d\ufeffe\ufe0f", "abcde"),
        ("a\u00a0b\u3000c\td", "a b c d"),
        ("a\u2028b\r\x85c", "a\nb\n\nc"),
        ("1\u20112\u22123\u20144", "1-2-3-4"),
        ("a\uff20b\uff0ec\u3002d", "a@b.c.d"),
        ("don\u2019t", "don't"),
        ("Jörg J\u006f\u0308rg ﬁn", "Jorg Jorg fin"),
        ("4\x001\x1b1\x7f", "411"),
        ("5550123² 3½ ™", "5550123² 3½ ™"),
        ("4\u03361\u0336", "41"),
        ("Ж中한", "Ж中" + "\u1112\u1161\u11ab"),
    ],
)
def test_text_that_looks_the_same_gets_one_spelling(text: str, plain: str) -> None:
    assert fold(text) == plain


@given(st.text(), st.text())
def test_pieces_fold_to_what_the_whole_folds_to(left: str, right: str) -> None:
    assert fold(left + right) == fold(left) + fold(right)


def test_every_character_folds_to_few_that_stay_as_they_are() -> None:
    assigned = (*range(0x33500), *range(0xE0000, 0xE0200))  # the planes that have characters
    characters = list(map(chr, assigned))

    folded = [fold(character) for character in characters]

    assert max(map(len, folded)) <= 18
    assert fold("".join(folded)) == "".join(folded)


def test_plain_text_folds_alike_alone_and_beside_a_foreign_letter() -> None:
    plain = "".join(map(chr, range(0x80)))

    assert fold(plain + "Ж") == fold(plain) + "Ж"
