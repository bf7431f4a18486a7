from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_pages import page_of, samples_of, server_metrics

from sluicegate.server.observe import reading
from sluicegate.server.observe.reading import NotMetrics, read_page

LINE = "sluicegate_audit_enabled 1.0\n"


def test_a_servers_page_is_read_back() -> None:
    metrics = server_metrics()
    metrics.access.tokens.labels("newsroom", "gpt2-124m", "output").inc(17)
    metrics.control.keys_age_seconds.set(math.inf)

    samples = samples_of(metrics)

    assert (
        samples.of("sluicegate_tokens_total")[
            frozenset({("partner", "newsroom"), ("model", "gpt2-124m"), ("direction", "output")})
        ]
        == 17
    )
    assert (
        sum(value for (partner,), value in samples.by("sluicegate_tokens_total", "partner") if partner == "newsroom")
        == 17
    )
    assert samples.one("sluicegate_jwks_age_seconds") == math.inf
    assert samples.started is not None
    assert samples.of("sluicegate_no_such_metric") == {}
    assert samples.one("sluicegate_no_such_metric") is None


def test_others_metrics_are_left_out() -> None:
    samples = read_page((LINE + 'node_load1{a="b"} 3\n').encode())

    assert set(samples.values) == {"sluicegate_audit_enabled"}


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (b"", "has no metrics of a Sluicegate server"),
        (b"node_load1 3\n", "has no metrics of a Sluicegate server"),
        (b"process_start_time_seconds 3\n", "has no metrics of a Sluicegate server"),
        (b"<!DOCTYPE html><html><body>Login</body></html>", "is no page of metrics"),
        (b"\xff\xfe", "is no page of metrics"),
        (b'sluicegate_x{a="b" 1\n', "is no page of metrics"),
        (b"sluicegate_x one\n", "is no page of metrics"),
        (f'sluicegate_x{{a="{"b" * 256}"}} 1\n'.encode(), "has a label of more than 255 characters"),
    ],
)
def test_what_is_no_page_of_ours_is_refused(page: bytes, text: str) -> None:
    with pytest.raises(NotMetrics) as raised:
        read_page(page)

    assert str(raised.value) == text


def test_a_page_has_so_many_series_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_SERIES", 2)

    assert read_page(b'sluicegate_x{a="1"} 1\nsluicegate_x{a="2"} 1\n').of("sluicegate_x")
    with pytest.raises(NotMetrics, match="more than 2 series"):
        read_page(b'sluicegate_x{a="1"} 1\nsluicegate_x{a="2"} 1\nsluicegate_y 1\n')


def test_labels_are_read_as_they_stand() -> None:
    samples = read_page(b'sluicegate_x{a="\\"\x1b[2J[red]\\\\"} 1\n')

    assert list(samples.by("sluicegate_x", "a")) == [(('"\x1b[2J[red]\\',), 1.0)]


@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(lambda text: f"sluicegate_x{text}".encode("utf-8", "replace")),
    )
)
def test_any_octets_are_read_or_refused(page: bytes) -> None:
    with suppress(NotMetrics):
        read_page(page)


@given(st.data())
def test_a_page_with_a_flaw_is_read_or_refused(data: st.DataObject) -> None:
    page = bytearray(
        b'# TYPE sluicegate_x counter\nsluicegate_x_total{a="b",c="d"} 1.5 1000\nsluicegate_audit_enabled 1\n'
    )
    page[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.integers(0, 255))

    with suppress(NotMetrics):
        read_page(bytes(page))


def test_the_page_of_a_real_registry_is_within_the_bounds() -> None:
    assert len(page_of(server_metrics())) < reading.MAX_PAGE_BYTES
