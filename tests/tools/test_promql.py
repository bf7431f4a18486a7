"""What the tools read out of PromQL."""

import pytest

from tools.promql import metric_names, milliseconds, scaled, words


@pytest.mark.parametrize(
    "expression",
    [
        'sum by (job) (increase(x_total{class=~"5m|1h"}[10m] offset 1d)) > 30',
        "a # [5m]\n  and b",
        "rate(x[1h30m:30s]) * 1e3 + 0x1f - .5",
        'label_replace(x, "a", "$1", \'b\', `c[5m]`)',
    ],
)
def test_the_words_of_an_expression_are_the_expression(expression: str) -> None:
    assert "".join(word.text for word in words(expression)) == expression


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("increase(x[5m])", "increase(x[5s])"),
        ("increase(x[1h] offset 1d)", "increase(x[1m] offset 24m)"),
        ("x offset -1d", "x offset -24m"),
        ("max_over_time(x[1d:1h])", "max_over_time(x[24m:1m])"),
        ("rate(x[1h30m])", "rate(x[90s])"),
        ("rate(x[90s])", "rate(x[1500ms])"),
        ("x > 600", "x > 600"),
        ("x - time() < 14 * 86400", "x - time() < 14 * 86400"),
        ("job:x:increase1h > 5", "job:x:increase1h > 5"),
        ('x{a="5m", b="[1h]"}[1m]', 'x{a="5m", b="[1h]"}[1s]'),
        ("x # over 5m\n", "x # over 5m\n"),
        ("x * 1e3", "x * 1e3"),
    ],
)
def test_durations_are_divided_and_nothing_else(expression: str, expected: str) -> None:
    assert scaled(expression, 60) == expected


def test_a_duration_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="1ms divided by 60"):
        scaled("rate(x[1ms])", 60)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "1h-5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        milliseconds(text)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("sum by (job, le) (rate(a_bucket{x=~'y'}[5m]))", {"a_bucket"}),
        ("sum(a) by (job) / on (job) group_left (b) c", {"a", "c"}),
        ("a and on (job) b unless ignoring (c) d or vector(0)", {"a", "b", "d"}),
        ("a offset 1d > bool 0", {"a"}),
        ("topk(5, sum by (x) (a)) or absent(b)", {"a", "b"}),
        ('label_replace(a{b="c"}, "d", "$1", "e", "f")', {"a"}),
        ("job:a:rate5m{job='b'} > 14.4 * 0.005", {"job:a:rate5m"}),
    ],
)
def test_metrics_are_told_from_labels_functions_and_operators(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names
