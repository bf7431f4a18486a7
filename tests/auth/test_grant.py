"""Quotas: a token's limits only ever lower the policy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sluicegate.auth import Quotas
from sluicegate.auth.grant import QUOTA_NAMES

LIMITS = st.dictionaries(st.sampled_from(sorted(QUOTA_NAMES)), st.integers(1, 10**12))


def test_the_smaller_limit_counts() -> None:
    quotas = Quotas(requests_per_minute=60, concurrent_streams=4)

    narrowed = quotas.narrowed_by({"requests_per_minute": 100, "concurrent_streams": 2, "output_tokens_per_day": 9})

    assert narrowed == Quotas(requests_per_minute=60, concurrent_streams=2, output_tokens_per_day=9)


def test_a_limit_that_is_none_does_not_narrow() -> None:
    quotas = Quotas(requests_per_minute=60)

    assert quotas.narrowed_by({"requests_per_minute": None}) == quotas


@given(LIMITS, LIMITS)
def test_no_narrowing_raises_or_removes_a_limit(own: dict[str, int], limits: dict[str, int]) -> None:
    narrowed = Quotas(**own).narrowed_by(limits)

    for name in QUOTA_NAMES:
        given_limits = [each[name] for each in (own, limits) if name in each]
        assert getattr(narrowed, name) == min(given_limits, default=None)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", 10**12 + 1])
def test_a_limit_is_a_positive_whole_number(value: object) -> None:
    with pytest.raises(ValidationError):
        Quotas.model_validate({"requests_per_minute": value})
