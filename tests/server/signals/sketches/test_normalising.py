from __future__ import annotations

import pytest

from sluicegate.server.signals.sketches.normalising import LOOKED_AT_CHARACTERS, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("WRITE A LETTER", "write a letter"),
        ("you owe 1,234.50 dollars", "you owe 7 dollars"),
        ("due on 12/03/2026", "due on 1/9/2027"),
        ("visit https://a.example/x?y=1 now", "visit www.b.example now"),
        ("write to ann@a.example now", "write to b.c@mail.example now"),
        ("dear Anna Adams, hello", "dear Ben, hello"),
        ("the client's name", "the client\u2019s name"),
    ],
)
def test_what_a_template_changes_does_not_count(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How To Cook Rice", "How To Train Dogs"),
        ("Anna wrote a letter", "Ben wrote a letter"),
        ("meet me at noon", "meet me at @ noon"),
    ],
    ids=["titles", "first words", "a sign alone"],
)
def test_what_may_matter_counts(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_what_comes_late_has_no_part() -> None:
    beginning = "a " * (LOOKED_AT_CHARACTERS // 2)

    assert normalised(beginning + "one") == normalised(beginning + "other")
