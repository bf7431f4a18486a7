"""Whatever strangers send or write is taken or refused by a typed error. See CONTRIBUTING.md for the long runs."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

EXAMPLES = 250
EVERY_SEED = [(target, name) for target in TARGETS.values() for name in target.seeds]


@pytest.mark.parametrize(
    ("target", "name"), EVERY_SEED, ids=lambda each: each.name if isinstance(each, Target) else each
)
def test_each_seed_is_taken_or_refused(target: Target, name: str) -> None:
    """Those named after a finding are here so that it does not come back."""
    assert target.check(target.seeds[name]) is not name.startswith("refused-")


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_comes_is_taken_or_refused(target: Target, data: st.DataObject) -> None:
    target.check(data.draw(target.inputs))
