"""What the detector says of marked text, of other text, and of texts that are no test of anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from watermarks import marked_text, processor_of, scheme_of

from sluicegate.server.watermark import Detector, corrected
from sluicegate.server.watermark.detection import LEAST_SCORED, LEAST_TOKENS, WEIGHTS

VOCABULARY = range(5000)
RANDOM = np.random.default_rng(7)


def random_text(tokens: int) -> list[int]:
    return [int(id_) for id_ in RANDOM.integers(0, 5000, tokens)]


def test_marked_text_is_found_by_its_key_and_by_no_other() -> None:
    text = marked_text(scheme_of(1), 200, VOCABULARY)

    by_key = [Detector(scheme_of(seed)).measure(text).p_value for seed in range(4)]

    assert by_key[1] < 1e-9
    assert min(by_key[0], *by_key[2:]) > 1e-3


def test_p_values_of_text_without_a_mark_are_uniform() -> None:
    detector = Detector(scheme_of(3))

    p_values = np.array([detector.measure(random_text(60)).p_value for _ in range(4000)])

    for level in (0.01, 0.1, 0.5, 0.9):
        share = float((p_values <= level).mean())
        assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 4000))


def test_the_mean_is_of_the_g_values_that_transformers_gives() -> None:
    text = marked_text(scheme_of(2), 120, VOCABULARY)
    processor, ids = processor_of(2), torch.tensor([text])
    counted = processor.compute_context_repetition_mask(ids)[0].numpy().astype(bool)
    theirs = (processor.compute_g_values(ids)[0].numpy()[counted] @ WEIGHTS).mean()

    measured = Detector(scheme_of(2)).measure(text)

    assert measured.scored == counted.sum()
    assert measured.mean == pytest.approx(theirs, abs=2e-3)  # ours is relative to the mean of the table of coins
    assert measured.mean > 0.6


@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_text_without_a_single_context_says_nothing(tokens: int) -> None:
    measured = Detector(scheme_of(1)).measure([5] * tokens)

    assert (measured.scored, measured.p_value, measured.is_enough) == (0, 1.0, False)


def test_fifty_tokens_are_enough_and_one_less_is_not() -> None:
    text, detector = random_text(LEAST_TOKENS), Detector(scheme_of(1))

    assert detector.measure(text).is_enough
    assert not detector.measure(text[:-1]).is_enough


def test_text_that_only_repeats_itself_is_not_enough() -> None:
    measured = Detector(scheme_of(1)).measure(random_text(20) * 50)

    assert measured.scored < LEAST_SCORED
    assert not measured.is_enough


def test_repeating_a_marked_text_makes_it_no_surer() -> None:
    text, detector = marked_text(scheme_of(1), 100, VOCABULARY), Detector(scheme_of(1))

    once, often = detector.measure(text), detector.measure(text * 20)

    assert often.scored - once.scored <= 4  # the contexts across the seam
    assert often.p_value == pytest.approx(once.p_value, rel=50)


def test_several_keys_are_corrected_for() -> None:
    assert corrected([0.001, 0.5, 1.0], 3) == pytest.approx([1 - 0.999**3, 1 - 0.5**3, 1.0])
    assert corrected([1e-20], 4) == pytest.approx([4e-20])
    assert corrected([0.25], 1) == pytest.approx([0.25])
