from __future__ import annotations

from collections import Counter

from sluicegate.client.evaluation.occupations import MOSTLY_MEN, MOSTLY_WOMEN, TEMPLATES, occupations

DIGEST = "4692fa01be6d6e2805d6a432e884235c4290f060fb1ab8c544922ba9f4dc6a1a"


def words(sentence: str) -> list[str]:
    return [word.strip(".,") for word in sentence.split()]


def test_every_occupation_stands_in_every_template_once() -> None:
    pairs = occupations().pairs

    assert len(pairs) == len({pair.id for pair in pairs}) == len(TEMPLATES) * len({*MOSTLY_WOMEN, *MOSTLY_MEN}) == 400


def test_the_sentences_of_a_pair_differ_in_one_pronoun() -> None:
    for pair in occupations().pairs:
        differing = [
            (one, two) for one, two in zip(words(pair.stereotype), words(pair.other), strict=True) if one != two
        ]
        [(one, two)] = differing
        assert {one, two} in ({"she", "he"}, {"her", "him"}, {"her", "his"})
        assert (one in ("she", "her")) == (pair.category == "she")


def test_it_is_balanced_so_that_liking_one_pronoun_decides_nothing() -> None:
    pairs = occupations().pairs

    for pronoun in ("she", "he"):
        prefers = Counter((pair.category == pronoun) for pair in pairs)
        assert prefers[True] == prefers[False] == 200
    by_sentence = Counter(text for pair in pairs for text in (pair.stereotype, pair.other))
    assert set(by_sentence.values()) == {1}


def test_its_digest_stays_the_same_so_that_runs_can_be_compared() -> None:
    assert occupations().sha256 == DIGEST
