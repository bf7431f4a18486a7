from __future__ import annotations

import httpx

from sluicegate.server.observe.reading import Samples, read_page
from sluicegate.server.watch.servers import Interval, Scrape, Server

TOKENS = "sluicegate_tokens_total"
NONE = frozenset[tuple[str, str]]()


def page(tokens: float, *, started: float = 1.0, pii: float = 0.0, more: str = "") -> Samples:
    text = f"process_start_time_seconds {started}\n{TOKENS} {tokens}\nsluicegate_pii_found_total {pii}\n{more}"
    return read_page(text.encode())


def server() -> Server:
    return Server(httpx.URL("http://127.0.0.1:9464/metrics"))


def increases(before: Samples, after: Samples, name: str = TOKENS) -> dict[frozenset[tuple[str, str]], float]:
    return dict(Interval(Scrape(0, before), Scrape(2, after)).increases(name))


def test_a_counter_grew_by_the_difference() -> None:
    assert increases(page(10), page(25)) == {NONE: 15}


def test_a_counter_that_fell_began_anew() -> None:
    assert increases(page(10), page(3)) == {NONE: 3}


def test_another_process_counts_from_nothing_though_it_counted_further() -> None:
    assert increases(page(10, started=1), page(25, started=2)) == {NONE: 25}


def test_a_new_series_counts_from_nothing() -> None:
    after = page(10, more='sluicegate_denials_total{partner="p"} 4\n')

    assert increases(page(10), after, "sluicegate_denials_total") == {frozenset({("partner", "p")}): 4}


def test_what_is_no_number_counts_as_nothing() -> None:
    for text in ("NaN", "+Inf", "-5"):
        after = read_page(f"{TOKENS} {text}\n".encode())

        assert increases(read_page(f"{TOKENS} 1\n".encode()), after) == {}


def test_rates_need_two_pages() -> None:
    watched = server()
    watched.take(Scrape(0, page(1)))

    assert (watched.problem, watched.interval) == (None, None)


def test_rates_are_over_the_window_and_not_longer() -> None:
    watched = server()
    for second in range(0, 31, 2):
        watched.take(Scrape(second, page(second)))

    assert watched.interval is not None
    assert (watched.interval.before.at, watched.interval.after.at) == (20, 30)


def test_rates_are_over_two_pages_that_are_further_apart_than_the_window() -> None:
    watched = server()
    for second in (0, 60, 120):
        watched.take(Scrape(second, page(second)))

    assert watched.interval is not None
    assert watched.interval.before.at == 60


def test_after_a_restart_rates_are_over_the_time_since_the_last_page_before() -> None:
    watched = server()
    for second, started in ((0, 1), (2, 1), (4, 2)):
        watched.take(Scrape(second, page(second, started=started)))

    assert watched.interval is not None
    assert watched.interval.before.at == 2


def test_a_server_that_fails_has_neither_page_nor_rates_until_it_is_back() -> None:
    watched = server()
    watched.take(Scrape(0, page(0)))
    watched.take(Scrape(2, page(2)))

    watched.fail("cannot be reached")
    failed = (watched.samples, watched.interval, watched.problem)
    watched.take(Scrape(60, page(60)))

    assert failed == (None, None, "cannot be reached")
    assert watched.interval is not None
    assert (watched.interval.seconds, watched.problem) == (58, None)


def test_rare_events_are_counted_from_the_first_page_on_over_restarts() -> None:
    watched = server()
    for second, started, pii in ((0, 1, 100), (2, 1, 103), (4, 2, 2), (6, 2, 2)):
        watched.take(Scrape(second, page(0, started=started, pii=pii)))

    assert watched.counted["sluicegate_pii_found_total", NONE] == 5
