from __future__ import annotations

import json
import math

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_pages import samples_of, server_metrics

from sluicegate.server.watch.figures import view_of
from sluicegate.server.watch.servers import Scrape, Server
from sluicegate.server.watch.texts import age, compact, members, name, percent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "huge"),
        (0, "0"),
        (3.24, "3.2"),
        (3, "3"),
        (9.96, "10"),
        (412.4, "412"),
        (999.9, "1k"),
        (1_234, "1.2k"),
        (18_234, "18k"),
        (35e6, "35M"),
        (2.5e9, "2.5G"),
        (1e300, "huge"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert compact(value) == text


@given(st.floats())
def test_no_number_takes_more_than_its_column(value: float) -> None:
    assert len(compact(value)) <= 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0.4 s"), (89, "89 s"), (120, "2 min"), (7_200, "2 h"), (3e5, "3.5 d"), (math.inf, "never")],
)
def test_ages_have_a_unit(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


def test_shares_are_in_percent() -> None:
    assert (percent(0.123), percent(None), percent(math.nan)) == ("12%", "-", "-")


def test_a_name_has_nothing_that_a_terminal_obeys() -> None:
    assert name("a\x1b[2J\u202eb\r\n") == "a\ufffd[2J\ufffdb\ufffd\ufffd"
    assert name("x" * 100, 10) == "xxxxxxxxx…"


def test_a_view_is_strict_json() -> None:
    metrics = server_metrics()
    metrics.control.keys_age_seconds.set(math.inf)
    metrics.control.withdrawals_age_seconds.set(math.nan)
    server = Server(httpx.URL("http://127.0.0.1:9464/metrics"))
    server.take(Scrape(0, samples_of(metrics)))

    told = json.loads(json.dumps(members(view_of([server])), allow_nan=False))

    assert (told["control"]["keys_age"], told["control"]["withdrawals_age"]) == (None, None)
    assert (told["skew"], told["servers"][0]["stage"]) == (False, "s2")
