"""What a decode step should cost."""

from __future__ import annotations

import pytest

from bench.limits import Limits
from bench.model import Point, StepModel, growth
from bench.work import Shape

SHAPE = Shape(layers=2, width=100, heads=1)  # 240,000 weights in its layers, 5,025,700 in its head
SLOW_MEMORY = Limits(1e6, {"float32": 1e15, "bfloat16": 1e15}, "test")
SLOW_PRODUCTS = Limits(1e15, {"float32": 1e6}, "test")


def test_a_small_batch_waits_for_its_weights_to_be_read() -> None:
    model = StepModel(SHAPE, "float32", 1_000.0, SLOW_MEMORY)

    assert model.product_seconds(240_000, 1) == model.product_seconds(240_000, 8) == pytest.approx(0.96)


def test_half_as_wide_weights_are_read_in_half_the_time() -> None:
    full, half = (StepModel(SHAPE, name, 0.0, SLOW_MEMORY) for name in ("float32", "bfloat16"))

    assert half.seconds(1, 0) == pytest.approx(full.seconds(1, 0) / 2)


def test_a_large_batch_waits_for_its_products() -> None:
    model = StepModel(SHAPE, "float32", 1_000.0, SLOW_PRODUCTS)

    assert model.product_seconds(240_000, 10) == pytest.approx(4.8)


def test_a_format_without_a_rate_is_bound_by_reading_alone() -> None:
    model = StepModel(SHAPE, "int8", 0.0, SLOW_PRODUCTS)

    assert model.product_seconds(1_000_000, 1_000) == pytest.approx(1e-9)


def test_attention_reads_every_row_its_whole_cache_and_a_step_is_all_of_it() -> None:
    model = StepModel(SHAPE, "float32", 1_000.0, SLOW_MEMORY)

    assert model.attention_seconds(4, 50) == pytest.approx(0.2)
    assert model.seconds(4, 50) == pytest.approx((240_000 + 5_025_700) * 4 / 1e6 + 0.2)


GRID = [(batch, context) for batch in (1, 4, 32) for context in (64, 960)]


def test_growth_finds_the_costs_that_steps_were_made_of() -> None:
    points = [Point(batch, context, 0.01 + 0.001 * batch + 2e-6 * batch * context) for batch, context in GRID]

    found = growth(points)

    assert found.fixed == pytest.approx(0.01)
    assert found.row == pytest.approx(0.001)
    assert found.position == pytest.approx(2e-6)
    assert found.explained == pytest.approx(1)


def test_growth_explains_little_of_steps_that_grow_otherwise() -> None:
    points = [Point(batch, context, 0.01 if batch == 4 else 0.1) for batch, context in GRID]

    assert growth(points).explained < 0.6
