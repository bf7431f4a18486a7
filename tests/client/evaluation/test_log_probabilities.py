from __future__ import annotations

import math

import pytest

from sluicegate.client.errors import MeasurementRefused
from sluicegate.client.evaluation.log_probabilities import log_probability
from sluicegate.client.results import Token


def tokens(*values: float | None) -> list[Token]:
    return [Token(1, b"t", value, ()) for value in values]


def test_it_is_the_sum() -> None:
    assert log_probability(tokens(-0.5, 0.0, -1.25), "a text") == -1.75


@pytest.mark.parametrize(
    "values", [[], [None], [-1.0, None], [math.nan], [-1.0, -math.inf], [math.inf], [-1.0, 0.5], [-701.0]]
)
def test_what_is_no_log_probability_is_refused_with_its_place(values: list[float | None]) -> None:
    with pytest.raises(MeasurementRefused, match="no finite log-probability for sample 3"):
        log_probability(tokens(*values), "sample 3")
